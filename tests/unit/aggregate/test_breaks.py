"""Breaks: told within ten seconds, over when it is over, and never where failures come by chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.support.day import BEGIN_S, DAY_S, NS_PER_S, attempts, plain
from tests.support.rows import random_batch
from tracer.aggregate.breaks import Break, Broken, breaks
from tracer.aggregate.history import History, HistoryView, Window
from tracer.aggregate.returning import Returning
from tracer.aggregate.tally import accepted_and_lived
from tracer.handshake.batch import Batch
from tracer.vocabulary.vocabulary import Cause, Confidence, Group, Outcome, Request
from tracer.words.verdicts import fast_open


def view(history: History, now_s: float) -> HistoryView:
    return history.view(BEGIN_S * NS_PER_S, int((BEGIN_S + now_s) * NS_PER_S))


def one(found: tuple[Break, ...], what: Broken) -> Break | None:
    return next((each for each in found if each.what is what), None)


def test_a_break_of_fast_open_shows_within_ten_seconds_and_ends_in_time() -> None:
    history = History()
    history.add(attempts(list(range(3600)), failed=False))
    assert breaks(view(history, 3599)) == ()
    told = None
    for second in range(3600, 3900):
        history.add(attempts([second], failed=True))
        found = one(breaks(view(history, second)), Broken.FAST_OPEN)
        if found is not None and told is None:
            told = second
        if told is not None:
            assert found is not None
            assert (found.since_s, found.over_s) == (second - 3600, None)
            assert (found.bad, found.seen) == (second - 3599, second - 3599)
            assert found.totals.tfo_lived == 0
    assert told is not None
    assert told < 3610
    over = None
    for second in range(3900, 4300):
        history.add(attempts([second], failed=False))
        found = one(breaks(view(history, second)), Broken.FAST_OPEN)
        if over is None and (found is None or found.over_s is not None):
            over = second
        if over is not None:
            assert found is None or found.over_s is not None
    assert over is not None
    assert over < 3910


def test_handshakes_that_begin_to_fail_are_a_break_and_it_has_its_cause_and_place() -> None:
    history = History()
    history.add(plain(list(range(1000)) * 5, overflowed=False))
    for second in range(1000, 1008):
        history.add(plain([second] * 4, overflowed=False))
        history.add(plain([second] * 2, overflowed=True))
    (found,) = breaks(view(history, 1007))
    assert found.what is Broken.HANDSHAKES
    assert found.over_s is None
    assert found.since_s == 7
    assert found.totals.failed_causes == {"half_open": {"accept_queue_full": 16}}
    assert [(place.ip, place.port) for place in found.totals.failed_at or ()] == [("192.0.2.7", 443)]


def test_what_never_worked_is_no_break() -> None:
    history = History()
    history.add(attempts(list(range(300)), failed=True))
    assert breaks(view(history, 299)) == ()


@pytest.mark.parametrize(("rate", "share"), [(1, 0.04), (1, 0.3), (20, 0.01), (20, 0.3), (1, 0.0)])
def test_failures_by_chance_are_no_break(rate: int, share: float) -> None:
    random = np.random.default_rng(7413)
    history = History()
    for begin in range(0, 7200, 100):
        seconds = np.sort(random.integers(begin, begin + 100, rate * 100))
        bad = random.random(len(seconds)) < share
        history.add(attempts(seconds[~bad].tolist(), failed=False))
        if bad.any():
            history.add(attempts(seconds[bad].tolist(), failed=True))
        assert breaks(view(history, begin + 99)) == ()


def test_a_break_within_the_hour_is_found_when_it_is_long_over() -> None:
    history = History()
    history.add(attempts(list(range(1000)), failed=False))
    history.add(attempts(list(range(1000, 1300)), failed=True))
    history.add(attempts(list(range(1300, 3500)), failed=False))
    (found,) = breaks(view(history, 3499))
    assert found.since_s == pytest.approx(2499, abs=16)
    assert found.over_s == pytest.approx(2199, abs=16)
    assert breaks(view(history, 1300 + 3700)) == ()


def test_no_handshake_no_break() -> None:
    assert breaks(view(History(), 0)) == ()
    assert breaks(view(History(), DAY_S)) == ()


def alarms(history: History, second: int) -> list[Break]:
    return [each for each in breaks(view(history, second)) if each.over_s is None]


def test_a_second_break_is_found_as_soon_as_the_first() -> None:
    history = History()
    history.add(attempts(list(range(3000)) * 2, failed=False))
    history.add(attempts(list(range(3000, 3300)) * 2, failed=True))
    history.add(attempts(list(range(3300, 3360)) * 2, failed=False))
    assert alarms(history, 3359) == []
    for second in range(3360, 3370):
        history.add(attempts([second] * 2, failed=True))
    (found,) = alarms(history, 3369)
    assert found.since_s == 9
    assert (found.bad, found.seen) == (20, 20)


def test_a_client_that_always_fails_is_no_break_when_the_others_go_home() -> None:
    history = History()
    history.add(plain(list(range(1800)) * 20, overflowed=False))
    history.add(plain(list(range(1800)), overflowed=True))
    for second in range(1800, 3600):
        history.add(plain([second], overflowed=True))
        assert alarms(history, second) == []


def test_a_burst_is_no_break_nor_are_many() -> None:
    history = History()
    history.add(plain(list(range(3500)) * 2, overflowed=False))
    for begin in range(300, 3500, 300):
        history.add(plain([begin] * 10, overflowed=True))
        for second in range(begin, begin + 5):
            assert alarms(history, second) == []


def test_a_scan_hides_no_break() -> None:
    history = History()
    history.add(plain(list(range(600)) * 5, overflowed=False))
    history.add(plain([600] * 5000, overflowed=True))
    assert alarms(history, 600) == []
    history.add(plain(list(range(601, 900)) * 5, overflowed=False))
    assert alarms(history, 899) == []
    for second in range(900, 910):
        history.add(plain([second] * 5, overflowed=True))
    (found,) = alarms(history, 909)
    assert found.since_s == 9


def test_a_small_share_is_told_if_it_has_grown_and_lasts() -> None:
    history, random = History(), np.random.default_rng(7)
    for begin in range(0, 900, 100):
        bad = random.random(20_000) < (0.0005 if begin < 600 else 0.03)
        seconds = np.sort(random.integers(begin, begin + 100, 20_000))
        history.add(plain(seconds[~bad].tolist(), overflowed=False))
        if bad.any():
            history.add(plain(seconds[bad].tolist(), overflowed=True))
    (found,) = alarms(history, 899)
    assert found.since_s == pytest.approx(299, abs=3)


@pytest.mark.parametrize("by_chance", [False, True])
def test_at_a_handshake_a_minute_an_alarm_that_is_on_stays_on(by_chance: bool) -> None:
    random = np.random.default_rng(0)
    gaps = random.exponential(60, 75) if by_chance else np.full(75, 60.0)
    times = np.unique((gaps.cumsum() - 30).clip(0).astype(int))
    history = History()
    history.add(attempts(times[times < 3000].tolist(), failed=False))
    told = []
    for now in range(3000, int(times[-1]), 5):
        due = times[(times > now - 5) & (times <= now)]
        if len(due):
            history.add(attempts(due.tolist(), failed=True))
        told.append(bool(alarms(history, now)))
    assert not told[0]
    assert told[-1]
    assert told == sorted(told), "it is not on and off"


def test_an_alarm_ends_when_nobody_tries_any_more() -> None:
    history = History()
    history.add(attempts(list(range(1000)), failed=False))
    history.add(attempts(list(range(1000, 1020)), failed=True))
    assert alarms(history, 1020)
    assert not alarms(history, 1600)


def without(seconds: list[int]) -> Batch:
    """The client of attempts() goes on without Fast Open: it asks for a cookie and gets none, and nothing fails."""
    made = plain(seconds, overflowed=False)
    made.verdicts.request[:] = Request.COOKIE_REQUEST
    made.verdicts.attempted[:] = True
    made.verdicts.outcome[:] = Outcome.COOKIE_NOT_GRANTED
    made.verdicts.group[:] = Group.DEGRADED
    made.causes.cause[:] = Cause.NOT_SUPPORTED
    made.causes.confidence[:] = Confidence.POSSIBLE
    return made


def others(made: Batch) -> Batch:
    """The same of another client."""
    made.events["client"] ^= 0xFF
    return made


@pytest.mark.parametrize(
    "fall_back", [without, lambda seconds: plain(seconds, overflowed=False)], ids=["asks", "plain"]
)
def test_clients_that_lose_fast_open_without_a_failure_show_that_it_broke(
    fall_back: Callable[[list[int]], Batch],
) -> None:
    history = History()
    for begin in range(0, 1000, 100):
        history.add(attempts(list(range(begin, begin + 100)), failed=False))
        history.add(others(attempts(list(range(begin, begin + 100, 2)), failed=True)))
    told = over = None
    for second in range(1000, 1300):
        history.add(fall_back([second]))
        if second % 2 == 0:  # who always failed goes on as before
            history.add(others(attempts([second], failed=True)))
        found = one(breaks(view(history, second)), Broken.FAST_OPEN)
        if found is not None and told is None:
            told = second
        if told is not None:
            assert found is not None
            assert found.quiet
            assert (found.since_s, found.over_s) == (second - 1000, None)
            assert (found.bad, found.seen, found.bad_before) == (second - 999, second - 999, 0)
    assert told is not None
    assert told < 1010
    for second in range(1300, 1320):
        history.add(attempts([second], failed=False))
        found = one(breaks(view(history, second)), Broken.FAST_OPEN)
        assert found is not None
        if over is None and found.over_s is not None:
            over = second
    assert over is not None
    assert over < 1310


def stopped() -> History:
    """A client for which Fast Open worked a thousand times, and then ten times not, though nothing failed."""
    history = History()
    history.add(attempts(list(range(1000)), failed=False))
    history.add(without(list(range(1000, 1010))))
    return history


def test_what_does_not_fail_only_seems_to_have_stopped_working() -> None:
    history = stopped()
    seen = view(history, 1009)
    assert fast_open(seen, Window.ALL, one(breaks(seen), Broken.FAST_OPEN)) == (
        "~ Fast Open seems to have stopped working 9 s ago: it worked in 0 of the last 10 handshakes of clients for "
        "which it had worked; before in 100 % of 999.",
        "degraded",
    )
    history.add(attempts(list(range(1010, 1040)), failed=False))
    seen = view(history, 1039)
    text, style = fast_open(seen, Window.ALL, one(breaks(seen), Broken.FAST_OPEN))
    assert style == "ok"
    assert "it did not work for 10 s" in text


@pytest.mark.parametrize("crowd", [attempts, lambda seconds, failed: without(seconds)], ids=["with data", "asking"])
def test_a_crowd_for_which_it_never_worked_is_no_break(crowd: Callable[..., Batch]) -> None:
    history = History()
    history.add(attempts(list(range(600)) * 3, failed=False))
    for second in range(600, 900):
        history.add(attempts([second] * 3, failed=False))
        history.add(others(crowd([second] * 10, failed=True)))
        assert alarms(history, second) == []


def test_clients_that_begin_to_do_without_it_beside_what_they_did_are_no_break() -> None:
    history = History()
    history.add(attempts(list(range(600)) * 3, failed=False))
    for second in range(600, 900):
        history.add(attempts([second] * 3, failed=False))
        history.add(plain([second] * 10, overflowed=False))
        assert alarms(history, second) == []


def test_clients_that_come_back_are_known_however_they_come_in_batches() -> None:
    made = random_batch(5, 3000, peers=4)
    for name in ("server", "server_port", "ifindex"):  # four keys, of which hardly two need one place
        made.events[name] = made.events[name][0]
    worked = accepted_and_lived(made.verdicts)
    whole = Returning().of(made, worked)
    assert 0 < np.count_nonzero(whole) < 3000
    for step in (1, 7, 1000):
        memory, parts = Returning(), []
        for begin in range(0, 3000, step):
            end = min(begin + step, 3000)
            parts.append(memory.of(made.rows(begin, end), worked[begin:end]))
        assert np.array_equal(np.concatenate(parts), whole)
