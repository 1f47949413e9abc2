"""Records per second through the user part, in one thread, with records of real handshakes.

The programs are attached to a veth; a batch of handshakes, half of them with a TLS ClientHello in the SYN, fills the
ring while nobody reads. Then we time draining the ring once, judging its events and adding them up. For JSON lines the
same events and their payloads go through Composer and encoder to /dev/null, in batches as at a busy moment. "A second"
is a second of the thread's CPU time (user and system), so that other processes matter little.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from bench.bcc_callback import BccCallbacks
from bench.common import Row, Spread, loaded_programs
from tests.support.load import SERVER, Wire, wire
from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.benefit import BenefitTable
from tracer.causes.judge import CauseJudge
from tracer.encode.composer import Composer
from tracer.handshake.batch import decode
from tracer.handshake.events import Events
from tracer.handshake.syn_payloads import NO_PAYLOADS, SynPayload, SynPayloads
from tracer.handshake.vantage import LocalSet
from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype
from tracer.ipc.traced import TracedInterface
from tracer.linux import bpfsys, netns
from tracer.linux.allocator import give_back_early
from tracer.linux.collector import collect_seldom
from tracer.linux.interfaces import find
from tracer.loader.load import LoadOptions
from tracer.ring.drain import BATCH_BYTES, RingEvents, RingPayloads
from tracer.ring.payloads import PayloadCache
from tracer.ring.ringbuf import Ring
from tracer.root.kernel import Kernel
from tracer.sinks.jsonl import JsonLines
from tracer.sinks.stream import Stream
from tracer.store.store import Store

RECORDS_TARGET = 5_000_000
LINES_TARGET = 150_000
# a ring of the usual 8 MiB holds 19,000
BATCH = 18_000
OPTIONS = LoadOptions(payload_ring_bytes=32 << 20)
JSON_BATCH = 1000
SNAPSHOT_EVERY = 5000  # four a second at 20,000 records a second


@dataclass
class Sample:
    """Records of real handshakes and their payloads."""

    events: Events
    payloads: SynPayloads
    local: LocalSet
    interface: TracedInterface


def _local() -> LocalSet:
    text = "".join(f"{int(part):02x}" for part in SERVER[4].split("."))
    return LocalSet([bytes(10) + b"\xff\xff" + bytes.fromhex(text)], [(bytes(10) + b"\xff\xff\x7f" + bytes(3), 104)])


@dataclass
class Tap:
    """The programs attached to the server's eth0, and their mapped rings."""

    hosts: Wire
    kernel: Kernel
    ring: Ring
    payload_ring: Ring
    links: list[int]
    ifindex: int

    def fill(self) -> None:
        """Send one batch of handshakes into the ring."""
        before = self.ring.fill
        self.hosts.handshakes(BATCH, processes=2, tfo_percent=50)
        counters = self.kernel.counters()
        assert counters["lost"] == counters["payloads_lost"] == 0, counters
        assert self.ring.fill > before

    def close(self) -> None:
        """Detach and unmap."""
        for link in self.links:
            os.close(link)


def attach_tap(hosts: Wire, kernel: Kernel) -> Tap:
    """Attach by TCX links, as a run does if it can."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        netns.enter(hosts.server.path)
        interface = find("eth0")
        programs = kernel.loaded.programs
        links = [
            bpfsys.link_create_tcx(programs["tc_ingress"], interface.index, bpfsys.TCX_INGRESS),
            bpfsys.link_create_tcx(programs["tc_egress"], interface.index, bpfsys.TCX_EGRESS),
        ]
    finally:
        netns.enter(f"/proc/self/fd/{home}")
        os.close(home)
    kernel.trace_interface(interface.index, interface.index, True)
    maps = kernel.loaded.maps
    return Tap(hosts, kernel, Ring(maps["events"], OPTIONS.event_ring_bytes),
               Ring(maps["payloads"], OPTIONS.payload_ring_bytes), links, interface.index)  # fmt: skip


def iter_batches(reader: RingEvents) -> Iterator[Events]:
    """Everything in the ring."""
    while len(events := reader.read()):
        yield events


def record_sample(tap: Tap) -> Sample:
    """One batch with its payloads."""
    dtype = to_dtype(struct("handshake_event"))
    reader, payload_reader = RingEvents(tap.ring, dtype), RingPayloads(tap.payload_ring)
    cache = PayloadCache(256 << 20)
    tap.fill()
    # as plain bytes: numpy drops a structure's padding when it concatenates
    events = np.concatenate([batch.view(f"V{dtype.itemsize}") for batch in iter_batches(reader)]).view(dtype)
    cache.add(payload_reader.read())
    interface = TracedInterface(tap.ifindex, "eth0", "tcx", "")
    payloads = SynPayloads.of(map(_individual, cache.take(events).values()))
    return Sample(events, payloads, _local(), interface)


def _individual(payload: SynPayload) -> SynPayload:
    """Give each ClientHello, which are all equal, its own random and session id, as in reality."""
    data = payload.data
    assert data[43] == 32, "no session id of 32 bytes"
    return replace(payload, data=data[:11] + os.urandom(32) + data[43:44] + os.urandom(32) + data[76:])


def sample() -> Sample:
    """A sample for other measurements."""
    with wire() as hosts, loaded_programs(OPTIONS) as kernel:
        tap = attach_tap(hosts, kernel)
        try:
            return record_sample(tap)
        finally:
            tap.close()


class Sums:
    """Everything that a run with --quiet does with records."""

    PARTS = ("judge and durations", "causes", "sums", "benefit")

    def __init__(self, local: LocalSet) -> None:
        self._local = local
        self._causes, self._aggregate, self._benefit = CauseJudge(), Aggregate(), BenefitTable()

    def add(self, events: Events) -> None:
        """Add one batch."""
        batch = self._causes.judge(decode(events, self._local, NO_PAYLOADS))
        self._aggregate.add(batch)
        self._benefit.add(batch)

    def add_timed(self, events: Events, spent: list[float]) -> None:
        """Add one batch and the CPU seconds of each of PARTS."""
        times = [time.thread_time()]
        judged = decode(events, self._local, NO_PAYLOADS)
        times.append(time.thread_time())
        batch = self._causes.judge(judged)
        times.append(time.thread_time())
        self._aggregate.add(batch)
        times.append(time.thread_time())
        self._benefit.add(batch)
        times.append(time.thread_time())
        for part in range(len(self.PARTS)):
            spent[part] += times[part + 1] - times[part]


def drain_rates(
    tap: Tap, rounds: int, local: LocalSet, peer: BccCallbacks
) -> tuple[list[float], list[float], list[float]]:
    """Records per second: the ring reader alone, reader to aggregates, and with payloads joined too. The peer has a
    round after each."""
    dtype = to_dtype(struct("handshake_event"))
    reader, payload_reader = RingEvents(tap.ring, dtype), RingPayloads(tap.payload_ring)
    reading: list[float] = []
    adding: list[float] = []
    joining: list[float] = []
    sums = Sums(local)
    for attempt in range(rounds + 1):
        tap.fill()
        batches: list[Events] = []
        read_s = added_s = 0.0
        while True:
            began = time.thread_time()
            events = reader.read()
            read = time.thread_time()
            if not len(events):
                break
            sums.add(events)
            added_s += time.thread_time() - began
            read_s += read - began
            batches.append(events)
        # separately: a run that only adds up gets no payloads
        began = time.thread_time()
        cache = PayloadCache(256 << 20)
        for events in batches:
            cache.add(payload_reader.read())
            cache.take(events)
        joined_s = added_s + time.thread_time() - began
        count = sum(map(len, batches))
        if not attempt:  # the first one maps the ring's pages, which stay mapped
            continue
        reading.append(count / read_s)
        adding.append(count / added_s)
        joining.append(count / joined_s)
        peer.round()
    return reading, adding, joining


def json_rate(sample: Sample, rounds: int, batch: int = JSON_BATCH) -> list[float]:
    """Full JSON lines per second from decoded events: judge, compose, encode, write to /dev/null."""
    rates = []
    for _ in range(rounds):
        stream = Stream(os.open(os.devnull, os.O_WRONLY), "/dev/null")
        sink = JsonLines(stream, Composer({sample.interface.index: sample.interface}))
        began = time.thread_time()
        for start in range(0, len(sample.events), batch):
            sink.write(decode(sample.events[start : start + batch], sample.local, sample.payloads))
        rates.append(len(sample.events) / (time.thread_time() - began))
        sink.close(None)
    return rates


def dashboard_rate(sample: Sample, rounds: int, batch: int) -> list[float]:
    """Records per second into the dashboard's store of 100,000, with a snapshot for each SNAPSHOT_EVERY."""
    store = Store(composer=Composer({sample.interface.index: sample.interface}))
    batches = [
        decode(sample.events[start : start + batch], sample.local, sample.payloads)
        for start in range(0, len(sample.events), batch)
    ]
    rates = []
    for attempt in range(rounds + 100_000 // len(sample.events) + 1):
        waiting = 0
        began = time.thread_time()
        for one in batches:
            store.write(one)
            waiting += len(one)
            if waiting >= SNAPSHOT_EVERY:
                store.snapshot()
                waiting = 0
        if attempt > 100_000 // len(sample.events):  # full
            rates.append(len(sample.events) / (time.thread_time() - began))
    return rates


def replay_rate(sample: Sample, rounds: int, batch: int) -> list[float]:
    """Records per second judged and added up from memory, in batches of this size."""
    rates = []
    sums = Sums(sample.local)
    for _ in range(rounds):
        began = time.thread_time()
        for start in range(0, len(sample.events), batch):
            sums.add(sample.events[start : start + batch])
        rates.append(len(sample.events) / (time.thread_time() - began))
    return rates


def cause_rate(sample: Sample, rounds: int, batch: int) -> list[float]:
    """Judged records per second whose causes are inferred; half of them have a cookie and data."""
    batches = [
        decode(sample.events[start : start + batch], sample.local, NO_PAYLOADS)
        for start in range(0, len(sample.events), batch)
    ]
    rates = []
    for _ in range(rounds):
        causes = CauseJudge()
        began = time.thread_time()
        for one in batches:
            causes.judge(one)
        rates.append(len(sample.events) / (time.thread_time() - began))
    return rates


def part_costs(sample: Sample, rounds: int, batch: int) -> Row:
    """The cost of each part of adding up per record, in batches as from the ring, and in tenths of these."""
    told = []
    for size in (batch, batch // 10):
        sums = Sums(sample.local)
        spent = [0.0] * len(Sums.PARTS)
        for attempt in range(rounds + 1):
            if attempt == 1:  # the first one fills the tables
                spent = [0.0] * len(Sums.PARTS)
            for start in range(0, len(sample.events), batch):
                sums.add_timed(sample.events[start : start + size], spent)
        batches = rounds * len(range(0, len(sample.events), batch))
        told.append([seconds / batches for seconds in spent])
    parts = []
    for name, whole, tenth in zip(Sums.PARTS, *told, strict=True):
        each = (whole - tenth) / (batch - batch // 10)
        parts.append(f"{name} {(whole - each * batch) * 1e6:.0f} us + {each * 1e9:.0f} ns")
    return Row(f"parts of that, a batch of {batch:,}: for each batch + for each record", "; ".join(parts))


def _row(what: str, rates: list[float], target: int = 0) -> Row:
    spread = Spread.of(rates)
    wanted = f"at least {target:,}" if target else ""
    return Row(what, f"{spread.text(0)} a second", wanted, spread.median >= target if target else None)


def measure(quick: bool) -> list[Row]:
    """Rows for rates."""
    rounds = 3 if quick else 10
    give_back_early()  # as a run does, likewise the next
    collect_seldom()
    with wire() as hosts, loaded_programs(OPTIONS) as kernel, BccCallbacks() as peer:
        tap = attach_tap(hosts, kernel)
        try:
            taken = record_sample(tap)
            reading, adding, joining = drain_rates(tap, rounds, taken.local, peer)
        finally:
            tap.close()
    size = taken.events.dtype.itemsize
    return [
        _row(f"ring reader alone, {size} byte records, {BATCH:,} of real handshakes in the ring", reading),
        _row("ring to aggregates (read, judge, durations, vantage, causes, benefit, sums)", adding, RECORDS_TARGET),
        part_costs(taken, rounds, BATCH_BYTES // size),
        *peer.rows(reading, adding),
        _row("the same and half of them joined with their SYN payload", joining),
        _row("judged and added up from memory, batches of 4,000", replay_rate(taken, rounds, 4000)),
        _row("causes of judged records, batches of 400", cause_rate(taken, rounds, 400)),
        _row(f"judged records into the dashboard's store, batches of 2,000, a snapshot each {SNAPSHOT_EVERY:,}",
             dashboard_rate(taken, rounds, 2000)),
        _row(f"full JSON lines to /dev/null, half with a TLS payload, batches of {JSON_BATCH:,}",
             json_rate(taken, rounds), LINES_TARGET),
        _row("the same in batches of 100", json_rate(taken, rounds, 100)),
    ]  # fmt: skip
