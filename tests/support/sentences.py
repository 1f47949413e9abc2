"""A handshake as a sentence: its packets with their times, and the expected result.

Times are milliseconds of the test's own clock, which programs built for replay take from the test; the attached
programs run the same sentences at full speed. There a segment that is sent again is a copy by a mirror port, so
sentences with retransmissions need the clock.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tracer.vocabulary.addresses import ip_text
from tracer.vocabulary.vocabulary import HandshakeResult, SettleReason

from .decoder import ACK, FIN, RST, SYN
from .packets import Flow, address, ethernet, ipv4, ipv6, option, padded
from .testrun import Programs, Road, imbalance

START_NS = 1_000_000_000_000_000
ISN = 1000
SERVER_ISN = 5000
C = Flow(address("192.0.2.1"), address("198.51.100.2"), 40000, 443)
C6 = Flow(address("2001:db8::1"), address("2001:db8::2"), 40000, 443)

ESTABLISHED, REJECTED = HandshakeResult.ESTABLISHED, HandshakeResult.REJECTED
ABORTED, UNREACHABLE = HandshakeResult.ABORTED, HandshakeResult.UNREACHABLE
NO_REPLY, HALF_OPEN = HandshakeResult.NO_REPLY, HandshakeResult.HALF_OPEN
SIMULTANEOUS, ON_ESTABLISHED = HandshakeResult.SIMULTANEOUS_OPEN, HandshakeResult.SYN_ON_ESTABLISHED
BY_RESPONSE, BY_NEW_SYN = SettleReason.BY_RESPONSE, SettleReason.BY_NEW_SYN
BY_RST, BY_ICMP, BY_FIN = SettleReason.BY_RST, SettleReason.BY_ICMP, SettleReason.BY_FIN
BY_TIMEOUT, BY_ACK, AT_END = SettleReason.BY_TIMEOUT, SettleReason.BY_ACK, SettleReason.AT_END


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame at a given time."""

    at: float
    frame: bytes
    egress: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep at a given time, and how many handshakes must be open after it."""

    at: float
    open: int


@dataclass(frozen=True, slots=True)
class Interface:
    """From here on lo is configured so."""

    group: int = 0
    no_link_header: bool = False
    traced: bool = True


Step = Packet | Sweep | Interface


@dataclass(frozen=True, slots=True)
class Sentence:
    """`records` are partial, in the order of settling, which those that the end settles have not; `counts` names every
    counter but those of DULL that moves."""

    says: str
    steps: Sequence[Step]
    records: Sequence[dict[str, Any]]
    counts: dict[str, int] = field(default_factory=dict)
    clocked: bool = False  # needs the test's clock, or egress

    def __str__(self) -> str:
        return self.says


DULL = {"opened", "emitted", "packets", "not_tcp", "syns", "synacks", "payloads"}


def at(ms: float) -> int:
    """The clock's value in nanoseconds at a time of a sentence."""
    return START_NS + round(ms * 1_000_000)


def timestamps(value: int, echo: int = 0) -> bytes:
    """The usual layout of RFC 7323, Appendix A."""
    return b"\x01\x01" + option(8, struct.pack("!II", value, echo))


TFO_REQUEST = padded(option(34))


def marked(packet: Packet, *, ident: int = 0, ttl: int = 64) -> Packet:
    """The packet with this IPv4 identification and TTL (or hop limit). It has no VLAN tag."""
    frame = bytearray(packet.frame)
    if frame[14] >> 4 == 4:
        frame[18:20] = ident.to_bytes(2, "big")
    frame[22 if frame[14] >> 4 == 4 else 21] = ttl
    return Packet(packet.at, bytes(frame), packet.egress)


def syn(
    ms: float,
    isn: int = ISN,
    *,
    data: int = 0,
    flow: Flow = C,
    options: bytes = b"",
    egress: bool = False,
    flags: int = SYN,
) -> Packet:
    """The client's SYN."""
    return Packet(ms, flow.frame(flags, isn, payload=bytes(data), options=options), egress)


def synack(
    ms: float,
    acked: int = 0,
    isn: int = SERVER_ISN,
    *,
    of: int = ISN,
    data: int = 0,
    flow: Flow = C,
    egress: bool = False,
    options: bytes = b"",
    flags: int = SYN | ACK,
) -> Packet:
    """The server's SYN-ACK that takes `acked` bytes of the data of the SYN `of`."""
    frame = flow.back.frame(flags, isn, of + 1 + acked, payload=bytes(data), options=options)
    return Packet(ms, frame, egress)


def from_client(
    ms: float,
    seq: int = ISN + 1,
    ack: int = SERVER_ISN + 1,
    *,
    data: int = 0,
    flags: int = ACK,
    flow: Flow = C,
    options: bytes = b"",
) -> Packet:
    """A segment from the client, by default an ACK."""
    return Packet(ms, flow.frame(flags, seq, ack, payload=bytes(data), options=options))


def from_server(
    ms: float,
    seq: int = SERVER_ISN + 1,
    ack: int = ISN + 1,
    *,
    data: int = 0,
    flags: int = ACK,
    flow: Flow = C,
    options: bytes = b"",
) -> Packet:
    """A segment from the server, by default an ACK."""
    return Packet(ms, flow.back.frame(flags, seq, ack, payload=bytes(data), options=options))


ROUTERS = {4: "203.0.113.9", 6: "2001:db8:9::9"}  # whose ICMP errors come


def icmp(ms: float, kind: int, code: int, *, seq: int = ISN, flow: Flow = C, quoted_bytes: int = 8) -> Packet:
    """An ICMP or ICMPv6 error from a router that quotes the client's SYN, with `quoted_bytes` of its TCP header."""
    segment = flow.frame(SYN, seq)[14 + 4 * len(flow.vlans) :]
    header = 20 if flow.is_ipv4 else 40
    body = bytes([kind, code]) + bytes(6) + segment[: header + quoted_bytes]
    if flow.is_ipv4:
        packet = ipv4(address(ROUTERS[4]), flow.src, body, protocol=1)
    else:
        packet = ipv6(address(ROUTERS[6]), flow.src, body, protocol=58)
    return Packet(ms, ethernet(packet, flow.vlans))


def rst(ms: float, *, seq: int = 0, ack: int = ISN + 1, flags: int = RST | ACK, flow: Flow = C) -> Packet:
    """The server's RST."""
    return Packet(ms, flow.back.frame(flags, seq, ack))


def client_fin(ms: float, seq: int = ISN + 1) -> Packet:
    """The client's FIN, which is also its first ACK."""
    return from_client(ms, seq, flags=FIN | ACK)


def tell(sentence: Sentence, programs: Programs, road: Road | None) -> None:
    """Sends the packets and compares; `road` None: programs built for replay, with the sentence's clock."""
    before = programs.counters()
    last = 0.0
    for step in sentence.steps:
        if isinstance(step, Interface):
            programs.interface(1, group=step.group, no_link_header=step.no_link_header, traced=step.traced)
        elif isinstance(step, Sweep):
            last = step.at
            assert programs.sweep(now_ns=at(step.at)) == step.open, f"open after the sweep at {step.at} ms"
            assert imbalance(before, programs.counters(), step.open) == 0
        else:
            last = step.at
            default = Road.TC_EGRESS if step.egress else Road.TC_INGRESS
            programs.run(road or default, step.frame, at_ns=0 if road else at(step.at))
    live = programs.sweep(now_ns=0 if road else at(last))
    assert imbalance(before, programs.counters(), live) == 0
    assert programs.sweep(now_ns=0 if road else at(last), flush=True) == 0
    after = programs.counters()
    assert imbalance(before, after, 0) == 0
    _compare(sentence, programs.events(), clock=road is None)
    moved = {name: after[name] - before[name] for name in after if after[name] != before[name] and name not in DULL}
    assert moved == sentence.counts


def _compare(sentence: Sentence, events: Any, *, clock: bool) -> None:
    assert len(events) == len(sentence.records), f"settled: {[(int(e['result']), int(e['reason'])) for e in events]}"
    for event in events:
        sender = ip_text(event["icmp_from"].tobytes())
        assert sender == (ROUTERS[int(event["family"])] if event["result"] == UNREACHABLE else "::")
    settled = [event for event in events if event["reason"] != AT_END]
    left = [event for event in events if event["reason"] == AT_END]
    for event, record in zip(settled, sentence.records, strict=False):
        found, expected = _both(event, record, clock=clock)
        assert found == expected
    open_ones = sentence.records[len(settled) :]
    if not any(_all_alike(left, order, clock=clock) for order in itertools.permutations(open_ones)):
        for event, record in zip(left, open_ones, strict=True):
            found, expected = _both(event, record, clock=clock)
            assert found == expected


def _all_alike(events: Sequence[Any], records: Sequence[dict[str, Any]], *, clock: bool) -> bool:
    pairs = [_both(event, record, clock=clock) for event, record in zip(events, records, strict=True)]
    return all(found == expected for found, expected in pairs)


def _both(event: Any, record: dict[str, Any], *, clock: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was found and what is expected, both without times where there was no clock."""
    found = {name: _plain(event, name) for name in record}
    if clock:
        return found, record
    return {k: _timeless(k, v) for k, v in found.items()}, {k: _timeless(k, v) for k, v in record.items()}


def _timeless(name: str, value: Any) -> Any:
    """Without the test's clock only whether something happened can be compared."""
    return bool(value) if name.endswith(("_ns", ".ns")) else value


def _plain(event: Any, name: str) -> Any:
    if name == "retx":
        return [(int(r["after_us"]), int(r["ts_val"])) for r in event["retx"][: int(event["retx_count"])]]
    outer, _, inner = name.partition(".")
    value = event[outer][inner] if inner else event[outer]
    return value.tolist()
