"""Changes to interfaces while they are traced: after each, handshakes are seen as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.hooks import tc_programs
from tests.support.hosts import ADDRESSES, WIRE, Hosts, add_addresses, service, two_hosts
from tests.support.netbox import NetBox
from tests.support.tracing import Run, assert_balanced, tracing
from tracer.attach import xdp
from tracer.linux import interfaces

pytestmark = pytest.mark.root

OFFLOADS = ("tso", "gso", "gro", "tx", "rx", "sg", "rxvlan", "txvlan", "rx-gro-list", "rx-udp-gro-forwarding")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def down_and_up(hosts: Hosts, run: Run) -> None:
    hosts.client.run("ip", "link", "set", WIRE, "down")
    run.wait_notice("interface_down")
    hosts.client.run("ip", "link", "set", WIRE, "up")
    run.wait_notice("interface_up")
    add_addresses(hosts.client, WIRE, ADDRESSES[6][0])


def other_mtu(hosts: Hosts, run: Run) -> None:
    for mtu in ("1280", "3000", "1500"):  # native XDP keeps frames in a page
        for box in (hosts.client, hosts.server):
            box.run("ip", "link", "set", WIRE, "mtu", mtu)


def offloads(state: str) -> Callable[[Hosts, Run], None]:
    def switch(hosts: Hosts, run: Run) -> None:
        for name in OFFLOADS:
            hosts.client.run("sh", "-c", f"ethtool -K {WIRE} {name} {state} 2>&1 || true")  # some a veth has not
        shown = hosts.client.run("ethtool", "-k", WIRE)
        assert f"tcp-segmentation-offload: {state}" in shown

    return switch


def other_mac(hosts: Hosts, run: Run) -> None:
    hosts.client.run("ip", "link", "set", WIRE, "address", "02:00:00:00:77:01")
    hosts.server.run("ip", "neigh", "flush", "all")


def other_queue(hosts: Hosts, run: Run) -> None:
    hosts.client.run("tc", "qdisc", "replace", "dev", WIRE, "root", "pfifo", "limit", "1000")
    hosts.client.run("tc", "qdisc", "del", "dev", WIRE, "root")


FAULTS = [down_and_up, other_mtu, offloads("off"), offloads("on"), other_mac, other_queue]


@pytest.mark.parametrize("hook", ["auto", "clsact", "xdp-native", "xdp-generic"])
def test_what_changes_on_an_interface_does_not_matter(hosts: Hosts, hook: str) -> None:
    with (
        tracing(WIRE, "--json", "--hook", hook, "--netns", hosts.client.name) as run,
        service(hosts.client, hosts.server) as web,
    ):
        for change in FAULTS:
            change(hosts, run)
            record = run.wait_port(web.exchange(fast_open=True))
            assert (record.handshake.result, record.interface) == ("established", WIRE)
        assert run.stop() == 0
        assert_balanced(run.end)
        assert len(run.handshakes) == len(FAULTS)


def hooks_of(box: NetBox, name: str) -> list[object]:
    """Everything on the interface's hooks."""
    with box.inside():
        index = interfaces.find(name).index
        return [*xdp.programs(index), *tc_programs(index)]


@pytest.mark.parametrize("hook", ["auto", "clsact", "xdp-native", "xdp-generic"])
def test_moved_to_another_namespace_it_is_given_up_and_the_other_one_goes_on(hosts: Hosts, hook: str) -> None:
    hosts.join("second", addressed=False)
    for box, number in ((hosts.client, 1), (hosts.server, 2)):
        add_addresses(box, "second", f"10.98.0.{number}")
    words = (WIRE, "second", "--json", "--hook", hook, "--netns", hosts.client.name)
    away = NetBox()
    try:
        with tracing(*words) as run, service(hosts.client, hosts.server) as web:
            assert run.wait_port(web.exchange()).interface == WIRE
            assert hooks_of(hosts.client, WIRE)
            hosts.client.run("ip", "link", "set", WIRE, "netns", away.name)
            gone = run.wait_notice("interface_gone")
            assert gone.interface == WIRE
            with service(hosts.client, hosts.server, "10.98.0.2") as other:
                assert run.wait_port(other.exchange()).interface == "second"
            assert hooks_of(away, WIRE) == []
            assert run.stop() == 0
            assert_balanced(run.end)
            assert len(run.handshakes) == 2
        assert hooks_of(hosts.client, "second") == []
    finally:
        away.close()
