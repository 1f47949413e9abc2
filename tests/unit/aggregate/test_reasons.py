"""Reasons of failures: their order, what they are, whether they rise, and when they were seen last."""

from __future__ import annotations

import numpy as np

from tests.support.day import BEGIN_S, NS_PER_S, attempts, plain
from tests.support.rows import random_batch
from tests.unit.aggregate.test_breaks import view
from tracer.aggregate.history import History, Where, Window
from tracer.aggregate.reasons import Trend, most_frequent, reasons
from tracer.aggregate.tally import PART
from tracer.handshake.batch import Batch
from tracer.vocabulary.vocabulary import Cause, Group, HandshakeCause, HandshakeResult, Outcome
from tracer.words.reasons import told


def refused_cookie(seconds: list[int], cause: Cause) -> Batch:
    made = attempts(seconds, failed=True)
    made.causes.cause[:] = cause
    return made


def test_the_most_frequent_of_each_kind_come_first() -> None:
    history = History()
    history.add(plain([10] * 40, overflowed=True))
    elsewhere = plain([10] * 30, overflowed=True)
    elsewhere.events["server_port"] = 444
    history.add(elsewhere)
    history.add(refused_cookie([10] * 5, Cause.KEY_NOT_SHARED))
    history.add(refused_cookie([10] * 3, Cause.NONE))
    first, second, *rest = reasons(view(history, 20), Window.FIVE_MINUTES)
    assert first.fate == (HandshakeResult.HALF_OPEN, HandshakeCause.ACCEPT_QUEUE_FULL)
    assert first.is_failure
    assert (first.seen, first.where) == (70, Where("192.0.2.7", 443, 40, 70))
    assert (second.cause, second.seen) == (Cause.KEY_NOT_SHARED, 5)
    assert second.fate is None
    assert second.is_failure
    (third,) = rest
    assert (third.outcome, third.seen, third.last_s) == (Outcome.SYN_TIMEOUT_FALLBACK, 3, 10)
    assert reasons(view(history, 1000), Window.FIVE_MINUTES) == ()
    assert reasons(view(history, 10_000), Window.ALL)[0].last_s is None


def test_a_cause_of_fast_open_is_a_failure_where_most_of_its_handshakes_failed() -> None:
    for failed, expected in ((5, True), (2, False)):
        history = History()
        history.add(refused_cookie([10] * failed, Cause.COOKIE_STALE))
        lucky = refused_cookie([10] * 4, Cause.COOKIE_STALE)
        lucky.verdicts.group[:] = Group.DEGRADED
        history.add(lucky)
        (found,) = reasons(view(history, 20), Window.FIVE_MINUTES)
        assert (found.seen, found.failed, found.is_failure) == (failed + 4, failed, expected)
        assert told(found).group == ("failed" if expected else "degraded")


def test_each_is_counted_once() -> None:
    history = History()
    batch = random_batch(4, 500)
    batch.events["settled_ns"] = (BEGIN_S + 10) * NS_PER_S
    history.add(batch)
    found = most_frequent(view(history, 20), Window.ALL, 10_000)
    assert len({one.cell for one in found}) == len(found)
    fates = sum(one.seen for one in found if one.fate is not None)
    causes = sum(one.seen for one in found if one.cause is not None)
    cells = view(history, 20).total_cells
    assert fates == cells[PART["fates"]].sum()
    assert causes == np.count_nonzero(batch.causes.cause)
    assert all((one.fate is not None) + (one.cause is not None) + (one.outcome is not None) == 1 for one in found)


def test_trends() -> None:
    for seconds, trend in (
        (range(0, 300, 3), Trend.STEADY), (range(240, 300), Trend.RISING), ([*range(230), 299], Trend.FALLING),
        (range(200), Trend.GONE), ([0, 1], Trend.STEADY),
    ):  # fmt: skip
        history = History()
        history.add(plain(list(seconds), overflowed=True))
        (found,) = reasons(view(history, 299.5), Window.FIVE_MINUTES)
        assert found.trend is trend, seconds
        assert found.last_s == 299 - max(seconds)


def test_what_stopped_is_not_on_the_rise() -> None:
    history = History()
    history.add(plain(list(range(250, 280)) * 3, overflowed=True))
    for second, trend in ((280, Trend.RISING), (290, Trend.RISING), (299, Trend.GONE), (320, Trend.GONE)):
        (found,) = reasons(view(history, second + 0.5), Window.FIVE_MINUTES)
        assert found.trend is trend, second


def test_of_what_is_on_the_rise_the_newest_place_is_told() -> None:
    history = History()
    history.add(plain(list(range(100)) * 3, overflowed=True))
    elsewhere = plain(list(range(260, 300)) * 5, overflowed=True)
    elsewhere.events["server_port"] = 444
    history.add(elsewhere)
    (found,) = reasons(view(history, 299.5), Window.FIVE_MINUTES)
    assert (found.trend, found.seen) == (Trend.RISING, 500)
    assert found.where == Where("192.0.2.7", 444, 200, 200, lately=True)
    (found,) = reasons(view(history, 380), Window.FIVE_MINUTES)
    assert (found.trend, found.where) == (Trend.GONE, Where("192.0.2.7", 444, 200, 257))


def test_what_still_happens_stands_before_what_is_over() -> None:
    history = History()
    history.add(plain(list(range(200)) * 3, overflowed=True))
    for cause, seconds in ((HandshakeCause.NO_LISTENER, range(0, 300, 10)), (HandshakeCause.REFUSED, range(285, 300))):
        made = plain(list(seconds), overflowed=True)
        made.causes.handshake_cause[:] = cause
        history.add(made)
    found = reasons(view(history, 299.5), Window.FIVE_MINUTES)
    assert [(one.fate and one.fate[1], one.trend) for one in found] == [
        (HandshakeCause.REFUSED, Trend.RISING), (HandshakeCause.NO_LISTENER, Trend.STEADY),
        (HandshakeCause.ACCEPT_QUEUE_FULL, Trend.GONE),
    ]  # fmt: skip
    assert reasons(view(history, 299.5), Window.FIVE_MINUTES, most=1) == found[:1]
    # a report is about the whole run: what only its last seconds had stands where its number puts it
    by_number = reasons(view(history, 299.5), Window.FIVE_MINUTES, newest_first=False)
    assert [one.seen for one in by_number] == sorted((one.seen for one in found), reverse=True)
    assert by_number[0].trend is Trend.GONE
