"""What the programs hear of the kernel's reasons, between real kernels; the kernel's own trace is the judge."""

from __future__ import annotations

import math
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.support.heard import ACK, FILTERED_AT, SYN, Ear, Heard, Judge, ear, judge
from tests.support.hosts import ADDRESSES, Hosts, Service
from tests.support.netbox import NetBox, wait_until
from tests.support.packets import ethernet, ipv4
from tracer.ipc.messages import PlaceAnswer
from tracer.lab.packet import MSS_1460, Flag, Segment, encode
from tracer.linux import bpfsys
from tracer.linux.kallsyms import KALLSYMS
from tracer.root.kernel_words import FLOOD, PAUSE_S

pytestmark = [pytest.mark.root, pytest.mark.slow]

CLOSED, MADE_UP = 9, 9999


@pytest.fixture(scope="module")
def hears(hosts: Hosts) -> Iterator[Ear]:
    with hosts.server.inside(), ear() as hears:
        yield hears


@pytest.fixture
def trace() -> Iterator[Judge]:
    with judge() as reader:
        yield reader


def inode(box: NetBox) -> int:
    return os.stat(box.path).st_ino


@contextmanager
def firewall(box: NetBox, chain: str, rule: str) -> Iterator[None]:
    """One rule of nft meanwhile."""
    box.run("nft", "add", "table", "inet", "test")
    try:
        box.run("nft", f"add chain inet test one {{ type filter hook {chain} priority 0; }}")
        box.run("nft", f"add rule inet test one {rule}")
        yield
    finally:
        box.run("nft", "delete", "table", "inet", "test")


def connect(box: NetBox, address: str, port: int, seconds: float = 0.3) -> None:
    """Try to, in vain."""
    with box.inside():
        client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with client, suppress(OSError):
        client.settimeout(seconds)
        client.connect((address, port))


def wait_for(hears: Ear, fits: Callable[[Heard], bool]) -> Heard:
    found: list[Heard] = []

    def there() -> bool:
        found.extend(one for one in hears.heard() if fits(one))
        return bool(found)

    wait_until(there, "the kernel's word")
    return found[0]


@pytest.mark.parametrize("version", [4, 6])
def test_a_closed_port(hosts: Hosts, hears: Ear, trace: Judge, version: int) -> None:
    client, server = ADDRESSES[version]
    connect(hosts.client, server, CLOSED)
    heard: list[Heard] = []

    def all_heard() -> bool:
        heard.extend(one for one in hears.heard() if CLOSED in (one.dst_port, one.src_port))
        return len(heard) >= (2 if hears.evidence.reset_reasons else 1)

    wait_until(all_heard, "SYN freed, RST sent")
    syn = next(one for one in heard if one.dst_port == CLOSED)
    assert (syn.src, syn.dst, syn.flags & 0x3F, syn.reason) == (client, server, SYN, "NO_SOCKET")
    assert syn.at == f"tcp_v{version}_rcv"
    assert syn.netns == inode(hosts.server) == hears.evidence.netns
    assert trace.agrees(syn)
    if not hears.evidence.reset_reasons:
        return  # before Linux 6.11 the kernel does not say why it resets
    sent = next(one for one in heard if one.src_port == CLOSED and one.at is None)
    assert (sent.src, sent.dst, sent.dst_port, sent.reason) == (server, client, syn.src_port, "NO_SOCKET")
    assert sent.netns == inode(hosts.server)


def test_in_a_flood_resets_are_left_alone_for_a_while(hosts: Hosts, hears: Ear) -> None:
    if not hears.evidence.reset_reasons:
        pytest.skip("this kernel does not say why it resets")
    server = ADDRESSES[4][1]

    def kinds() -> set[bool]:
        """Of what is heard when a SYN is refused: is it on a reset?"""
        connect(hosts.client, server, CLOSED)
        found: list[Heard] = []

        def there() -> bool:
            found.extend(one for one in hears.heard() if CLOSED in (one.dst_port, one.src_port))
            return any(one.dst_port == CLOSED for one in found)

        wait_until(there, "the SYN's word")  # which comes after the reset's
        return {one.dst_port != CLOSED for one in found}

    with hosts.server.inside():
        assert kinds() == {True, False}
        hears.words.relieve(FLOOD - 1, 1.0)
        assert kinds() == {True, False}
        hears.words.relieve(2 * FLOOD, 1.0)
        assert kinds() == {False}
        hears.words.relieve(3 * FLOOD, 1.0 + PAUSE_S)  # it goes on
        hears.words.relieve(3 * FLOOD, 1.0 + PAUSE_S)
        assert kinds() == {False}
        hears.words.relieve(3 * FLOOD, 1.0 + 2 * PAUSE_S)
        assert kinds() == {True, False}


@pytest.mark.parametrize("chain", ["input", "output"])
def test_a_firewall(hosts: Hosts, hears: Ear, trace: Judge, chain: str) -> None:
    client, server = ADDRESSES[4]
    box = hosts.client if chain == "output" else hosts.server
    with firewall(box, chain, f"tcp dport {CLOSED} drop"):
        connect(hosts.client, server, CLOSED)
        syn = wait_for(hears, lambda one: one.dst_port == CLOSED)
    assert (syn.src, syn.dst, syn.flags & 0x3F, syn.reason) == (client, server, SYN, "NETFILTER_DROP")
    assert syn.at == FILTERED_AT
    assert syn.netns == inode(box)
    assert trace.agrees(syn)


def test_options_of_a_syn_are_read(hosts: Hosts, hears: Ear) -> None:
    connect(hosts.client, ADDRESSES[4][1], CLOSED)
    found: list[bytes] = []

    def there() -> bool:
        found.extend(
            one["options"][: one["options_len"]].tobytes() for one in hears.read() if one["dst_port"] == CLOSED
        )
        return bool(found)

    wait_until(there, "a SYN")
    assert found[0][:2] == b"\x02\x04"
    assert len(found[0]) == 20


def test_connections_that_work_are_left_alone(web: Service, hears: Ear) -> None:
    """Nothing of them is tracked here, so that only SYNs and RSTs would be told."""
    hears.heard()
    ports = {web.exchange() for _ in range(20)}
    assert not [one for one in hears.heard() if ports & {one.src_port, one.dst_port}]


def test_frames_of_a_replay_say_nothing(hears: Ear, trace: Judge) -> None:
    """BPF_PROG_TEST_RUN frees them for no reason."""
    tcp = encode(Segment(40000, MADE_UP, 1, 0, Flag.SYN, MSS_1460), "192.0.2.1", "192.0.2.2")
    frame = ethernet(ipv4(bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)), tcp))
    hears.heard()
    for _ in range(20):
        bpfsys.prog_test_run(hears.loaded.programs["tc_ingress"], frame)
    assert trace.knows("NOT_SPECIFIED", "bpf_prog_test_run_skb")
    assert not [one for one in hears.heard() if one.dst_port == MADE_UP]


def test_a_known_place_is_named_while_another_is_looked_for(hears: Ear) -> None:
    words = hears.words
    known, other = (address_of(name) for name in ("tcp_v4_rcv", "schedule"))
    wait_until(lambda: words.advance() is None and words.wait_s() == math.inf, "nothing is looked for")
    words.ask([other])
    assert words.advance() is None
    words.ask([known])
    assert words.advance() == PlaceAnswer({known: "tcp_v4_rcv"})
    while (answer := words.advance()) is None:
        pass
    assert answer == PlaceAnswer({other: "schedule"})


def address_of(name: str) -> int:
    with KALLSYMS.open() as file:
        return next(int(words[0], 16) for words in map(str.split, file) if words[2] == name)


def test_an_ack_of_a_tracked_connection(hosts: Hosts, hears: Ear) -> None:
    """The pending table's tag is looked up: all that there are, set by hand, stand for a tracked connection."""
    client, address = ADDRESSES[4]
    box, port = hosts.server, 8443
    with hosts.client.inside():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    segment = struct.pack("!HHIIBBHHH", 40000, port, 1, 2, 5 << 4, ACK, 1000, 0, 0)

    def heard() -> list[Heard]:
        raw.sendto(segment, (address, 0))
        return [one for one in hears.heard() if (one.dst, one.dst_port, one.netns) == (address, port, inode(box))]

    with raw, firewall(box, "input", f"tcp dport {port} drop"):
        assert not heard()
        with box.inside():
            index = socket.if_nametoindex("wire")
        hears.kernel.trace_interface(index, index, has_ethernet_header=True)
        assert not heard()
        tags, found = hears.loaded.maps["tags"], []
        for at in (*range(1, 249, 8), 248):
            for number in range(hears.loaded.options.sets):
                bpfsys.map_update_elem(tags, number.to_bytes(4, "little"), bytes(range(at, at + 8)))
            found += heard()
        hears.kernel.ignore_interface(index)
    assert 1 <= len(found) <= 2  # the last tags are there twice
    (one,) = {(one.src, one.dst, one.flags, one.reason, one.at, one.netns) for one in found}
    assert one == (client, address, ACK, "NETFILTER_DROP", FILTERED_AT, inode(box))
