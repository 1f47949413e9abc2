"""Made-up handshake records, as many and as odd as a test needs, in the layout of recorded ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.support.recording import Recording, load
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.handshake.causes import DTYPES, TWIN, Causes
from tracer.handshake.durations import measure
from tracer.handshake.events import U8, Events
from tracer.handshake.outcome import judge
from tracer.handshake.rows import Rows
from tracer.handshake.syn_payloads import NO_PAYLOADS, SynPayload, SynPayloads
from tracer.ipc.traced import TracedInterface
from tracer.records.life import lived
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows
from tracer.store.store import Store
from tracer.vocabulary.vocabulary import (
    Cause,
    CauseAt,
    ClientFail,
    Confidence,
    CookieCheck,
    HandshakeCause,
    HandshakeResult,
    ResetFrom,
    SettleReason,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lab_events.npz"
INTERFACES = {
    1: TracedInterface(1, "lo", "tcx", "a test", mtu=65536),
    2: TracedInterface(2, "eth0", "tcx", "a test", mtu=1400),
    3: TracedInterface(3, "wg0", "tcx", "a test", through=("vxlan", "gre")),
}
ACCEPTED = ("data_acked", "data_acked_new_cookie")
START_NS = 1_000_000_000_000


@lru_cache(maxsize=1)
def golden() -> Recording:
    """The recorded lab."""
    return load(GOLDEN)


@lru_cache(maxsize=1)
def golden_events() -> Events:
    """All records of the recorded lab in one array."""
    return np.concatenate([events for events, _ in golden().batches])


@lru_cache(maxsize=1)
def golden_parts() -> list[Events]:
    """The same, some twenty at a time: most recorded batches are of one or two, and each costs as much as many rows."""
    events = golden_events()
    return np.array_split(events, len(events) // 20)


def addresses(rng: np.random.Generator, count: int, distinct: int | None = None) -> U8:
    """[count, 16] addresses, half of them IPv4, of at most so many distinct ones."""
    found = rng.integers(0, 256, (distinct or count, 16), dtype=np.uint8)
    mapped = rng.random(len(found)) < 0.5
    found[mapped, :10] = 0
    found[mapped, 10:12] = 255
    found[~mapped, 0] = 0x20
    chosen: U8 = found if distinct is None else found[rng.integers(0, distinct, count)]
    return chosen


def random_events(
    rng: np.random.Generator, count: int, *, peers: int | None = 50, odd: bool = True, lives: bool = False
) -> Events:
    """Recorded handshakes with other ends, times and, if `odd`, with numbers no lab would give them.

    `lives`: with what few handshakes have of their life after the SYN-ACK.
    """
    recorded = golden_events()
    events = recorded[rng.integers(0, len(recorded), count)].copy()
    events["id"] = rng.integers(0, 1 << 63, count, dtype=np.uint64)
    events["client"] = addresses(rng, count, peers)
    events["server"] = addresses(rng, count, peers)
    events["client_port"] = rng.integers(1024, 65536, count)
    events["ifindex"] = rng.integers(1, 5, count)  # 4 is not known
    begun = START_NS + np.sort(rng.integers(0, 60_000_000_000, count)).astype(np.int64)
    shift = begun - events["syn_ns"].astype(np.int64)
    for name in ("syn_ns", "synack_ns", "ack_ns", "response_ns", "settled_ns"):
        happened = events[name] != 0
        events[name][happened] = (events[name].astype(np.int64) + shift)[happened].astype(np.uint64)
    if lives:
        _add_lives(rng, events)
    if not odd:
        return events
    for name, highest in (("server_port", 1 << 16), ("syn_count", 256), ("late_syns", 4), ("one_way", 2)):
        events[name] = np.where(rng.random(count) < 0.2, rng.integers(0, highest, count), events[name])
    events["vlan"] = np.where(rng.random((count, 2)) < 0.2, rng.integers(0, 4096, (count, 2)), 0)
    events["result"] = np.where(rng.random(count) < 0.2, rng.integers(1, len(HandshakeResult), count), events["result"])
    events["reason"] = rng.integers(1, len(SettleReason), count)
    events["icmp_type"] = rng.integers(0, 256, count)
    events["icmp_from"][:, 10:] = np.where(rng.random((count, 1)) < 0.7, [0xFF, 0xFF, 192, 0, 2, 9], 0)
    for segment in ("syn", "synack"):
        facts = events[segment]
        for name, highest in (
            ("mss", 1 << 16), ("window", 1 << 16), ("wscale", 256), ("ttl", 256), ("tcp_flags", 1 << 9),
            ("has", 1 << 10),
        ):  # fmt: skip
            facts[name] = np.where(rng.random(count) < 0.2, rng.integers(0, highest, count), facts[name])
    # what makes them a SYN and a SYN-ACK is sure
    events["syn"]["has"] |= 1
    events["syn"]["tcp_flags"] = events["syn"]["tcp_flags"] & 0xFEF | 0x02
    events["synack"]["tcp_flags"] |= 0x12
    events["synack"][events["synack"]["has"] & 1 == 0] = 0
    return events


def _add_lives(rng: np.random.Generator, events: Events) -> None:
    """What few handshakes have: a reset, misfits, copies, a second host's SYN-ACK, a request sent again."""
    count = len(events)
    for name, highest in (
        ("reset_from", len(ResetFrom)), ("reset_ttl", 256), ("misfit_rsts", 5), ("misfit_synacks", 2),
        ("misfit_icmps", 2), ("copies", 4), ("synack_isns", 3), ("synacks_after_ack", 3), ("request_acked", 2),
        ("request_repeats", 4), ("client_fin", 2), ("resumed", len(HandshakeResult)),
    ):  # fmt: skip
        events[name] = np.where(rng.random(count) < 0.3, rng.integers(0, highest, count), 0)
    events["request_ns"] = np.where(rng.random(count) < 0.7, events["syn_ns"] + np.uint64(1_234_567), 0)
    events["retx_flags"] = rng.choice([0, 0x40, 0xC0, 0xC1], (count, 6))
    rows = np.flatnonzero((events["result"] == HandshakeResult.ESTABLISHED) & (rng.random(count) < 0.4))
    events["response_ns"][rows] = 0
    ends = (SettleReason.BY_RST, SettleReason.BY_FIN, SettleReason.BY_TIMEOUT, SettleReason.AT_END)
    events["reason"][rows] = rng.choice(np.array(ends), len(rows))
    rows = np.flatnonzero((events["synack"]["has"] != 0) & (rng.random(count) < 0.2))
    first = events["first_answer"]
    for name in ("seq", "ack", "ts_ecr", "has", "tfo_kind", "cookie_len"):
        first[name][rows] = events["synack"][name][rng.permutation(rows)]
    first["has"][rows] |= 1
    first["ns"][rows] = events["syn_ns"][rows] + np.uint64(1000)
    first["cookie"] = rng.integers(0, 3, (count, 16))


def worked(record: Handshake) -> bool:
    """Did the SYN-ACK that the client took ack all of the SYN's data, and did the connection live?"""
    taken = record.synack is not None and record.synack.acked_payload_len > 0
    return record.tfo.outcome in ACCEPTED and taken and lived(record.handshake) and record.tfo.group != "failed"


def random_payloads(rng: np.random.Generator, events: Events, share: float = 0.7) -> list[SynPayload]:
    """What some of the SYNs with data carry: recorded ClientHellos, requests, queries and noise."""
    recorded = golden().payloads
    found = []
    for row in np.flatnonzero(events["syn"]["payload_len"]).tolist():
        if rng.random() < share:
            one = recorded[int(rng.integers(0, len(recorded)))]
            found.append(SynPayload(int(events["id"][row]), int(events["syn_ns"][row]), one.wire_len, one.data))
    return found


def batch_of(
    events: Events,
    vantage: U8 | None = None,
    payloads: SynPayloads = NO_PAYLOADS,
    causes: Causes | None = None,
) -> Batch:
    """A batch as the pipeline makes it."""
    seen = np.ones(len(events), np.uint8) if vantage is None else vantage
    verdicts = judge(events)
    return Batch(events, verdicts, measure(events, verdicts, seen), seen, payloads, causes or Causes.none(len(events)))


def random_batch(seed: int, count: int, *, peers: int | None = 50, odd: bool = True, payloads: bool = True) -> Batch:
    """Rows by a seed."""
    rng = np.random.default_rng(seed)
    events = random_events(rng, count, peers=peers, odd=odd, lives=odd)
    vantage = rng.integers(0, 4, count).astype(np.uint8)
    made = SynPayloads.of(random_payloads(rng, events) if payloads else [])
    kinds = (Cause, Confidence, CookieCheck, ClientFail, HandshakeCause, Confidence, CauseAt)
    sizes = [*(len(kind) for kind in kinds), 1, 1, 1]  # and no words of the kernel
    numbers = rng.integers(0, sizes, (count, len(sizes))).astype(np.uint8)
    # a cause and how sure it is come together, and most rows have none
    numbers[(numbers[:, :2] == 0).any(axis=1) | (rng.random(count) < 0.8), :2] = 0
    numbers[(numbers[:, 4:6] == 0).any(axis=1) | (rng.random(count) < 0.8), 4:] = 0
    nat = np.zeros(count, TWIN)
    rows = np.flatnonzero(rng.random(count) < 0.1)
    nat["id"][rows] = rng.integers(1, 1 << 63, len(rows), dtype=np.uint64)
    for end in ("client", "server"):
        nat[end][rows] = addresses(rng, len(rows))
        nat[f"{end}_port"][rows] = rng.integers(0, 1 << 16, len(rows))
    changed = np.zeros(count, DTYPES["changed"])
    causes = Causes(*(column.copy() for column in numbers.T), nat.view(DTYPES["nat"]), changed)
    return batch_of(events, vantage, made, causes)


def new_store(limit: int = 100_000, refresh_ns: int = 0) -> Store:
    """A store whose clock is stopped after all made-up records."""
    composer = Composer(INTERFACES, offset_ns=1_700_000_000_000_000_000)
    return Store(limit, composer=composer, clock=lambda: START_NS + 80_000_000_000, refresh_ns=refresh_ns)


def parts_of(rows: StoreRows) -> Iterator[Rows]:
    """All rows, the oldest first, some thousand at a time."""
    for chunk, begin, end in rows.pieces():
        yield chunk.part(begin, end)


def records_of(rows: StoreRows) -> list[Handshake]:
    """The records of all rows, made together."""
    return rows.gather(np.arange(len(rows)))
