"""Interfaces and local addresses of a real namespace, and following them."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.support.netbox import NetBox
from tracer.errors import UsageError
from tracer.linux import interfaces
from tracer.linux.interfaces import AddressesChanged, Change, Follower, LinkDown, LinkGone, LinkRenamed, LinkUp

pytestmark = pytest.mark.root


def sixteen(text: str) -> bytes:
    if ":" in text:
        return socket.inet_pton(socket.AF_INET6, text)
    return bytes(10) + b"\xff\xff" + socket.inet_aton(text)


def is_local(local: interfaces.LocalAddresses, address: bytes) -> bool:
    """Whether an address belongs to the namespace (loopback networks and AnyIP routes too)."""
    number = int.from_bytes(address, "big")
    inside = ((number ^ int.from_bytes(net, "big")) >> (128 - length) == 0 for net, length in local.networks)
    return address in local.addresses or any(inside)


def collect(follower: Follower, enough: Callable[[list[Change]], bool]) -> list[Change]:
    """Read, waiting for the descriptor, until it is enough; fails after 10 s of silence."""
    changes: list[Change] = []
    while not enough(changes):
        ready, _, _ = select.select([follower], [], [], 10)
        assert ready, f"nothing more came after {changes}"
        changes += follower.read()
    return changes


def names(changes: list[Change], kind: type[LinkUp] | type[LinkDown] | type[LinkGone]) -> set[str]:
    return {change.interface.name for change in changes if isinstance(change, kind)}


def test_find_by_name_and_alternative_name(box: NetBox) -> None:
    box.run("ip", "link", "property", "add", "dev", "left", "altname", "a-rather-long-alternative-name")
    left = interfaces.find("left")
    assert interfaces.find("a-rather-long-alternative-name") == left
    assert (left.name, left.arp_type, left.up) == ("left", 1, True)  # ARPHRD_ETHER
    assert (left.is_loopback, left.has_ethernet_header, left.untraceable) == (False, True, None)
    assert interfaces.by_index(left.index) == left
    assert interfaces.by_index(9999) is None


def test_an_unknown_name_is_answered_with_those_there_are(box: NetBox) -> None:
    with pytest.raises(UsageError) as caught:
        interfaces.find("foo")
    text = str(caught.value)
    assert text.startswith('no interface named "foo" here; there are: lo, ')
    assert {"left", "right"} <= set(text.partition("there are: ")[2].split(", "))


def test_all_up_is_what_is_up_and_traceable(box: NetBox) -> None:
    assert {link.name for link in interfaces.all_up()} == {"left", "right"}
    box.run("ip", "link", "set", "lo", "up")
    box.run("ip", "link", "set", "right", "down")
    assert {link.name for link in interfaces.all_up()} == {"lo", "left"}
    lo = interfaces.find("lo")
    assert (lo.is_loopback, lo.has_ethernet_header) == (True, True)


def test_local_addresses_are_those_of_the_local_table(box: NetBox) -> None:
    box.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.left.disable_ipv6=0")
    box.run("ip", "link", "set", "lo", "up")
    box.run("ip", "addr", "add", "10.1.2.3/24", "dev", "left")
    box.run("ip", "addr", "add", "10.7.0.1", "peer", "10.7.0.2", "dev", "right")
    box.run("ip", "-6", "addr", "add", "2001:db8::5/64", "dev", "left", "nodad")
    box.run("ip", "route", "add", "local", "198.51.100.0/24", "dev", "lo")  # AnyIP
    box.run("ip", "-6", "route", "add", "local", "2001:db8:aaaa::/48", "dev", "lo")
    box.run("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100")  # what TPROXY sets up: not ours
    local = interfaces.local_addresses()
    for address in ("10.1.2.3", "10.7.0.1", "2001:db8::5", "::1", "127.0.0.1"):
        assert sixteen(address) in local.addresses, address
    for address in ("10.1.2.3", "127.99.0.1", "198.51.100.77", "2001:db8:aaaa:1::9"):
        assert is_local(local, sixteen(address)), address
    for address in ("10.1.2.4", "10.7.0.2", "10.1.2.255", "8.8.8.8", "2001:db8::6", "198.51.101.1", "126.255.255.255"):
        assert not is_local(local, sixteen(address)), address


def test_an_empty_namespace_still_has_loopback_addresses() -> None:
    box = NetBox()
    try:
        with box.inside():
            local = interfaces.local_addresses()
        assert is_local(local, sixteen("127.0.0.1"))
        assert not is_local(local, sixteen("10.0.0.1"))
    finally:
        box.close()


def test_following_links_and_addresses(box: NetBox) -> None:
    with closing(Follower()) as follower:
        assert {"lo", "left", "right"} <= {link.name for link in follower.interfaces.values()}
        assert follower.read() == []
        box.run("ip", "link", "set", "left", "down")
        collect(follower, lambda seen: "left" in names(seen, LinkDown))
        box.run("ip", "link", "set", "left", "name", "renamed")
        (change,) = collect(follower, bool)
        assert isinstance(change, LinkRenamed)
        assert (change.interface.name, change.old_name) == ("renamed", "left")
        box.run("ip", "link", "set", "renamed", "up")
        collect(follower, lambda seen: "renamed" in names(seen, LinkUp))
        box.run("ip", "addr", "add", "10.3.0.1/24", "dev", "renamed")
        collect(follower, lambda seen: AddressesChanged() in seen)
        box.make_pair("new0", "new1")
        collect(follower, lambda seen: {"new0", "new1"} <= names(seen, LinkUp))
        box.run("ip", "link", "del", "new0")
        collect(follower, lambda seen: {"new0", "new1"} <= names(seen, LinkGone))
        known = {link.name for link in follower.interfaces.values()}
        assert "renamed" in known
        assert not {"left", "new0", "new1"} & known


@pytest.mark.parametrize(("address", "more"), [("10.3.1.1/24", []), ("fd00:3::1/64", ["nodad"])])
def test_once_the_event_of_an_address_is_there_the_address_is_as_it_says(
    box: NetBox, address: str, more: list[str]
) -> None:
    """The root part reads them at the event: each one is local, or not, in the order in which it happened."""
    box.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.left.disable_ipv6=0")
    with closing(Follower()) as follower:
        for _ in range(20):
            for word, options in (("add", more), ("del", [])):
                follower.read()
                box.run("ip", "address", word, address, "dev", "left", *options)
                collect(follower, lambda seen: AddressesChanged() in seen)
                local = sixteen(address.partition("/")[0]) in interfaces.local_addresses().addresses
                assert local == (word == "add")


def test_an_interface_that_moves_to_another_namespace_is_gone(box: NetBox) -> None:
    other = NetBox()
    try:
        with closing(Follower()) as follower:
            box.run("ip", "link", "set", "right", "netns", other.name)
            collect(follower, lambda seen: "right" in names(seen, LinkGone))
    finally:
        other.close()


def test_a_port_that_leaves_its_bridge_is_not_gone(box: NetBox) -> None:
    box.run("ip", "link", "add", "br0", "type", "bridge")
    box.run("ip", "link", "set", "left", "master", "br0")
    with closing(Follower()) as follower:
        box.run("ip", "link", "set", "left", "nomaster")
        box.run("ip", "link", "set", "br0", "up")  # comes after, so that everything before it was read
        seen = collect(follower, lambda seen: "br0" in names(seen, LinkUp))
        assert names(seen, LinkGone) == set()


def test_an_overflow_is_made_good_by_reading_everything_again(box: NetBox, monkeypatch: pytest.MonkeyPatch) -> None:
    overflows: list[Follower] = []
    read_again = Follower._read_all_again

    def counted(follower: Follower) -> list[Change]:
        overflows.append(follower)
        return read_again(follower)

    monkeypatch.setattr(Follower, "_read_all_again", counted)
    box.make_pair("gone0", "gone1")
    with closing(Follower(receive_buffer=1)) as follower:  # the kernel's minimum: a message or two
        box.run("ip", "link", "del", "gone0")
        box.run("ip", "link", "set", "right", "down")
        for number in range(20):
            box.run("ip", "addr", "add", f"10.4.0.{number + 1}/24", "dev", "left")
        box.run("ip", "link", "set", "left", "down")  # before 6.2 only then can it be renamed
        box.run("ip", "link", "set", "left", "name", "renamed")
        box.run("ip", "link", "set", "renamed", "up")
        box.make_pair("new0", "new1")
        changes = follower.read()
        assert overflows
        assert {"gone0", "gone1"} <= names(changes, LinkGone)
        assert "right" in names(changes, LinkDown)
        assert {"new0", "new1"} <= names(changes, LinkUp)
        assert [c.old_name for c in changes if isinstance(c, LinkRenamed)] == ["left"]
        assert AddressesChanged() in changes
        assert follower.interfaces == {link.index: link for link in interfaces.all_interfaces()}
        box.run("ip", "link", "set", "new0", "down")  # and it goes on
        collect(follower, lambda seen: "new0" in names(seen, LinkDown))
