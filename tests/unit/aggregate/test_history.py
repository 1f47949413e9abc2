"""Totals of the last minutes and hour: what is counted in them, when it is forgotten, and where it happened."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.support.rows import random_batch
from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.history import COARSE_S, FINE_STEPS, NS_PER_S, PLACES_HELD, History, HistoryView, Where, Window
from tracer.aggregate.reasons import reasons
from tracer.aggregate.tally import PART, fate_cell
from tracer.handshake.batch import Batch
from tracer.vocabulary.vocabulary import Cause, Confidence, Group, HandshakeCause, HandshakeResult, Outcome

BEGIN_S = 10_000


def at(batch: Batch, *seconds: int) -> Batch:
    """The batch, settled at these seconds in turn."""
    batch.events["settled_ns"] = (np.resize(np.array(seconds), len(batch)) + BEGIN_S) * NS_PER_S
    return batch


def view(history: History, now_s: float) -> HistoryView:
    return history.view(BEGIN_S * NS_PER_S, int((BEGIN_S + now_s) * NS_PER_S))


def overflowed(count: int, server: int, port: int, *seconds: int) -> Batch:
    """Handshakes that a full queue made fail, all with one server."""
    made = at(random_batch(7, count, peers=1), *seconds)
    made.events["result"] = HandshakeResult.HALF_OPEN
    made.causes.handshake_cause[:] = HandshakeCause.ACCEPT_QUEUE_FULL
    made.causes.handshake_confidence[:] = Confidence.CERTAIN
    made.events["server"][:] = np.frombuffer(bytes(10) + b"\xff\xff" + bytes((192, 0, 2, server)), np.uint8)
    made.events["server_port"] = port
    return made


def test_a_window_has_the_totals_of_what_settled_in_it() -> None:
    history, minute, hour = History(), Aggregate(), Aggregate()
    for seed, second in enumerate((0, 3000, 3290, 3301, 3359, 3360)):
        batch = at(random_batch(seed, 200), second)
        history.add(batch)
        if second > 3300:
            minute.add(batch)
        hour.add(batch)
    shown = view(history, 3360.9)
    for window, expected in ((Window.MINUTE, minute), (Window.HOUR, hour), (Window.ALL, hour)):
        found, wanted = shown.totals(window), expected.totals()
        assert found.outcomes == wanted.outcomes
        assert found.results == wanted.results
        assert found.failed_causes == wanted.failed_causes
        assert found.handshake_confidences == wanted.handshake_confidences
        assert found.rtt_saved_us == pytest.approx(wanted.rtt_saved_us)
    assert shown.totals(Window.FIVE_MINUTES).handshakes == 800


def test_it_forgets_in_time() -> None:
    history = History()
    history.add(at(random_batch(1, 100), 5))
    for window, seconds, slack in (
        (Window.MINUTE, 60, 0),
        (Window.FIVE_MINUTES, 300, 0),
        (Window.HOUR, 3600, COARSE_S),
    ):
        assert view(history, 5 + seconds - 1).totals(window).handshakes == 100
        assert view(history, 5 + seconds + slack).totals(window).handshakes == 0
    assert view(history, 10**6).totals(Window.ALL).handshakes == 100


def test_memory_does_not_grow_with_time() -> None:
    history, batches = History(), [random_batch(seed, 40) for seed in range(5)]
    for turn, second in enumerate(range(0, 86_400, 60)):
        history.add(at(batches[turn % 5], *range(second, second + 60, 7)))
    shown = view(history, 86_400)
    assert len(shown.fine.number) <= FINE_STEPS
    assert len(shown.coarse.number) <= 3600 // COARSE_S + 4
    assert shown.total.handshakes == 1440 * 40
    assert shown.totals(Window.HOUR).handshakes == pytest.approx(60 * 40, abs=40)


def test_what_is_older_than_all_steps_counts_in_the_totals_only() -> None:
    history = History()
    history.add(at(random_batch(1, 10), 50_000))
    history.add(at(random_batch(2, 10), 3))
    shown = view(history, 50_000)
    assert shown.total.handshakes == 20
    assert shown.totals(Window.HOUR).handshakes == 10


def test_stretches_have_what_settled_at_their_ages() -> None:
    history = History()
    settled = [0, 100, 299, 595, 600, 2000, 2005, 3590, 3600]
    for second in settled:
        history.add(at(random_batch(second, 10), second))
    ages = [0, 5, 60, 300, 900, 1800, 3600]
    cells = view(history, 3600).cells(ages, [PART["handshakes"].start])[:, 0]
    wanted = Counter(int(np.searchsorted(ages, 3600 - second, side="right")) - 1 for second in settled)
    # the very first is just out of the hour, or just in it by its coarse step
    assert cells[:-1].tolist() == [10 * wanted[row] for row in range(len(ages) - 2)]
    assert cells[-1] in (10 * wanted[5], 10 * wanted[5] + 10)


def test_seconds_end_with_the_last_whole_one() -> None:
    history = History()
    history.add(at(random_batch(1, 60), 1, 2, 2, 4))
    assert view(history, 4.5).seconds("handshakes", 99).tolist() == [0, 15, 30, 0]
    assert view(history, 5).seconds("handshakes", 2).tolist() == [0, 15]
    assert view(history, 0).seconds("handshakes", 9).tolist() == []


def test_it_says_where_most_failed_in_a_window() -> None:
    history = History()
    history.add(overflowed(60, 1, 443, *range(10)))
    history.add(overflowed(50, 2, 443, 100))
    history.add(overflowed(20, 3, 80, 100))
    full = fate_cell(HandshakeResult.HALF_OPEN, HandshakeCause.ACCEPT_QUEUE_FULL)
    shown = view(history, 100)
    assert shown.where(Window.MINUTE, full) == Where("192.0.2.2", 443, 50, 70)
    assert shown.where(Window.HOUR, full) == Where(None, 443, 110, 130)
    assert shown.where(Window.HOUR, fate_cell(HandshakeResult.NO_REPLY, HandshakeCause.ACCEPT_QUEUE_FULL)) is None
    (place,) = shown.totals(Window.MINUTE).failed_at or ()
    assert (place.result, place.ip, place.port, place.handshakes) == ("half_open", "192.0.2.2", 443, 50)


def fell_back(count: int, host: int, cause: Cause) -> Batch:
    """Fast Open attempts that had no gain."""
    batch = at(random_batch(count, count, odd=False), 100)
    batch.events["server"][:] = np.frombuffer(bytes(10) + b"\xff\xff" + bytes((192, 0, 2, host)), np.uint8)
    batch.events["server_port"] = 443
    batch.events["result"] = HandshakeResult.ESTABLISHED
    batch.causes.handshake_cause[:] = 0
    batch.causes.cause[:] = cause
    batch.verdicts.group[:] = Group.DEGRADED
    batch.verdicts.outcome[:] = Outcome.DATA_NOT_ACKED
    return batch


def test_it_says_where_fast_open_had_no_gain_with_a_cause_and_without() -> None:
    history = History()
    history.add(fell_back(30, 1, Cause.KEY_NOT_SHARED))
    history.add(fell_back(20, 2, Cause.KEY_NOT_SHARED))
    history.add(fell_back(40, 3, Cause.NONE))
    shown = view(history, 100)
    found = {one.cell: one.where for one in reasons(shown, Window.MINUTE)}
    assert found == {
        PART["causes"].start + Cause.KEY_NOT_SHARED: Where("192.0.2.1", 443, 30, 50),
        PART["unexplained"].start + Outcome.DATA_NOT_ACKED: Where("192.0.2.3", 443, 40, 40),
    }
    assert not shown.failed_of(Window.MINUTE)
    assert shown.totals(Window.MINUTE).failed_at == ()


def test_trouble_of_fast_open_leaves_room_for_servers_of_failures() -> None:
    history = History()
    for host in range(1, 2 * PLACES_HELD):
        history.add(fell_back(1, host, Cause.PACKET_LOSS))
    history.add(overflowed(9, 1, 443, 100))
    full = fate_cell(HandshakeResult.HALF_OPEN, HandshakeCause.ACCEPT_QUEUE_FULL)
    assert view(history, 100).where(Window.MINUTE, full) == Where("192.0.2.1", 443, 9, 9)


def test_of_too_many_servers_none_is_named() -> None:
    history = History()
    for port in range(1, 3 * PLACES_HELD):
        history.add(overflowed(1, port, port, 7))
    assert all(len(places) <= PLACES_HELD for places in view(history, 8).fine.places)
    full = fate_cell(HandshakeResult.HALF_OPEN, HandshakeCause.ACCEPT_QUEUE_FULL)
    assert view(history, 8).where(Window.MINUTE, full) is None


def test_a_view_never_changes() -> None:
    history = History()
    history.add(overflowed(10, 1, 443, 7))
    before = view(history, 8)
    cells, places = before.fine.cells.copy(), before.fine.places[0].copy()
    history.add(overflowed(10, 1, 443, 7))
    assert (before.fine.cells == cells).all()
    assert before.fine.places[0] == places
    assert before.totals(Window.MINUTE).handshakes == 10
    assert view(history, 8).totals(Window.MINUTE).handshakes == 20


def test_what_several_ask_for_is_found_once_at_each_moment() -> None:
    history = History()
    history.add(at(random_batch(1, 10), 0, 4))
    asked: list[int] = []

    def found(one: HistoryView) -> int:
        asked.append(one.now_ns)
        return len(asked)

    now = view(history, 5)
    assert (now.once(found), now.once(found), now.until((BEGIN_S + 1) * NS_PER_S).once(found)) == (1, 1, 2)
