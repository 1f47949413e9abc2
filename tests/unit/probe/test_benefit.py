"""The interval of a shift: against all orders counted one by one, and against samples of a known shift."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from tracer.probe.benefit import _pairs_in_order, _rank, benefit


@pytest.mark.parametrize(("one", "other"), [(1, 1), (3, 4), (5, 4), (5, 5), (2, 7)])
def test_orders_are_counted(one: int, other: int) -> None:
    counted = np.zeros(one * other + 1)
    for places in combinations(range(one + other), one):
        counted[sum(place - rank for rank, place in enumerate(places))] += 1
    assert _pairs_in_order(one, other).tolist() == counted.tolist()
    assert counted.sum() == comb(one + other, one)


def test_ranks_are_those_of_tables() -> None:
    # Hollander, Wolfe and Chicken, table A.6: the critical value at 2.5 % of each tail, by the number of differences
    assert (_rank(5, 4), _rank(5, 5), _rank(10, 10)) == (2, 3, 24)
    assert _rank(3, 3) == 0


def test_too_few_have_no_interval() -> None:
    found = benefit([40.0, 41.0, 42.0], [20.0, 21.0, 22.0])
    assert found is not None
    assert (found.sooner_us, found.low_us, found.high_us) == (20.0, None, None)
    assert benefit([], [1.0]) is None
    assert benefit([1.0], []) is None


@pytest.mark.parametrize(("one", "other"), [(5, 4), (12, 9), (40, 30)])
def test_the_interval_covers_the_shift(one: int, other: int) -> None:
    draw = np.random.default_rng(7413)
    held = 0
    for _ in range(1000):
        slow, fast = 20 + draw.exponential(5, one), draw.exponential(5, other)
        found = benefit(slow.tolist(), fast.tolist())
        assert found is not None
        assert found.low_us is not None
        assert found.high_us is not None
        held += found.low_us <= 20 <= found.high_us
    assert held >= 935
