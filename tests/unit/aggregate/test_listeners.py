"""Listeners of this host against sums computed record by record."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np

from tests.support.rows import (
    INTERFACES,
    START_NS,
    batch_of,
    new_store,
    parts_of,
    random_batch,
    random_events,
    records_of,
    worked,
)
from tracer.aggregate.counted import counted_of
from tracer.aggregate.figures import Listening
from tracer.aggregate.history import Window
from tracer.aggregate.listeners import ListenerTable
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch, RowOwners
from tracer.handshake.causes import Causes
from tracer.records.ends import Listener, Process
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows
from tracer.store.store import Store
from tracer.vocabulary.fates import FAILED_WORDS
from tracer.vocabulary.vocabulary import Cause, Confidence, HandshakeResult, SettleReason, Vantage


def listening(store: Store) -> list[Listening]:
    return list(store.snapshot().listeners)


def answered(count: int, seed: int = 1) -> Batch:
    """Established handshakes of one server on this host."""
    events = random_events(np.random.default_rng(seed), 40 * count, odd=False)
    events = events[events["result"] == HandshakeResult.ESTABLISHED][:count]
    assert len(events) == count
    events["server"] = events["server"][0]
    events["server_port"] = 443
    return batch_of(events, np.full(count, Vantage.SERVER, np.uint8))


def silent(batch: Batch) -> Batch:
    """The same SYNs without an answer."""
    events = batch.events.copy()
    events["synack"] = 0
    events["synack_ns"] = events["ack_ns"] = events["response_ns"] = 0
    events["result"], events["reason"] = HandshakeResult.NO_REPLY, SettleReason.BY_TIMEOUT
    return batch_of(events, batch.vantage)


def test_every_sum_of_every_listener() -> None:
    rng = np.random.default_rng(3)
    events = random_events(rng, 500, odd=False, lives=True, peers=8)  # added up at once
    store = new_store()
    store.write(batch_of(events, rng.integers(0, 4, 500).astype(np.uint8)))
    shown = store.snapshot()
    assert isinstance(shown.rows, StoreRows)
    records = records_of(shown.rows)
    own: dict[tuple[str, int], list[Handshake]] = defaultdict(list)
    for record in records:
        if record.vantage in ("server", "local"):
            own[record.server.ip, record.server.port].append(record)
    met = {key: found for key, found in own.items() if any(one.synack is not None for one in found)}
    assert {(one.ip, one.port) for one in shown.listeners} == set(met)
    assert len(met) < len(own)
    assert [one.handshakes for one in shown.listeners] == sorted((len(one) for one in met.values()), reverse=True)
    for one in shown.listeners:
        found = met[one.ip, one.port]
        assert one.handshakes == len(found)
        assert one.handshakes_failed == sum(of.handshake.result in FAILED_WORDS for of in found)
        assert one.with_data == sum(of.syn.payload_len > 0 for of in found)
        assert one.attempts == sum(of.tfo.kind is not None or of.syn.payload_len > 0 for of in found)
        assert one.lived == sum(worked(of) for of in found)


def test_the_most_frequent_cause() -> None:
    store = new_store()
    store.write(random_batch(7, 500, peers=2, odd=False))
    shown = store.snapshot()
    causes: defaultdict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for row in range(len(shown.rows)):
        one = shown.rows.record(row)
        if one.vantage in ("server", "local") and one.handshake.cause is not None:
            causes[one.server.ip, one.server.port][one.handshake.cause] += 1
    assert any(one.cause is not None for one in shown.listeners)
    for one in shown.listeners:
        found = causes[one.ip, one.port]
        assert (one.cause is None) == (not found)
        assert one.cause is None or found[one.cause] == max(found.values())


def test_a_port_at_which_nobody_answers_is_no_listener_and_a_listener_that_falls_silent_stays_one() -> None:
    batch = answered(5)
    store = new_store()
    store.write(silent(batch))
    assert listening(store) == []
    store.write(batch)
    store.write(silent(batch))
    ((one),) = listening(store)
    assert (one.handshakes, one.handshakes_failed) == (10, 5), "what came before its first answer is not its own"


def test_whose_it_is_and_how_full_its_queue_was() -> None:
    batch = answered(4)
    rows = np.arange(4, dtype=np.uint32)
    server = np.array([1, 2, 2, 0], np.uint32)
    nginx, envoy = Process(7, "nginx", 0), Process(8, "envoy", 0)
    causes = Causes.none(4)
    causes.listener[:] = [1, 2, 0, 0]
    batch = replace(batch, owners=RowOwners(rows * 0, server, [None, nginx, envoy]), causes=causes)
    full, less = Listener("0.0.0.0", 443, 129, 128), Listener("0.0.0.0", 443, 3, 128)
    composer = Composer(INTERFACES, listeners=[None, full, less])
    store = Store(composer=composer, clock=lambda: START_NS, refresh_ns=0)
    store.write(batch)
    ((one),) = listening(store)
    assert (one.process, one.queue) == (envoy, less), "the latest that is known"


def test_fast_open_is_on_or_off_as_the_latest_attempt_tells() -> None:
    batch = answered(600)
    accepted = np.flatnonzero(batch.verdicts.outcome == 3)
    plain = np.flatnonzero(batch.verdicts.outcome == 0)
    assert len(accepted)
    assert len(plain)
    off = Causes.none(1)
    off.cause[0], off.confidence[0] = Cause.LISTENER_DISABLED, Confidence.LIKELY
    store = new_store()
    said = []
    for one in (
        batch.rows(int(plain[0]), int(plain[0]) + 1),
        batch.rows(int(accepted[0]), int(accepted[0]) + 1),
        replace(batch.rows(int(plain[0]), int(plain[0]) + 1), causes=off),
        batch.rows(int(plain[0]), int(plain[0]) + 1),
    ):
        store.write(one)
        said.append(listening(store)[0].fast_open)
    assert said == [None, True, False, False]


def test_the_least_recent_ones_are_forgotten() -> None:
    events = np.repeat(answered(1).events, 20)
    events["server_port"] = np.arange(20) + 1
    store = new_store()
    store.write(batch_of(events, np.full(20, Vantage.LOCAL, np.uint8)))
    table = ListenerTable(limit=16)
    for part in parts_of(store.snapshot().rows):
        for at in range(0, len(part), 4):
            few = store.snapshot().rows.chunks[0].part(at, at + 4)
            table.add(few, counted_of(few))
    ports = [one.port for one in table.listening()]
    assert len(ports) <= 16
    assert set(range(17, 21)) <= set(ports)
    assert all(one.handshakes == 1 for one in table.listening())


def test_how_many_failed_in_a_window() -> None:
    batch = answered(3)
    events = silent(batch).events.copy()
    now_ns = START_NS + 80_000_000_000  # the clock of new_store()
    events["settled_ns"] = now_ns - np.array([5, 50, 70], np.uint64) * np.uint64(1_000_000_000)
    store = new_store()
    store.write(batch)
    store.write(batch_of(events, batch.vantage))
    shown = store.snapshot()
    ((one),) = shown.listeners
    assert one.handshakes_failed == 3
    assert shown.history.failed_of(Window.MINUTE)[one.ip, one.port] == 2
    assert shown.history.failed_of(Window.FIVE_MINUTES)[one.ip, one.port] == 3
