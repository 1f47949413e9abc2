"""Fixtures of the tests that attach: a namespace with a veth pair, programs, an instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hooks import Own
from tests.support.netbox import NetBox
from tracer.instances import Instance


@pytest.fixture
def box() -> Iterator[NetBox]:
    box = NetBox()
    try:
        box.make_pair()
        with box.inside():
            yield box
    finally:
        box.close()


@pytest.fixture
def own() -> Iterator[Own]:
    own = Own()
    yield own
    own.close()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    instance = Instance(tmp_path / "run")
    assert instance.warning is None
    yield instance
    instance.close()
