"""Fixtures of the tests that attach: a namespace with a veth pair, programs, an instance; two hosts, a service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hooks import Own
from tests.support.hosts import Hosts, Service, service, two_hosts
from tests.support.netbox import NetBox
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
