"""pyroute2: what it says of refusals, and that neither part of a run imports it."""

from __future__ import annotations

import errno

import pytest

from tests.support.hosts import Hosts
from tests.support.netbox import NetBox
from tests.support.tracing import COMMAND, tracing
from tracer.linux import tcp_metrics
from tracer.linux.pyroute import route_socket

pytestmark = pytest.mark.root


def test_a_refusal_is_an_oserror_with_the_sentence_of_the_kernel(box: NetBox) -> None:
    with pytest.raises(OSError, match="Unknown device type") as refused, route_socket() as route:
        route.link("add", ifname="nobody", kind="no-such-kind")
    assert refused.value.errno == errno.EOPNOTSUPP
    with pytest.raises(FileExistsError), route_socket() as route:
        route.link("add", ifname="left", kind="veth", peer={"ifname": "other"})


def test_the_cache_of_servers_is_that_of_the_namespace(box: NetBox) -> None:
    assert tcp_metrics.entries() == []
    for unknown in ("192.0.2.1", "2001:db8::1"):
        tcp_metrics.forget(unknown)


@pytest.mark.parametrize("hook", ["tc", "clsact"])
def test_a_run_never_imports_pyroute2(apart: Hosts, hook: str) -> None:
    """Of all its processes, from the first attachment to the last, with an interface that appears meanwhile."""
    telling = [COMMAND[0], "-X", "importtime", *COMMAND[1:]]
    with tracing("any", "--json", "--hook", hook, "--netns", apart.client.name, command=telling) as run:
        apart.join()
        run.wait_notice("interface_added")
        assert run.stop() == 0
    imported = {line.rpartition("|")[2].strip() for line in run.said if line.startswith("import time:")}
    assert {"tracer.root.part", "tracer.attach.clsact", "tracer.run.pipeline"} <= imported
    assert not {name for name in imported if name.startswith("pyroute2")}
