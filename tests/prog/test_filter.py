"""--filter against tcpdump: random expressions select the same SYNs, by the real programs and BPF_PROG_TEST_RUN.

TFOTRACE_EXPRESSIONS and TFOTRACE_SEED set number and seed (make test-filters); a failure prints both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prog.conftest import need_root
from tests.support.decoder import SYN, decode
from tests.support.sentences import C
from tests.support.syns import (
    DLT_RAW,
    FIRST_PORT,
    Expressions,
    frames,
    tcpdump_selects,
    write_capture,
)
from tests.support.testrun import LOOPBACK, NS_PER_S, Programs, Road
from tracer.errors import UsageError
from tracer.loader.packet_filter import PacketFilter, parse

SEED = int(os.environ.get("TFOTRACE_SEED", "7413"))
EXPRESSIONS = int(os.environ.get("TFOTRACE_EXPRESSIONS", "200"))
SYNS = 200


@pytest.fixture(scope="module")
def filtered() -> Iterator[Programs]:
    """The programs with a filter, XDP too."""
    need_root()
    programs = Programs(filtered=True, sets=1024)
    yield programs
    programs.close()


@pytest.fixture(scope="module")
def replaying() -> Iterator[Programs]:
    """The programs of a replay: with the test's clock, the limit of unanswered handshakes per second does not apply."""
    need_root()
    programs = Programs(filtered=True, sets=1024, replay=True)
    yield programs
    programs.close()


def understood(text: str) -> PacketFilter | None:
    try:
        return parse(text)
    except UsageError:
        return None


class Replayed:
    """Sends SYNs through the tc programs of a replay and reads which of them opened a handshake."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.now_ns = 1_000 * NS_PER_S

    def selects(self, wanted: PacketFilter, packets: list[bytes], road: Road = Road.TC_INGRESS) -> set[int]:
        programs = self.programs
        programs.set_filter(wanted, replay=True, xdp=False)
        before = programs.counters()
        self.now_ns += 10 * NS_PER_S
        for packet in packets:
            programs.run(road, packet, at_ns=self.now_ns)
        programs.sweep(now_ns=self.now_ns, flush=True)
        after = programs.counters()
        found = {int(port) - FIRST_PORT for port in programs.events()["client_port"]}
        programs.payloads()
        moved = {name: after[name] - before[name] for name in after}
        assert moved["opened"] == moved["emitted"] == len(found)
        assert moved["filtered"] == len(packets) - len(found)
        assert moved["syns"] == len(packets)
        return found


def opened_one_by_one(programs: Programs, wanted: PacketFilter, packets: list[bytes]) -> set[int]:
    """The same by XDP, read off the counter after each SYN."""
    programs.set_filter(wanted)
    at = programs.counter_names.index("opened")
    found = set()
    opened = int(programs.packet_counters()[at])
    for number, packet in enumerate(packets):
        programs.run(Road.XDP, packet)
        before, opened = opened, int(programs.packet_counters()[at])
        if opened > before:
            found.add(number)
    programs.drain()
    return found


@pytest.mark.timeout(1800)
def test_random_expressions_select_what_tcpdump_selects(
    replaying: Programs, filtered: Programs, tmp_path: Path
) -> None:
    packets = frames(SEED, SYNS)
    capture = tmp_path / "syns.pcap"
    write_capture(capture, packets)
    maker, replayed = Expressions(SEED), Replayed(replaying)
    tried = refused = telling = 0
    while tried < EXPRESSIONS:
        text = maker.expression()
        expected = tcpdump_selects(capture, text)
        wanted = understood(text)
        if expected is None or wanted is None:
            assert expected is None, f"seed {SEED}, refused here only: {text}"
            assert wanted is None, f"seed {SEED}, refused by tcpdump only: {text}"
            refused += 1
            assert refused < EXPRESSIONS + 50, "most expressions are refused"
            continue
        tried += 1
        telling += 0 < len(expected) < SYNS
        road = Road.TC_EGRESS if tried % 2 else Road.TC_INGRESS
        assert replayed.selects(wanted, packets, road) == expected, f"tc, seed {SEED}: {text}"
        if tried % 4 == 0:
            assert opened_one_by_one(filtered, wanted, packets) == expected, f"XDP, seed {SEED}: {text}"
    # an expression that selects all or nothing proves little
    assert telling > EXPRESSIONS // 3, telling


def test_frames_without_link_header(replaying: Programs, tmp_path: Path) -> None:
    untagged = {
        number: frame[14:]
        for number, frame in enumerate(frames(SEED + 1, SYNS))
        if frame[12:14] in (b"\x08\x00", b"\x86\xdd")
    }
    numbers, packets = list(untagged), list(untagged.values())
    capture = tmp_path / "raw.pcap"
    write_capture(capture, packets, DLT_RAW)
    maker, replayed = Expressions(SEED + 1), Replayed(replaying)
    replaying.interface(LOOPBACK, no_link_header=True)
    tried = telling = 0
    while tried < max(40, EXPRESSIONS // 5):
        text = maker.expression()
        expected = tcpdump_selects(capture, text)
        wanted = understood(text)
        if expected is None or wanted is None or wanted.without_link is None:
            assert wanted is None or wanted.without_link is None or expected is not None, f"seed {SEED}: {text}"
            continue
        tried += 1
        telling += 0 < len(expected) < len(packets)
        assert replayed.selects(wanted, packets) == {numbers[one] for one in expected}, f"raw, seed {SEED}: {text}"
    replaying.interface(LOOPBACK)
    assert telling > tried // 4, telling


def test_packets_cut_by_a_capture_keep_their_length(replaying: Programs, tmp_path: Path) -> None:
    packets = [packet for packet in frames(SEED + 2, SYNS) if len(packet) > 200]
    kept = 140  # more than any headers here
    capture = tmp_path / "cut.pcap"
    write_capture(capture, packets, snaplen=kept)
    for text in ("len > 400", "greater 1000", "ether[150] & 0 = 0", "ether[139] & 0 = 0", "tcp and len % 3 = 1"):
        wanted = parse(text)
        replaying.set_filter(wanted, replay=True, xdp=False)
        for packet in packets:
            replaying.run(Road.TC_INGRESS, packet[:kept], at_ns=NS_PER_S, wire_len=len(packet))
        replaying.sweep(now_ns=NS_PER_S, flush=True)
        ports = {int(port) for port in replaying.events()["client_port"]}
        replaying.payloads()
        found = {number for number, packet in enumerate(packets) if _port_of(packet) in ports}
        assert found == tcpdump_selects(capture, text), text


def _port_of(frame: bytes) -> int:
    segment = decode(frame).segment
    assert segment is not None
    return segment.sport


def test_a_blank_expression_selects_all_and_a_later_syn_follows_its_handshake(filtered: Programs) -> None:
    frame, other = frames(SEED, 2)
    filtered.drain()
    before = filtered.counters()
    filtered.set_filter(parse(""))
    filtered.run(Road.TC_INGRESS, frame)
    filtered.set_filter(parse("udp"))
    filtered.run(Road.TC_INGRESS, frame)  # a retransmission: not asked again
    filtered.run(Road.TC_INGRESS, other)
    assert filtered.sweep(flush=True) == 0
    (event,) = filtered.events()
    assert event["syn_count"] == 2
    after = filtered.counters()
    assert {name: after[name] - before[name] for name in ("opened", "filtered", "syns")} == {
        "opened": 1, "filtered": 1, "syns": 3,
    }  # fmt: skip
    filtered.drain()


def test_an_unwanted_syn_leaves_the_old_handshake_of_its_ports_alone(filtered: Programs) -> None:
    flow = C
    filtered.set_filter(parse("tcp dst port 443"))
    filtered.drain()
    before = filtered.counters()
    filtered.run(Road.TC_INGRESS, flow.frame(SYN, 1))
    filtered.set_filter(parse("udp"))
    filtered.run(Road.TC_INGRESS, flow.frame(SYN, 2))
    assert len(filtered.events()) == 0
    assert filtered.sweep() == 1
    after = filtered.counters()
    assert (after["opened"] - before["opened"], after["filtered"] - before["filtered"]) == (1, 1)
    filtered.sweep(flush=True)
    assert len(filtered.events()) == 1
    filtered.drain()


@pytest.mark.parametrize("words", [200, 330])
def test_long_expressions_are_taken(filtered: Programs, words: int) -> None:
    """An expression of many hosts, of which the last one matches: the verifier must follow all."""
    flow = C
    hosts = [f"10.{number >> 8}.{number & 255}.1" for number in range(words)]
    wanted = parse(" or ".join(f"src host {host}" for host in hosts) + " or dst host 198.51.100.2")
    filtered.set_filter(wanted)
    for road in (Road.TC_INGRESS, Road.XDP):
        filtered.run(road, flow.frame(SYN, 7))
        filtered.sweep(flush=True)
        assert len(filtered.events()) == 1
