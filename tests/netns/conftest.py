"""Fixtures of the tests that attach: a namespace with a veth pair, programs, an instance; two hosts, a service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.hooks import Own
from tests.support.hosts import Hosts, Service, service, two_hosts
from tests.support.netbox import NetBox
from tests.support.play import Play, Theatre, theatre
from tests.support.stage import PORT
from tests.support.trials import Places, Trial, trying
from tests.support.word_world import World, worlds
from tracer.attach.instances import Instance


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


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """Two hosts for all tests of a file; one that changes them has its own."""
    with two_hosts() as hosts:
        yield hosts


@pytest.fixture
def web(hosts: Hosts) -> Iterator[Service]:
    with service(hosts.client, hosts.server) as web:
        yield web


@pytest.fixture
def apart() -> Iterator[Hosts]:
    with two_hosts(joined=False) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def _theatre() -> Iterator[Theatre]:
    with theatre() as made:
        yield made


@pytest.fixture
def play(_theatre: Theatre, request: pytest.FixtureRequest) -> Iterator[Play]:
    """A situation between hosts that are watched; a test may choose the version of IP."""
    with _theatre.play(getattr(request, "param", 4)) as made:
        yield made


@pytest.fixture
def another(_theatre: Theatre) -> Iterator[Callable[[], Play]]:
    """More of them, each at an address of its own."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(_theatre.play())


@pytest.fixture(scope="module")
def look(_theatre: Theatre) -> Iterator[Callable[[], None]]:
    """Lets the run at the server read counters and sysctls: it does so when a request was not granted."""
    with _theatre.play() as other:
        listener = other.listen_at(PORT + 50, queue=None)

        def look_now() -> None:
            assert {one.tfo.outcome for one in other.seen(other.exchange(listener))} == {"cookie_not_granted"}

        yield look_now


@pytest.fixture
def trial(hosts_and_places: tuple[Any, Places]) -> Iterator[Trial]:
    """A port and addresses of its own in a module's network, all of whose records are looked at in the end."""
    with trying(hosts_and_places[1]) as made:
        yield made


@pytest.fixture(scope="module")
def hosts_and_runs() -> Iterator[World]:
    with worlds() as made:
        yield made


@pytest.fixture
def world(hosts_and_runs: World) -> Iterator[World]:
    """Hosts on whose drops the kernel's trace is the judge; what a test changes there is undone after it."""
    with ExitStack() as opened:
        hosts_and_runs.opened = opened
        hosts_and_runs.judge.begin()
        yield hosts_and_runs
