"""20,000 frames, valid and damaged, through two real programs and through an independent decoder: no disagreement.

They are 50,000 in the long form. TFOTRACE_FRAMES and TFOTRACE_SEED in the environment set their number and seed (make
fuzz-kernel).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.support import longer
from tests.support.decoder import ACK, RST, SYN, Segment, decode, handshake_id
from tests.support.packets import Flow, Maker
from tests.support.testrun import Programs, Road
from tracer.vocabulary.vocabulary import HandshakeResult, Has

FRAMES = longer.number("TFOTRACE_FRAMES", 20_000, 50_000)
BATCH = 4_000
SEED = int(os.environ.get("TFOTRACE_SEED", "20261123"))
PLAIN_ISN = 0x7FFFFFF0
NO_OFFSET = 255
EMPTY = dict.fromkeys(("seq", "ack", "ts_val", "ts_ecr", "payload_len", "window", "mss", "has", "tcp_flags"), 0)


def columns(s: Segment | None) -> dict[str, Any]:
    """A segment as `struct segment_facts` should hold it."""
    if s is None:
        zero = ("wscale", "ttl", "tos", "ip_header_extra", "quirks", "options_len", "ts_offset", "tfo_offset")
        return {**EMPTY, **dict.fromkeys((*zero, "tfo_kind", "cookie_len"), 0), "options": bytes(40)}
    o = s.options
    has = {
        Has.SEGMENT: True,
        Has.MSS: o.mss is not None,
        Has.WSCALE: o.wscale is not None,
        Has.SACK: o.sack,
        Has.TIMESTAMPS: o.ts_val is not None,
        Has.TFO: o.tfo_kind is not None,
        Has.TFO_MALFORMED: o.tfo_malformed,
        Has.MPTCP: o.mptcp,
        Has.MD5: o.md5,
        Has.AO: o.ao,
        Has.BAD_OPTIONS: o.unfinished,
    }
    # event.h: QUIRK_*, bit by bit.
    quirks = (s.dont_fragment, s.ip_id, s.ip_reserved, s.flow_label, s.urgent_pointer)
    return {
        "seq": s.seq,
        "ack": s.ack,
        "ts_val": o.ts_val or 0,
        "ts_ecr": o.ts_ecr or 0,
        "payload_len": len(s.payload),
        "window": s.window,
        "mss": o.mss or 0,
        "has": sum(bit.value for bit, there in has.items() if there),
        "tcp_flags": s.flags,
        "wscale": o.wscale or 0,
        "ttl": s.ttl,
        "tos": s.tos,
        "ip_header_extra": min(s.extra, 255),
        "quirks": sum(1 << i for i, there in enumerate(quirks) if there),
        "options_len": len(s.option_bytes),
        "ts_offset": NO_OFFSET if o.ts_at is None else o.ts_at,
        "tfo_offset": NO_OFFSET if o.tfo_at is None else o.tfo_at,
        "tfo_kind": o.tfo_kind or 0,
        "cookie_len": len(o.tfo_cookie),
        "options": s.option_bytes.ljust(40, b"\0"),
    }


@dataclass(slots=True)
class Expected:
    """One record that must come, in its place among the others."""

    frame: bytes
    client: Flow
    isn: int
    family: int
    syn: Segment
    synack: Segment | None
    result: HandshakeResult


@dataclass(slots=True)
class Run:
    """One path through a batch: what is expected so far."""

    programs: Programs
    road: Road
    records: list[Expected] = field(default_factory=list)
    payloads: list[tuple[int, bytes]] = field(default_factory=list)
    refused: int = 0
    counters: Any = None
    index: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = {name: i for i, name in enumerate(self.programs.counter_names)}
        self.counters = self.programs.packet_counters()

    def send(self, frame: bytes, rising: set[str]) -> None:
        """Runs a frame; exactly the counters `rising` and `packets` must rise, each by one."""
        self.programs.run(self.road, frame)
        after = self.programs.packet_counters()
        expected = np.zeros_like(after)
        expected[[self.index[name] for name in rising]] = 1
        expected[self.index["packets"]] = 1
        delta = after - self.counters
        if not np.array_equal(delta, expected):
            found = {name: int(delta[i]) for name, i in self.index.items() if delta[i]}
            pytest.fail(f"{self.road}: {frame.hex()} counted {found}, expected {sorted(rising)}")
        self.counters = after

    def judge(self, frame: bytes, number: int) -> None:
        """Runs one frame of the maker, with what it needs before and after to become one record."""
        if self.road is Road.TC_INGRESS and not kernel_takes(frame):
            self.refused += 1
            return
        verdict = VERDICTS[number % BATCH]
        s = verdict.segment
        if s is None or not s.flags & SYN:
            self.send(frame, verdict.counters)
            return
        flow = Flow(s.src, s.dst, s.sport, s.dport, s.vlans)
        if s.family == 4 and not flow.is_ipv4:
            pytest.fail("the decoder maps IPv4 addresses")
        if s.is_syn:
            self.open(frame, s, flow, verdict.counters)
            self.send(flow.back.frame(RST | ACK, 0, s.seq + 1), {"emitted"})
            self.records.append(Expected(frame, flow, s.seq, s.family, s, None, HandshakeResult.REJECTED))
            return
        # How much of the plain SYN's data the SYN-ACK takes is the test's choice, its ack number is the maker's.
        client = flow.back
        data = bytes(number % 7)
        isn = (s.ack - 1 - min(number % 5, len(data))) & 0xFFFFFFFF
        plain = client.frame(SYN, isn, payload=data)
        first = decode(plain).segment
        assert first is not None
        self.open(plain, first, client, set())
        # the plain SYN asked for nothing
        unsolicited = {"tfo_unsolicited"} if s.options.tfo_kind is not None else set()
        self.send(frame, verdict.counters | {"synacks"} | unsolicited)
        self.send(client.frame(RST, isn + 1), {"emitted"})
        self.records.append(Expected(frame, client, isn, s.family, first, s, HandshakeResult.ABORTED))

    def open(self, frame: bytes, s: Segment, flow: Flow, rising: set[str]) -> None:
        """A first SYN."""
        self.send(frame, rising | {"syns", "opened"} | ({"payloads"} if s.payload else set()))
        if s.payload:
            self.payloads.append((handshake_id(flow.src, flow.dst, flow.sport, flow.dport, s.seq), s.payload))

    def compare(self) -> None:
        """Holds the records of the batch against what was expected, column by column."""
        events = self.programs.events()
        assert len(events) == len(self.records)
        want: dict[str, list[Any]] = {}
        for record in self.records:
            client = record.client
            vlans = [*client.vlans, 0, 0][:2]
            row = {
                "id": handshake_id(client.src, client.dst, client.sport, client.dport, record.isn),
                "client": list(client.src),
                "server": list(client.dst),
                "client_port": client.sport,
                "server_port": client.dport,
                "vlan": vlans,
                "family": record.family,
                "result": record.result,
                "ifindex": 1,
                "syn_count": 1,
                "synack_count": int(record.synack is not None),
                **{f"syn.{name}": value for name, value in columns(record.syn).items()},
                **{f"synack.{name}": value for name, value in columns(record.synack).items()},
            }
            for name, value in row.items():
                want.setdefault(name, []).append(list(value) if isinstance(value, bytes) else value)
        for name, values in want.items():
            outer, _, inner = name.partition(".")
            found = events[outer][inner] if inner else events[outer]
            wrong = np.atleast_2d((found != np.array(values, found.dtype)).T).any(axis=0)
            if wrong.any():
                at = int(np.argmax(wrong))
                frame = self.records[at].frame.hex()
                pytest.fail(f"{self.road}: {name} of {frame} is {found[at]}, expected {values[at]}")
        found_payloads = [(p.id, p.data) for p in self.programs.payloads()]
        assert found_payloads == self.payloads
        self.records.clear()
        self.payloads.clear()


VERDICTS: list[Any] = []


def kernel_takes(frame: bytes) -> bool:
    """BPF_PROG_TEST_RUN of a tc program refuses an empty packet and less than an IP header behind an IP ethertype."""
    least = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14], 15)
    return len(frame) >= least


@pytest.mark.timeout(max(400, FRAMES // 100))
def test_frames_mean_the_same_to_programs_and_decoder(programs: Programs) -> None:
    maker = Maker(SEED)
    roads = [Run(programs, Road.TC_INGRESS), Run(programs, Road.XDP)]
    opened = 0
    seen: set[str] = set()
    for start in range(0, FRAMES, BATCH):
        frames = [maker.frame() for _ in range(BATCH)]
        VERDICTS[:] = [decode(frame) for frame in frames]
        for verdict in VERDICTS:
            seen |= verdict.counters
        for run in roads:
            run.counters = programs.packet_counters()
            for number, frame in enumerate(frames, start):
                run.judge(frame, number)
            opened += len(run.records)
            run.compare()
            # Tombstones would take the same SYN on the other road for a late one.
            assert programs.sweep(flush=True) == 0
            assert len(programs.events()) == 0
    # The maker has to reach every corner, or agreeing means little.
    assert opened > FRAMES
    assert roads[0].refused < FRAMES // 20
    told = {name for name in programs.counter_names if name.startswith(("malformed", "not_read"))}
    assert told | {"fragments", "not_tcp"} <= seen
