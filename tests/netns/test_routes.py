"""By which interface the kernel says that a segment leaves, from here or on its way through."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netbox import NetBox, wait_until
from tracer.linux import interfaces
from tracer.linux.modules import Modules
from tracer.linux.routes import NO_ROUTE, forwarded_by, hides_ways, leaves_by
from tracer.vocabulary.addresses import sixteen_bytes

pytestmark = pytest.mark.root


@pytest.fixture
def box() -> Iterator[NetBox]:
    made = NetBox()
    try:
        with made.inside():
            made.make_pair("left", "right")
            yield made
    finally:
        made.close()


def sixteen(text: str) -> bytes:
    return sixteen_bytes(ipaddress.ip_address(text).packed)


def test_by_which_interface_a_segment_leaves(box: NetBox) -> None:
    box.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.left.disable_ipv6=0")
    box.run("ip", "link", "set", "lo", "up")
    for address in ("10.3.1.1/24", "fd00:3::1/64"):
        box.run("ip", "address", "add", address, "dev", "left", *(["nodad"] if ":" in address else []))
    box.run("ip", "route", "add", "10.7.0.0/16", "dev", "right", "src", "10.3.1.1")
    box.run("ip", "route", "add", "unreachable", "10.8.0.0/16")
    indexes = {interfaces.find(name).index: name for name in ("lo", "left", "right")} | {NO_ROUTE: "no route"}

    def name(source: str, destination: str) -> str | None:
        index = leaves_by(sixteen(source), 443, sixteen(destination), 4000)
        return indexes[index] if index is not None else None

    assert name("10.3.1.1", "10.3.1.9") == "left"
    assert name("10.3.1.1", "10.7.1.9") == "right"
    assert name("10.3.1.1", "10.3.1.1") == "lo"
    assert name("10.3.1.1", "10.8.1.9") == "no route"
    assert name("10.3.1.1", "203.0.113.1") == "no route"
    assert name("10.9.9.9", "10.3.1.9") == "left"  # no address of this host any more: as others would
    assert name("fd00:3::1", "fd00:3::9") == "left"
    assert name("fd00:3::1", "fd00:4::9") == "no route"
    assert name("fd00:3::1", "fe80::9") != "no route"  # it does not say at which interface


def test_a_vrf_has_routes_of_its_own(box: NetBox) -> None:
    box.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    assert leaves_by(sixteen("10.3.1.1"), 443, sixteen("203.0.113.1"), 4000) == NO_ROUTE
    box.run("ip", "rule", "add", "l3mdev", "pref", "1000")  # as the first VRF does
    assert leaves_by(sixteen("10.3.1.1"), 443, sixteen("203.0.113.1"), 4000) is None


def test_by_which_interface_a_segment_goes_on(box: NetBox) -> None:
    box.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.left.disable_ipv6=0",
            "net.ipv6.conf.right.disable_ipv6=0", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.left.rp_filter=0")  # fmt: skip
    box.run("ip", "link", "set", "lo", "up")
    for link, number in (("left", 1), ("right", 2)):
        box.run("ip", "address", "add", f"10.3.{number}.1/24", "dev", link)
        box.run("ip", "address", "add", f"fd00:3:{number}::1/64", "dev", link, "nodad")
    indexes = {interfaces.find(name).index: name for name in ("lo", "left", "right")} | {NO_ROUTE: "not at all"}

    def name(source: str, destination: str) -> str | None:
        came_by = interfaces.find("left").index
        index = forwarded_by(came_by, sixteen(source), 4000, sixteen(destination), 443)
        return indexes[index] if index is not None else None

    assert name("10.3.1.9", "10.3.2.9") == "right"
    assert name("10.3.1.9", "10.3.1.8") == "left"  # back by where it came
    assert name("fd00:3:1::9", "fd00:3:2::9") == "right"
    box.run("ip", "route", "add", "blackhole", "10.8.0.0/16")
    for destination in ("203.0.113.1", "10.8.0.1"):
        assert name("10.3.1.9", destination) == "not at all"
    assert name("fd00:3:1::9", "fd00:4::9") == "not at all"
    assert name("10.3.1.9", "10.3.2.1") is None  # it is for this host
    # the kernel takes a moment to know its own address
    wait_until(lambda: name("fd00:3:1::9", "fd00:3:2::1") is None, "the address to be local")
    box.run("sysctl", "-qw", "net.ipv4.conf.left.rp_filter=1")
    assert name("10.3.2.9", "10.3.2.8") == "not at all"
    box.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    assert name("10.3.1.9", "10.3.2.9") == "not at all"
    assert name("fd00:3:1::9", "fd00:3:2::9") == "not at all"
    forced = Path("/proc/sys/net/ipv6/conf/left/force_forwarding")  # since Linux 6.17
    if forced.exists():
        box.run("sysctl", "-qw", "net.ipv6.conf.left.force_forwarding=1")
        assert name("fd00:3:1::9", "fd00:3:2::9") == "right"
    assert not hides_ways(Modules())
    box.run("ip", "rule", "add", "fwmark", "7", "table", "77")  # which a firewall may set
    assert name("10.3.1.9", "10.3.2.9") is None
    assert hides_ways(Modules())


@pytest.mark.skipif(not Modules().present("xfrm_user"), reason="this kernel has no IPsec")
def test_policies_of_ipsec_hide_by_which_interface_a_segment_goes_on(box: NetBox) -> None:
    assert not hides_ways(Modules())
    box.run("ip", "xfrm", "policy", "add", "src", "10.0.0.0/8", "dst", "10.1.0.0/16", "dir", "out", "tmpl", "src",
            "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "mode", "tunnel")  # fmt: skip
    assert hides_ways(Modules())
