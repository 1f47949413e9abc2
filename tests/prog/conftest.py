"""The real programs, loaded once for all tests here."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.testrun import LOOPBACK, Programs


def need_root() -> None:
    """Fails with one sentence where loading would fail with a page."""
    if os.geteuid():
        pytest.fail("tests/prog loads BPF programs, which needs root: sudo make test", pytrace=False)


@pytest.fixture(scope="session")
def loaded() -> Iterator[Programs]:
    """The programs with an empty table."""
    need_root()
    programs = Programs()
    yield programs
    programs.close()


@pytest.fixture(scope="session")
def loaded_for_replay() -> Iterator[Programs]:
    """The tc programs that take the packets' time, with an empty table."""
    need_root()
    programs = Programs(replay=True)
    yield programs
    programs.close()


@pytest.fixture(scope="session")
def loaded_small() -> Iterator[Programs]:
    """The same with a table of one set and rings of one page."""
    need_root()
    programs = Programs(sets=1, event_pages=1, payload_pages=1, replay=True)
    yield programs
    programs.close()


def emptied(programs: Programs) -> Iterator[Programs]:
    """Empty table, empty rings and lo as an ordinary interface, before and after a test."""
    programs.drain()
    programs.interface(LOOPBACK)
    yield programs
    programs.drain()
    programs.interface(LOOPBACK)


@pytest.fixture
def programs(loaded: Programs) -> Iterator[Programs]:
    """The programs as they are attached."""
    yield from emptied(loaded)


@pytest.fixture
def timed(loaded_for_replay: Programs) -> Iterator[Programs]:
    """The tc programs with the test's clock."""
    yield from emptied(loaded_for_replay)


@pytest.fixture
def small(loaded_small: Programs) -> Iterator[Programs]:
    """The tc programs with the test's clock, a table of eight entries and rings that are soon full."""
    yield from emptied(loaded_small)
