"""A whole run in a bounded number of steps: what they add up to, and how fine they are."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.rows import random_batch
from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.history import Window
from tracer.aggregate.series import Series, connect_quantile
from tracer.aggregate.tally import fate_cell
from tracer.handshake.batch import Batch

NS_PER_S = 1_000_000_000


def batch_at(seconds: np.ndarray, seed: int = 1) -> Batch:
    """Handshakes whose first SYNs came at these seconds."""
    batch = random_batch(seed, len(seconds), odd=False)
    batch.events["syn_ns"] = (seconds * NS_PER_S).astype(np.uint64)
    return batch


@pytest.mark.parametrize("span_s", [1, 100, 5000, 10_000_000])
def test_steps_stay_few_and_hold_everything(span_s: int) -> None:
    rng = np.random.default_rng(7)
    series, totals = Series(64), Aggregate()
    for seed in range(6):
        batch = batch_at(1000 + rng.integers(0, span_s, 500), seed)
        series.add(batch, 0)
        totals.add(batch)
    view = series.view()
    steps = view.history.coarse
    assert len(steps.number) <= 64
    assert series.size_s == 1 or len(steps.number) > 16  # no coarser than it must be
    assert (np.diff(steps.number) > 0).all()
    assert steps.cells.sum(axis=0) == pytest.approx(totals.cells())
    assert view.history.total == totals.totals()
    assert view.history.sums_of_last(view.history.reach_s) == pytest.approx(totals.cells())


def test_the_order_of_batches_does_not_matter() -> None:
    batches = [batch_at(np.arange(at, at + 300), at) for at in (5000, 100, 90_000, 100)]
    one, other = Series(50), Series(50)
    for batch in batches:
        one.add(batch, 0)
    for batch in reversed(batches):
        other.add(batch, 0)
    first, second = one.view(), other.view()
    assert np.array_equal(first.history.coarse.number, second.history.coarse.number)
    assert first.history.coarse.cells == pytest.approx(second.history.coarse.cells)
    assert np.array_equal(first.connects, second.connects)
    assert (first.history.began_ns, first.history.now_ns) == (100 * NS_PER_S, 90_299 * NS_PER_S)


def test_times_are_of_the_wall_clock() -> None:
    series = Series()
    series.add(batch_at(np.array([10])), 1_700_000_000 * NS_PER_S)
    assert series.view().history.now_ns == 1_700_000_010 * NS_PER_S


def test_a_place_is_known_from_any_time() -> None:
    """Unlike the dashboard's history, which knows places for an hour."""
    batch = batch_at(np.zeros(20))
    batch.events["server"][:] = batch.events["server"][0]
    batch.events["server_port"] = 443
    batch.events["result"] = 1
    batch.causes.handshake_cause[:] = 1
    series = Series()
    series.add(batch, 0)
    series.add(batch_at(np.full(3, 86_400), 2), 0)
    history = series.view().history
    where = history.where(Window.ALL, fate_cell(1, 1))
    assert where is not None
    assert (where.port, where.handshakes) == (443, 20)


def test_quantiles_of_connect_times() -> None:
    rng = np.random.default_rng(3)
    took = 10 ** rng.uniform(1, 6, 4000)
    series = Series()
    for part in range(4):
        batch = batch_at(np.zeros(1000), part)
        batch.durations.connect_us[:] = took[part * 1000 : part * 1000 + 1000]
        series.add(batch, 0)
    connects = series.view().connects
    for share in (0.05, 0.5, 0.95):
        assert connect_quantile(connects, share)[0] == pytest.approx(np.quantile(took, share), rel=0.07)
    assert np.isnan(connect_quantile(np.zeros_like(connects), 0.5)).all()


def test_nothing() -> None:
    view = Series().view()
    assert view.history.total.handshakes == 0
    assert len(view.history.coarse.number) == 0
