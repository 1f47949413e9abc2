"""A snapshot of an earlier moment is what the dashboard would have shown then."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from tests.support.rows import INTERFACES, START_NS, random_batch
from tracer.aggregate.figures import Distributions
from tracer.encode.composer import Composer
from tracer.store.past import held_ns, past
from tracer.store.snapshot import Snapshot
from tracer.store.store import Store

S = 1_000_000_000


def filled(batches: int, until: int | None = None, limit: int = 100_000) -> Store:
    """A thousand handshakes a second, as far as they had settled."""
    now = START_NS + (batches if until is None else until) * S
    store = Store(limit, composer=Composer(INTERFACES), clock=lambda: now, refresh_ns=0)
    for number in range(batches if until is None else until):
        batch = random_batch(number, 1000, peers=20)
        batch.events["settled_ns"] = START_NS + number * S + np.arange(1000, dtype=np.uint64) * 1000 + 5
        store.write(batch)
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


def test_rows_that_are_not_held_are_left_out() -> None:
    shown = filled(30, limit=5000).snapshot()
    first, last = held_ns(shown.rows) or (0, 0)
    assert first > START_NS + 20 * S
    assert last == START_NS + 29 * S + 999_005
    assert len(past(shown, first - 1).rows) == 0
    assert past(shown, last).totals.handshakes == len(shown.rows)
    assert held_ns(past(shown, first - 1).rows) is None
