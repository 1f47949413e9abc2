"""Peers and comparisons against sums computed record by record."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import median

import numpy as np
import pytest

from tests.support.rows import ACCEPTED, batch_of, new_store, parts_of, random_batch, random_events, records_of, worked
from tracer.aggregate.counted import counted_of
from tracer.aggregate.figures import Peer
from tracer.aggregate.peers import COMPARISONS_SHOWN, PEERS_HELD, PEERS_SHOWN, RTT_KEPT, Peers, PeerTable
from tracer.aggregate.responses import ENOUGH, KEPT
from tracer.handshake.batch import Batch
from tracer.records.life import lived
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.fates import FAILED_WORDS
from tracer.vocabulary.vocabulary import HandshakeResult


def snapshot_of(batch: Batch) -> tuple[list[Handshake], list[Peer]]:
    store = new_store()
    store.write(batch)
    shown = store.snapshot()
    assert isinstance(shown.rows, StoreRows)
    return records_of(shown.rows), list(shown.peers)


def by_hand(records: list[Handshake]) -> dict[tuple[str, str, int | None], list[Handshake]]:
    found: dict[tuple[str, str, int | None], list[Handshake]] = defaultdict(list)
    for record in records:
        found["server", record.server.ip, record.server.port].append(record)
        if record.vantage == "server":
            found["client", record.client.ip, None].append(record)
    return found


def test_every_sum_of_every_peer() -> None:
    rng = np.random.default_rng(1)
    events = random_events(rng, 3000, odd=False, lives=True)
    records, peers = snapshot_of(batch_of(events, rng.integers(0, 4, 3000).astype(np.uint8)))
    expected = by_hand(records)
    assert {(peer.role, peer.ip, peer.port) for peer in peers} == set(expected)
    assert any(0 < peer.lived < peer.accepted for peer in peers)
    for peer in peers:
        own = expected[peer.role, peer.ip, peer.port]
        outcomes = [record.tfo.outcome for record in own]
        attempted = [record for record in own if record.tfo.kind is not None or record.syn.payload_len]
        assert peer.handshakes == len(own)
        assert peer.attempts == len(attempted)
        assert peer.with_data == sum(record.syn.payload_len > 0 for record in own)
        assert peer.accepted == sum(outcome in ACCEPTED for outcome in outcomes)
        assert peer.lived == sum(worked(one) for one in own)
        assert peer.fallbacks == sum(
            str(outcome).startswith("data_not_acked") or outcome == "syn_timeout_fallback" for outcome in outcomes
        )
        assert peer.failed == sum(record.tfo.group == "failed" for record in own)
        assert peer.handshakes_failed == sum(record.handshake.result in FAILED_WORDS for record in own)
        assert peer.last_result == own[-1].handshake.result
        assert (peer.cause, peer.last_cause) == (None, None)
        assert peer.cookie_changes == sum(str(outcome).endswith("_new_cookie") for outcome in outcomes)
        assert (peer.last_outcome, peer.last_group) == (outcomes[-1], own[-1].tfo.group or "n/a")
        saved = sum(record.tfo.rtt_saved_us or 0.0 for record in own)
        cost = sum(record.tfo.delay_us or 0.0 for record in attempted)
        assert (peer.saved_us, peer.delay_us) == pytest.approx((saved, cost), abs=0.1)


def test_the_most_frequent_cause_of_each_peer() -> None:
    records, peers = snapshot_of(random_batch(7, 3000, peers=4, odd=False))
    expected = by_hand(records)
    explained = 0
    for peer in peers:
        own = expected[peer.role, peer.ip, peer.port]
        causes = Counter(one.handshake.cause for one in own if one.handshake.cause is not None)
        assert (peer.cause is None) == (not causes)
        if peer.cause is not None:
            assert causes[peer.cause] == max(causes.values())
            explained += 1
        assert peer.last_cause == own[-1].handshake.cause
    assert explained > 5


def test_the_last_name_in_a_syn_names_the_server() -> None:
    records, peers = snapshot_of(random_batch(2, 3000, odd=False))
    names: dict[tuple[str, int], str] = {}
    for record in records:
        name = (record.tls and record.tls.sni) or (record.http and record.http.host)
        if name:
            names[record.server.ip, record.server.port] = name
    assert names
    for peer in peers:
        expected = names.get((peer.ip, peer.port or 0)) if peer.role == "server" else None
        assert peer.name == expected


@pytest.mark.parametrize("count", [300, 3000])
def test_medians_are_exact_as_long_as_all_are_kept_and_near_afterwards(count: int) -> None:
    rng = np.random.default_rng(3)
    events = random_events(rng, count, peers=1, odd=False)
    events["server_port"] = np.where(rng.random(count) < 0.5, 80, 443)
    records, peers = snapshot_of(batch_of(events))
    expected = by_hand(records)
    exact = near = 0
    for peer in peers:
        rtts = [r.handshake.rtt_us for r in expected[peer.role, peer.ip, peer.port] if r.handshake.rtt_us is not None]
        assert (peer.rtt_median_us is None) == (not rtts)
        if 0 < len(rtts) <= RTT_KEPT:
            assert peer.rtt_median_us == pytest.approx(median(rtts), rel=1e-6)
            exact += 1
        elif rtts:
            # four standard errors of the share that lies below it
            assert abs(np.mean(np.array(rtts) < peer.rtt_median_us) - 0.5) < 4 * 0.5 / RTT_KEPT**0.5
            near += 1
    assert exact if count < 1000 else near


def test_comparisons() -> None:
    rng = np.random.default_rng(4)
    events = random_events(rng, 1200, peers=5, odd=False)
    events["server_port"] = 443
    # some answered before they were established, and went no further
    events["result"][rng.random(1200) < 0.1] = HandshakeResult.HALF_OPEN
    store = new_store()
    store.write(batch_of(events))
    shown = store.snapshot()
    samples: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for row in range(len(shown.rows)):
        record = shown.rows.record(row)
        response = record.handshake.first_response_us
        if response is not None and lived(record.handshake):
            with_tfo, without = samples[endpoint_text(record.server.ip, record.server.port)]
            if record.tfo.outcome in ACCEPTED:
                with_tfo.append(response)
            elif not record.syn.payload_len:
                without.append(response)
    assert shown.comparisons
    compared = 0
    for one in shown.comparisons:
        with_tfo, without = samples[one.server]
        assert (one.tfo_samples, one.normal_samples) == (len(with_tfo), len(without))
        for found, own, share in (
            (one.tfo_median_us, with_tfo, 50), (one.normal_median_us, without, 50),
            (one.tfo_p90_us, with_tfo, 90), (one.normal_p90_us, without, 90),
        ):  # fmt: skip
            assert (found is None) == (not own)
            assert len(own) <= KEPT  # of more there is only a sample: tests/unit/aggregate/test_responses.py
            if found is not None:
                assert found == pytest.approx(np.percentile(own, share), rel=1e-5)
        enough = min(len(with_tfo), len(without)) >= ENOUGH
        assert (one.sooner_us is not None) == enough
        peer = next(peer for peer in shown.peers if endpoint_text(peer.ip, peer.port or 0) == one.server)
        assert (peer.sooner_us, peer.sooner_rtts) == (one.sooner_us, one.sooner_rtts)
        if one.sooner_us is not None:
            assert one.sooner_us == pytest.approx(np.median(without) - np.median(with_tfo), rel=1e-3, abs=0.01)
            compared += 1
    assert compared
    # those that can be compared come first, the busiest of them first
    both = [one.tfo_samples > 0 and one.normal_samples > 0 for one in shown.comparisons]
    assert both == sorted(both, reverse=True)


def rows_of(batch: Batch) -> StoreRows:
    store = new_store()
    store.write(batch)
    rows = store.snapshot().rows
    assert isinstance(rows, StoreRows)
    return rows


def test_the_busy_stay_when_strangers_come() -> None:
    table = PeerTable("server", limit=256)
    rng = np.random.default_rng(5)
    regular = random_events(rng, 100, peers=1, odd=False)
    for _ in range(40):
        events = np.concatenate((random_events(rng, 100, peers=None, odd=False), regular[:1]))
        (part,) = parts_of(rows_of(batch_of(events)))
        table.add(part, counted_of(part))
    peers = list(Peers(table))
    assert 256 // 2 < len(table) == len(peers) <= 256
    assert peers[0].handshakes == 40
    # who takes a forgotten one's place begins at nothing
    assert all(peer.handshakes == 1 for peer in peers[1:])


def test_limits_of_what_is_shown() -> None:
    store = new_store()
    for seed in range(6):
        store.write(random_batch(seed, 1000, peers=None))
    shown = store.snapshot()
    assert len(shown.peers) <= 2 * PEERS_SHOWN
    assert sum(peer.role == "server" for peer in shown.peers) == PEERS_SHOWN
    assert len(shown.comparisons) <= COMPARISONS_SHOWN
    assert PEERS_HELD // 2 < len(store._sums.servers) <= PEERS_HELD


def test_peers_are_a_sequence() -> None:
    _, peers = snapshot_of(random_batch(1, 200))
    store = new_store()
    store.write(random_batch(1, 200))
    shown = store.snapshot().peers
    assert len(shown) == len(peers)
    assert shown[0] == peers[0]
    assert list(shown[1:3]) == peers[1:3]
    assert peers[2] in shown


@pytest.mark.parametrize(
    ("ip", "port", "text"), [("10.0.0.1", 443, "10.0.0.1:443"), ("2001:db8::1", 53, "[2001:db8::1]:53")]
)
def test_endpoints_as_people_write_them(ip: str, port: int, text: str) -> None:
    assert endpoint_text(ip, port) == text
