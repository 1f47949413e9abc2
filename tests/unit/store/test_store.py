"""The dashboard's store: what snapshots show, that they never change, two threads at once, a million handshakes."""

from __future__ import annotations

import os
import statistics
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.support import longer
from tests.support.recording import recorded_store
from tests.support.rows import (
    GOLDEN,
    INTERFACES,
    START_NS,
    addresses,
    batch_of,
    golden,
    new_store,
    random_batch,
    random_events,
    records_of,
)
from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.distributions import NAMES_HELD
from tracer.aggregate.history import Window
from tracer.aggregate.peers import PEERS_HELD
from tracer.aggregate.tally import PART
from tracer.dissect.payload import classify
from tracer.encode.composer import Composer
from tracer.handshake.syn_payloads import SynPayload, SynPayloads
from tracer.ipc.traced import TracedInterface
from tracer.linux import allocator
from tracer.records.record import SCHEMA
from tracer.records.run import Balance, End, InterfaceInfo, NoticeRecord, Start, Stats
from tracer.sinks.base import Sink
from tracer.store.chunks import CHUNK_ROWS, Chunk, StoreRows
from tracer.store.list_columns import sort_keys
from tracer.store.store import NOTICES_HELD, Store
from tracer.store.sums import RATE_S

INFO = InterfaceInfo("eth0", 2, "tcx", "a test", 0)
START = Start(SCHEMA, "2026-01-01T00:00:00.000000000Z", "0", (), "6.0", (INFO,), "ring", 512, 0)
SHEET = Balance(9, 8, 1, 0, 0, 0, 8, 0)


def rows_of(store: Store) -> StoreRows:
    found = store.snapshot().rows
    assert isinstance(found, StoreRows)
    return found


def test_it_is_a_sink() -> None:
    sink: Sink = new_store()
    sink.start(START)
    sink.write(random_batch(1, 3))
    sink.tick()
    sink.close(None)


def test_an_empty_store_has_a_snapshot() -> None:
    shown = new_store().snapshot()
    assert len(shown.rows) == 0
    assert (shown.rows.first, shown.totals.handshakes, shown.start, shown.host, shown.ended) == (0, 0, None, None, None)
    assert (tuple(shown.peers), shown.comparisons, shown.handshakes_per_s) == ((), (), 0.0)
    assert len(sort_keys(shown.rows, "rtt")) == 0
    with pytest.raises(IndexError):
        shown.rows.record(0)


def test_the_recorded_lab_comes_back_record_for_record() -> None:
    recording = golden()
    shown = recorded_store(GOLDEN).snapshot()
    composer = Composer(recording.interfaces, offset_ns=recording.start.boot_clock_offset_ns)
    aggregate = Aggregate()
    row = 0
    for batch in recording.decoded():
        aggregate.add(batch)
        for expected in composer.compose(batch):
            found = shown.rows.record(row)
            # ids of cookies are under another key in every run
            plain = [
                msgspec.structs.replace(
                    one, tfo=msgspec.structs.replace(one.tfo, cookie_id=None, synack_cookie_id=None)
                )
                for one in (found, expected)
            ]
            assert plain[0] == plain[1]
            row += 1
    assert row == len(shown.rows) == shown.totals.handshakes
    assert shown.totals == aggregate.totals()
    assert shown.start == recording.start
    assert shown.host is not None
    assert any(shown.host.counters[name] > shown.host.counters_at_start[name] for name in shown.host.counters)
    assert shown.history.total.handshakes == row
    assert [one.name for one in shown.interfaces] == [one.name for one in recording.start.interfaces]


def test_cookie_ids_are_those_of_the_composer() -> None:
    composer = Composer(golden().interfaces)
    store = Store(composer=composer)
    for batch in golden().decoded():
        store.write(batch)
    expected = [record.tfo.cookie_id for batch in golden().decoded() for record in composer.compose(batch)]
    assert [record.tfo.cookie_id for record in records_of(rows_of(store))] == expected


def test_payloads_are_what_they_are() -> None:
    batch = random_batch(5, 600)
    store = new_store()
    store.write(batch)
    rows = store.snapshot().rows
    kinds = set()
    for row in range(len(rows)):
        record = rows.record(row)
        payload = batch.payloads.get((int(batch.events["id"][row]), int(batch.events["syn_ns"][row])))
        if payload is None:
            assert record.payload is None or not record.payload.captured
            continue
        expected = classify(payload.data, payload.wire_len, record.server.port)
        assert record.payload is not None
        assert (record.payload.protocol, record.payload.truncated) == (expected.protocol.value, expected.truncated)
        assert (record.tls is None) == (expected.tls is None)
        if record.tls is not None and expected.tls is not None:
            assert (record.tls.sni, record.tls.alpn, record.tls.ech) == (
                expected.tls.sni, expected.tls.alpn, expected.tls.ech,
            )  # fmt: skip
        if expected.http is not None:
            assert record.http is not None
            assert record.http.host == expected.http.host
        if expected.dns is not None:
            assert record.dns is not None
            assert record.dns.name == expected.dns.name
        kinds.add(record.payload.protocol)
    assert {"tls", "http", "dns"} <= kinds


def test_a_record_keeps_the_time_it_was_written_with() -> None:
    store = new_store()
    composer = store._composer
    store.write(random_batch(1, 1))
    first = rows_of(store).record(0).ts
    composer.offset_ns += 5_000_000_000
    store._records.clear()
    assert rows_of(store).record(0).ts == first


@pytest.mark.parametrize("limit", [1, CHUNK_ROWS - 1, CHUNK_ROWS, 10_000])
@pytest.mark.parametrize("size", [7, 1000, 3 * CHUNK_ROWS + 1])
def test_the_newest_are_held_and_numbered(limit: int, size: int) -> None:
    store = new_store(limit)
    turns = max(3, 15_000 // size)
    made = random_batch(size, turns * size, payloads=False)
    written = made.events["id"]
    for turn in range(turns):
        store.write(made.rows(turn * size, (turn + 1) * size))
        if turn % 50 == 0:
            store.snapshot()
    rows = rows_of(store)
    assert len(rows) == min(limit, len(written))
    assert rows.first + len(rows) == len(written)
    assert (sort_keys(rows, "id") == written[rows.first :]).all()
    assert rows.record(len(rows) - 1).id == f"{int(written[-1]):016x}"
    with pytest.raises(IndexError):
        rows.record(len(rows))
    with pytest.raises(IndexError):
        rows.record(-1)
    # what is held beyond the limit is little
    assert len(store._chunks) * CHUNK_ROWS <= limit + size + 3 * CHUNK_ROWS


@pytest.mark.parametrize(
    ("begin", "end"),
    [(0, 0), (5, 6), (CHUNK_ROWS - 3, CHUNK_ROWS + 3), (CHUNK_ROWS, CHUNK_ROWS + 1), (10, 2 * CHUNK_ROWS + 9)],
)
def test_records_made_together_are_those_made_one_by_one(begin: int, end: int) -> None:
    store = new_store()
    store.write(random_batch(3, 3 * CHUNK_ROWS))
    # another store with the same rows, so that none comes out of the other's cache
    twin = new_store()
    twin.write(random_batch(3, 3 * CHUNK_ROWS))
    together = rows_of(store).gather(np.arange(begin, end))
    assert len(together) == end - begin
    # both ends, and both sides of every border between chunks
    borders = (begin, CHUNK_ROWS, 2 * CHUNK_ROWS, end)
    chosen = [row for border in borders for row in range(border - 20, border + 20) if begin <= row < end]
    one_by_one = [rows_of(twin).record(row) for row in chosen]
    assert [(one.id, one.ts) for one in one_by_one] == [
        (together[row - begin].id, together[row - begin].ts) for row in chosen
    ]


@pytest.mark.parametrize("packed", [True, False])
def test_gathered_records_are_those_made_one_by_one(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not packed:
        monkeypatch.setattr(Chunk, "pack", lambda _: None)
    store, twin = new_store(), new_store()
    for one in (store, twin):
        one._composer._key = bytes(16)  # equal cookies get the same id in both
        for seed in range(3):
            one.write(random_batch(seed, CHUNK_ROWS + 100))
        assert sum(chunk.is_packed for chunk in one._chunks) == (3 if packed else 0)
    rows = np.random.default_rng(1).integers(0, 3 * CHUNK_ROWS + 300, 200)
    gathered = rows_of(store).gather(rows)
    assert gathered == [rows_of(twin).record(row) for row in rows.tolist()]
    assert any(one.tls is not None for one in gathered)
    assert rows_of(store).gather(np.zeros(0, np.intp)) == []


def test_a_snapshot_never_changes() -> None:
    store = new_store(limit=CHUNK_ROWS)
    store.write(random_batch(1, 500))
    shown = store.snapshot()
    before = msgspec.json.encode([shown.rows.record(row) for row in range(500)])
    keys = sort_keys(shown.rows, "rtt")
    peers, cells, rtt = tuple(shown.peers), shown.history.fine.cells.copy(), shown.distributions.rtt.counts.copy()
    for seed in range(2, 30):
        store.write(random_batch(seed, 1000))
        store.snapshot()
    store.clear()
    store.write(random_batch(99, 1000))
    store._records.clear()
    assert len(shown.rows) == 500
    assert msgspec.json.encode([shown.rows.record(row) for row in range(500)]) == before
    assert np.array_equal(sort_keys(shown.rows, "rtt"), keys, equal_nan=True)
    assert tuple(shown.peers) == peers
    assert (shown.history.fine.cells == cells).all()
    assert (shown.distributions.rtt.counts == rtt).all()


def test_sums_do_not_depend_on_the_size_of_batches() -> None:
    whole, pieces = new_store(), new_store()
    batch = random_batch(3, 3 * CHUNK_ROWS + 17)
    whole.write(batch)
    for at in range(0, len(batch), 13):
        rows = slice(at, at + 13)
        pieces.write(batch_of(batch.events[rows], batch.vantage[rows], batch.payloads))
        if at % 7 == 0:
            pieces.snapshot()
    one, other = whole.snapshot(), pieces.snapshot()
    assert one.totals.outcomes == other.totals.outcomes
    assert one.totals.handshakes == other.totals.handshakes == len(batch)
    assert {(p.ip, p.port, p.handshakes, p.accepted, p.name, p.last_outcome) for p in one.peers} == {
        (p.ip, p.port, p.handshakes, p.accepted, p.name, p.last_outcome) for p in other.peers
    }
    assert (one.distributions.rtt.counts == other.distributions.rtt.counts).all()
    assert one.distributions.options == other.distributions.options
    for steps, others in ((one.history.fine, other.history.fine), (one.history.coarse, other.history.coarse)):
        assert (steps.number == others.number).all()
        for part in (PART["handshakes"], PART["outcomes"]):
            assert (steps.cells[:, part] == others.cells[:, part]).all()


def test_clear_forgets_handshakes_and_keeps_what_the_kernel_counts() -> None:
    store = new_store()
    store.start(START)
    store.set_balance(SHEET, {"opened": 9})
    store.set_host({"TCPFastOpenActive": 1}, {"net.ipv4.tcp_fastopen": "1"})
    store.write(random_batch(1, 5000))
    before = store.snapshot()
    store.clear()
    after = store.snapshot()
    assert (len(after.rows), after.rows.first, after.totals.handshakes) == (0, 5000, 0)
    assert (tuple(after.peers), after.comparisons, after.distributions.names) == ((), (), ())
    assert after.distributions.rtt.counts.sum() == 0
    assert len(after.history.seconds("handshakes", 99)) == 0
    assert after.history.totals(Window.HOUR).handshakes == 0
    assert (after.balance, after.counters, after.host, after.interfaces) == (
        before.balance, before.counters, before.host, before.interfaces,
    )  # fmt: skip
    assert after.serial > before.serial
    store.write(random_batch(2, 10))
    again = store.snapshot()
    assert (len(again.rows), again.rows.first, again.totals.handshakes) == (10, 5000, 10)


def test_after_the_end_a_clock_that_stands_still_hides_nothing() -> None:
    store = new_store(refresh_ns=1_000_000_000)
    store.write(random_batch(1, 50))
    assert sum(one.handshakes for one in store.snapshot().peers if one.role == "server") == 50
    store.write(random_batch(2, 50))
    store.end("all was read")
    assert sum(one.handshakes for one in store.snapshot().peers if one.role == "server") == 100


def test_series_and_rates() -> None:
    now = START_NS + 20_500_000_000
    store = Store(clock=lambda: now)
    store.start(START)
    events = random_events(np.random.default_rng(1), 70, odd=False)
    second = START_NS // 10**9
    settled = [second + 20] * 10 + [second + 19] * 30 + [second + 18] * 20 + [second + 17] * 10
    events["settled_ns"] = np.array(settled, np.uint64) * np.uint64(10**9)
    store.write(batch_of(events))
    shown = store.snapshot()
    by_second = {name: shown.history.seconds(name, 99) for name in ("handshakes", "attempts", "any_failed")}
    assert by_second["handshakes"].tolist()[-3:] == [10, 20, 30]  # the running second is not whole
    assert shown.handshakes_per_s == pytest.approx(60 / RATE_S)
    assert shown.attempts_per_s == pytest.approx(by_second["attempts"][-3:].sum() / RATE_S)
    assert 0 < by_second["any_failed"].sum() < 60
    now += 2_000_000_000
    assert store.snapshot().history.seconds("handshakes", 5).tolist() == [10, 20, 30, 10, 0]
    now += 400_000_000_000
    assert not store.snapshot().history.seconds("handshakes", 999).any()


def test_what_is_told_beside_handshakes() -> None:
    store = new_store()
    store.start(START)
    serial = store.snapshot().serial
    store.set_host({"a": 1}, {"s": "0"})
    store.set_host({"a": 5}, {"s": "1"})
    store.set_interfaces([TracedInterface(3, "wg0", "tcx", "appeared")])
    store.set_ring_fill(0.25)
    store.set_drain_lag(1500.0)
    store.stats(Stats(SCHEMA, "", SHEET, {"opened": 9}, Aggregate().totals()))
    for number in range(NOTICES_HELD + 5):
        store.notice(NoticeRecord(SCHEMA, "", "test", str(number), None))
    shown = store.snapshot()
    assert shown.serial > serial
    assert shown.host is not None
    assert (shown.host.counters, shown.host.counters_at_start, shown.host.sysctls) == ({"a": 5}, {"a": 1}, {"s": "1"})
    assert [(one.name, one.present) for one in shown.interfaces] == [("eth0", False), ("wg0", True)]
    assert (shown.ring_fill, shown.drain_lag_us, shown.balance, shown.counters) == (0.25, 1500.0, SHEET, {"opened": 9})
    assert [one.text for one in shown.notices] == [str(number) for number in range(5, NOTICES_HELD + 5)]
    assert shown.table_size == 512
    store.close(End(SCHEMA, "", "SIGINT", 0, 1.0, Aggregate().totals(), SHEET, {"opened": 10}))
    ended = store.snapshot()
    assert (ended.ended, ended.counters) == ("SIGINT", {"opened": 10})


def test_heavy_pieces_are_made_anew_only_as_often_as_told() -> None:
    now = START_NS + 80_000_000_000
    store = Store(composer=Composer(INTERFACES), clock=lambda: now, refresh_ns=1_000_000_000)
    store.write(random_batch(1, 100))
    first = store.snapshot()
    store.write(random_batch(2, 100))
    soon = store.snapshot()
    assert soon.peers is first.peers
    assert soon.totals.handshakes == 200
    now += 1_000_000_000
    later = store.snapshot()
    assert sum(peer.handshakes for peer in later.peers if peer.role == "server") == 200


def test_a_writer_and_readers_do_not_disturb_each_other() -> None:
    """Every record read must be one that was written, whole, at the place its number says."""
    store = new_store(limit=20_000)
    batches = []
    for seed in range(40):
        batch = random_batch(seed, 250, payloads=False)
        batches.append(batch)
    rounds = 12
    total = rounds * len(batches) * 250
    failures: list[str] = []
    done = threading.Event()

    def expected(number: int) -> tuple[int, int]:
        batch = batches[number // 250 % len(batches)]
        return int(batch.events["id"][number % 250]), int(batch.events["syn"]["seq"][number % 250])

    def read() -> None:
        rng = np.random.default_rng(threading.get_ident() % 1000)
        serial = 0
        while True:
            last = done.is_set()
            shown = store.snapshot()
            rows = shown.rows
            if shown.serial < serial:
                failures.append("the serial went back")
            serial = shown.serial
            if rows.first + len(rows) != shown.totals.handshakes:
                failures.append(f"{rows.first} + {len(rows)} rows, but {shown.totals.handshakes} in the totals")
            if len(rows):
                ids = sort_keys(rows, "id")
                for row in {0, len(rows) - 1, *rng.integers(0, len(rows), 5).tolist()}:
                    record = rows.record(row)
                    id_, seq = expected(rows.first + row)
                    if (record.id, record.syn.seq, int(ids[row])) != (f"{id_:016x}", seq, id_):
                        failures.append(f"row {rows.first + row} is torn")
            if last or failures:
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(rounds):
        for batch in batches:
            store.write(batch)
    done.set()
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()
    assert not failures
    assert store.snapshot().totals.handshakes == total


def test_clearing_while_writing_loses_nothing_but_what_was_there() -> None:
    store = new_store()
    batch = random_batch(1, 100, payloads=False)
    enough = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not enough.is_set():
            store.write(batch)
            written += 100
            time.sleep(0)  # a writer that never waits lets nobody else have the lock

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(100):
        store.clear()
        shown = store.snapshot()
        assert shown.totals.handshakes == len(shown.rows)
    enough.set()
    writer.join(60)
    assert not writer.is_alive()
    shown = store.snapshot()
    assert shown.rows.first + len(shown.rows) == written
    assert shown.totals.handshakes == len(shown.rows)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_strangers_do_not_fill_memory() -> None:
    """Addresses, ports, names and options that never come again: a million in the long form."""
    turns = longer.number("TFOTRACE_STRANGERS", 400_000, 1_000_000) // 5000
    store = new_store(limit=20_000)
    rng = np.random.default_rng(7)
    batch = random_batch(1, 5000)
    events = batch.events
    held = []
    for turn in range(turns):
        events["client"], events["server"] = addresses(rng, len(batch)), addresses(rng, len(batch))
        events["server_port"] = rng.integers(1, 65536, len(batch))
        events["syn"]["mss"] = rng.integers(0, 65536, len(batch))
        if turn % 5 == 0:
            events["syn"]["options"] = rng.integers(0, 256, events["syn"]["options"].shape)
        names = [b"GET / HTTP/1.1\r\nHost: %d.example\r\n\r\n" % rng.integers(1 << 60) for _ in batch.payloads]
        payloads = [SynPayload(*key, len(name), name) for key, name in zip(batch.payloads, names, strict=True)]
        store.write(batch_of(events, batch.vantage, SynPayloads.of(payloads)))
        if turn % 4 == 3:
            store.snapshot().rows.record(0)
        allocator.give_back()  # as a run does; what other tests of this process have left is torn
        held.append(_resident())
    assert store.snapshot().totals.handshakes == turns * 5000
    sums = store._sums
    assert PEERS_HELD // 2 < len(sums.servers) <= PEERS_HELD
    assert NAMES_HELD // 2 < len(sums.distributions.names) <= NAMES_HELD
    # the first 200,000 fill every table; of each handshake after them no 20 bytes stay
    middle = 40 + (turns - 40) // 2
    grown = statistics.median(held[middle:]) - statistics.median(held[40:middle])
    assert grown < 20 * 5000 * (turns - 40) // 2, held


def test_of_interfaces_that_have_gone_those_that_were_named_are_shown_until_they_come_back() -> None:
    store = new_store()
    named = [TracedInterface(2, "eth0", "tcx", ""), TracedInterface(3, "eth1", "tcx", "")]
    others = [TracedInterface(index, f"veth{index}", "tcx", "", named=False) for index in range(10, 1000)]

    def shown() -> list[tuple[int, bool]]:
        return [(one.index, one.present) for one in store.snapshot().interfaces]

    store.set_interfaces([*named, *others])
    store.set_interfaces([named[1], others[0]])
    assert shown() == [(2, False), (3, True), (10, True)]
    for index in range(1000, 1010):  # it comes back and goes, again and again
        store.set_interfaces([named[1], TracedInterface(index, "eth0", "tcx", "")])
        assert shown() == [(3, True), (index, True)]
        store.set_interfaces([named[1]])
        assert shown() == [(index, False), (3, True)]


def test_what_has_ended_keeps_its_last_minutes() -> None:
    now = START_NS + 1_000_000_000
    store = Store(composer=Composer(INTERFACES), clock=lambda: now)
    batch = random_batch(1, 50)
    batch.events["settled_ns"] = now
    store.write(batch)
    store.end("the last interface went away")
    now += 3_600_000_000_000
    assert store.snapshot().history.totals(Window.MINUTE).handshakes == 50


def test_a_snapshot_may_be_without_what_came_just_now() -> None:
    now = START_NS
    store = Store(composer=Composer(INTERFACES), clock=lambda: now, behind_ns=200)
    store.write(random_batch(1, CHUNK_ROWS + 100, odd=False))  # whole parts are added up at once
    now += 199
    assert len(store.snapshot().rows) == CHUNK_ROWS
    now += 1
    assert len(store.snapshot().rows) == CHUNK_ROWS + 100
    store.write(random_batch(2, 10, odd=False))  # too few for the writer: who looks adds them up
    assert len(store.snapshot().rows) == CHUNK_ROWS + 110
    store.write(random_batch(3, CHUNK_ROWS + 20, odd=False))
    assert CHUNK_ROWS + 110 < len(store.snapshot().rows) < 2 * CHUNK_ROWS + 130
    store.end("quit")
    assert len(store.snapshot().rows) == 2 * CHUNK_ROWS + 130
