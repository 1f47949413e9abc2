"""Hosts of many containers: hundreds of interfaces, large indexes, and what somebody takes away while we trace.

TFOTRACE_INTERFACES=3000 makes that many (`sudo make test-many-interfaces`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.hooks import detach_links, needs_tcx
from tests.support.hosts import WIRE, Hosts, add_addresses, service, two_hosts
from tests.support.manylinks import FIRST_INDEX, add_links
from tests.support.netbox import NetBox
from tests.support.patience import PATIENCE_S
from tests.support.rawprog import XDP, XDP_PASS, Counting
from tests.support.tracing import Run, assert_balanced, tracing
from tracer.attach import clsact, xdp
from tracer.linux import bpfsys, interfaces
from tracer.loader.load import NEAR_INTERFACES
from tracer.root.interfaces import MANY

pytestmark = [pytest.mark.root, pytest.mark.timeout(20 * PATIENCE_S)]

COUNT = int(os.environ.get("TFOTRACE_INTERFACES", "300"))
LATE = FIRST_INDEX + (1 << 20)  # of an interface that appears during the run
FEW_FILES = ("prlimit", "--nofile=128:128", "--")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def index_of(box: NetBox, name: str) -> int:
    with box.inside():
        return interfaces.find(name).index


def sees_handshakes(run: Run, hosts: Hosts, interface: str = WIRE) -> None:
    """Is a handshake reported as it is, both directions of it?"""
    with service(hosts.client, hosts.server) as web:
        record = run.wait_port(web.exchange())
    assert (record.interface, record.handshake.result) == (interface, "established")


def own_filters(box: NetBox, index: int) -> list[clsact.FilterKey]:
    with box.inside():
        parents = (clsact.PARENT_INGRESS, clsact.PARENT_EGRESS)
        return [one for parent in parents for one in clsact.filters(index, parent) if one.name.startswith("tfotrace")]


def test_any_traces_hundreds_of_interfaces_with_large_indexes(hosts: Hosts) -> None:
    assert COUNT > MANY
    box = hosts.client
    add_links(box, COUNT)
    # one more that has the same slot in the programs' table as the first
    box.run("ip", "link", "add", "crowded", "index", str(FIRST_INDEX + NEAR_INTERFACES), "type", "veth",
            "peer", "name", "peer", "index", str(LATE))  # fmt: skip
    for name, address in (("a0", "10.97.0.1"), ("crowded", "10.97.1.1")):
        add_addresses(box, name, address)
        box.run("ip", "link", "set", name, "up")
    other = NetBox()
    try:
        for name, address in (("b0", "10.97.0.2"), ("peer", "10.97.1.2")):
            box.run("ip", "link", "set", name, "netns", other.name)
            add_addresses(other, name, address)
            other.run("ip", "link", "set", name, "up")
        with tracing("any", "--json", "--netns", box.name) as run:
            traced = {one.name: one for one in run.start.interfaces}
            assert len(traced) >= COUNT
            assert max(one.index for one in traced.values()) == FIRST_INDEX + NEAR_INTERFACES
            assert {one.hook for one in traced.values()} == {"clsact"}
            sees_handshakes(run, hosts)
            for name, address in (("a0", "10.97.0.2"), ("crowded", "10.97.1.2")):
                with service(box, other, address) as web:
                    record = run.wait_port(web.exchange())
                assert (record.interface, record.handshake.result) == (name, "established")
            box.run("ip", "link", "del", "crowded")
            run.wait_notice("interface_gone")
            assert run.stop() == 0
        assert_balanced(run.end)
        assert run.end.interfaces is not None
        assert (run.end.interfaces.traced, run.end.interfaces.gone) == (len(traced), 1)
        assert (run.end.interfaces.removed, run.end.interfaces.not_traced) == (0, 0)
        assert len(run.said) < 60  # no line for each interface
        for name in (WIRE, "a0", f"a{COUNT // 2 - 1}"):
            assert own_filters(box, index_of(box, name)) == []
    finally:
        other.close()


@needs_tcx
def test_too_few_descriptors_are_news_and_do_not_end_the_run(hosts: Hosts) -> None:
    """Links take two descriptors each; the hard limit is as low, and the capability to raise it is not there."""
    add_links(hosts.client, 60)
    prefix = (*FEW_FILES, "setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "--")
    with tracing("any", "--json", "--hook", "tc", "--netns", hosts.client.name, prefix=prefix) as run:
        first = run.wait_notice("interface_not_traced")
        assert "file descriptors" in first.text
        names = {one.name for one in run.start.interfaces}
        assert WIRE in names
        assert len(names) < 60
        sees_handshakes(run, hosts)
        assert run.stop() == 0
    assert run.end.interfaces is not None
    assert run.end.interfaces.traced == len(names)
    assert run.end.interfaces.not_traced > 0


@pytest.mark.parametrize("what", ["filter", "qdisc"])
def test_a_filter_that_somebody_deletes_is_told_and_attached_again(hosts: Hosts, what: str) -> None:
    box, index = hosts.client, index_of(hosts.client, WIRE)
    deletion = {"filter": ("filter", "del", "dev", WIRE, "ingress"), "qdisc": ("qdisc", "del", "dev", WIRE, "clsact")}
    with tracing(WIRE, "--json", "--hook", "clsact", "--netns", box.name) as run:
        sees_handshakes(run, hosts)
        assert len(own_filters(box, index)) == 2
        box.run("tc", *deletion[what])
        assert run.wait_notice("detached").interface == WIRE
        assert run.wait_notice("attached_again").interface == WIRE
        assert len(own_filters(box, index)) == 2
        sees_handshakes(run, hosts)
        assert run.stop() == 0
    assert run.end.interfaces is not None
    assert (run.end.interfaces.traced, run.end.interfaces.removed, run.end.interfaces.attached_again) == (1, 1, 1)
    assert own_filters(box, index) == []


@needs_tcx
@pytest.mark.parametrize("hook", ["tc", "xdp-generic"])
def test_a_link_that_somebody_detaches_is_told_and_attached_again(hosts: Hosts, hook: str) -> None:
    with tracing(WIRE, "--json", "--hook", hook, "--netns", hosts.client.name) as run:
        sees_handshakes(run, hosts)
        before = run.handshakes[0].hook
        detach_links(run.root_part)
        assert run.wait_notice("detached").interface == WIRE
        run.wait_notice("attached_again")
        sees_handshakes(run, hosts)
        assert run.handshakes[-1].hook == before
        assert run.stop() == 0
    assert run.end.interfaces is not None
    assert (run.end.interfaces.removed, run.end.interfaces.attached_again) == (1, 1)


@needs_tcx
def test_an_xdp_program_that_took_our_place_stays_and_tc_is_used(hosts: Hosts) -> None:
    box, index = hosts.client, index_of(hosts.client, WIRE)
    program = Counting.make(XDP, XDP_PASS, "foreign")
    try:
        with tracing(WIRE, "--json", "--hook", "xdp-generic", "--netns", box.name) as run:
            sees_handshakes(run, hosts)
            os.kill(run.root_part, signal.SIGSTOP)  # or it would be quicker
            detach_links(run.root_part)
            with box.inside():
                theirs = xdp.XdpAttachment(index, program.fd, bpfsys.XDP_FLAGS_SKB_MODE, lambda key: None)
            os.kill(run.root_part, signal.SIGCONT)
            run.wait_notice("attached_again")
            sees_handshakes(run, hosts)
            assert [one.hook for one in run.handshakes] == ["xdp-generic", "tcx"]
            assert theirs.is_intact()
            assert run.stop() == 0
        with box.inside():
            assert [one.program_id for one in xdp.programs(index)] == [program.id]
            theirs.detach()
    finally:
        program.close()


def test_a_named_interface_that_comes_back_is_traced_again(hosts: Hosts) -> None:
    box = hosts.client
    box.make_pair("left", "right")
    with tracing(WIRE, "left", "--json", "--netns", box.name) as run:
        box.run("ip", "link", "del", "left")
        assert run.wait_notice("interface_gone").interface == "left"
        sees_handshakes(run, hosts)
        box.make_pair("left", "right")
        assert run.wait_notice("interface_added").interface == "left"
        assert run.stop() == 0
    assert run.end.interfaces is not None
    assert (run.end.interfaces.traced, run.end.interfaces.gone, run.end.interfaces.not_traced) == (3, 1, 0)
