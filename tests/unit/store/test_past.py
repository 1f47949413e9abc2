"""A snapshot of an earlier moment is what the dashboard would have shown then."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from tests.support.rows import INTERFACES, START_NS, random_batch
from tracer.aggregate.figures import Distributions
from tracer.aggregate.history import History, Window
from tracer.aggregate.tally import PART
from tracer.encode.composer import Composer
from tracer.store.past import past, range_ns
from tracer.store.snapshot import Snapshot
from tracer.store.store import Store

S = 1_000_000_000


def filled(batches: int, until: int | None = None, limit: int = 100_000) -> Store:
    """A thousand handshakes a second, as far as they had settled."""
    now = START_NS
    store = Store(limit, composer=Composer(INTERFACES), clock=lambda: now, refresh_ns=0)
    for number in range(batches if until is None else until):
        batch = random_batch(number, 1000, peers=20)
        batch.events["settled_ns"] = START_NS + number * S + np.arange(1000, dtype=np.uint64) * 1000 + 5
        store.write(batch)
    now = START_NS + (batches if until is None else until) * S
    return store


@pytest.mark.parametrize("moment", [0, 1, 7, 12])
def test_the_past_is_what_was_shown_then(moment: int) -> None:
    then = filled(12, moment).snapshot()
    found = past(filled(12).snapshot(), START_NS + moment * S)
    assert len(found.rows) == len(then.rows) == 1000 * moment
    assert found.totals == then.totals
    assert found.taken_ns == then.taken_ns
    assert found.comparisons == then.comparisons
    assert sorted(map(str, found.peers)) == sorted(map(str, then.peers))
    assert (found.handshakes_per_s, found.attempts_per_s) == (then.handshakes_per_s, then.attempts_per_s)
    for one in fields(Distributions):
        assert str(getattr(found.distributions, one.name)) == str(getattr(then.distributions, one.name))
    for steps, others in ((found.history.fine, then.history.fine), (found.history.coarse, then.history.coarse)):
        assert (steps.number == others.number).all()
        assert np.allclose(steps.cells, others.cells)


def test_it_changes_nothing_of_the_present() -> None:
    store = filled(9)
    before: Snapshot = store.snapshot()
    past(before, START_NS + 3 * S)
    assert store.snapshot().totals == before.totals
    assert len(before.rows) == 9000


def test_where_rows_are_not_held_sums_come_from_the_steps() -> None:
    then, shown = filled(30, 25).snapshot(), filled(30, limit=5000).snapshot()
    first, last = range_ns(shown) or (0, 0)
    assert (first, last) == (START_NS, START_NS + 29 * S + 999_005)
    found = past(shown, START_NS + 25 * S - 1)
    assert found.held == len(found.rows)
    assert 0 <= found.held < 5000
    for window in Window:
        one, other = found.history.totals(window), then.history.totals(window)
        assert one.outcomes == other.outcomes
        assert one.failed_causes == other.failed_causes
        assert one.rtt_saved_us == pytest.approx(other.rtt_saved_us)
    early = past(shown, START_NS + 3 * S - 1)
    assert (len(early.rows), early.held) == (0, 0)
    assert early.totals.handshakes == 3000
    assert past(shown, last).totals.handshakes == 30_000


def test_older_than_all_seconds_it_is_exact_to_a_coarse_step() -> None:
    history = History()
    for second in range(0, 3000, 3):
        batch = random_batch(second % 7, 10)
        batch.events["settled_ns"] = (1000 + second) * S
        history.add(batch)
    now = history.view(1000 * S, 4000 * S)
    for moment in (3990, 3700, 3600, 2000):
        found = now.until(moment * S)
        expected = sum(10 for second in range(0, 3000, 3) if 1000 + second <= moment)
        assert found.total.handshakes == pytest.approx(expected, abs=60)
        assert found.totals(Window.FIVE_MINUTES).handshakes == pytest.approx(min(1000, expected), abs=110)
        assert found.cells([0, 3600], [PART["handshakes"].start])[0, 0] == pytest.approx(expected, abs=60)


def test_rows_out_of_order_are_found() -> None:
    store = Store(composer=Composer(INTERFACES), clock=lambda: START_NS + 50 * S, refresh_ns=0)
    batch = random_batch(1, 500)
    batch.events["settled_ns"] = START_NS + np.arange(500, dtype=np.uint64) * S // 20
    batch.events["settled_ns"][3] = START_NS + 49 * S
    store.write(batch)
    shown = store.snapshot()
    assert range_ns(shown) == (START_NS, START_NS + 49 * S)
    assert past(shown, START_NS + 10 * S).totals.handshakes == 200
