"""How much sooner one sample is than another, with an interval that holds for few values of any distribution.

The shift of two samples is the median of all their differences (Hodges and Lehmann); its confidence interval is that of
the rank-sum test (Mann and Whitney): the differences of two ranks, chosen by the exact distribution of the number of
pairs in order, or for larger samples by its normal approximation. J. L. Hodges, E. L. Lehmann, Estimates of location
based on rank tests, Ann. Math. Statist. 34 (1963) 598-611; M. Hollander, D. A. Wolfe, E. Chicken, Nonparametric
Statistical Methods, 3rd edition, section 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, sqrt

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.responses import Z_95
from tracer.probe.model import Benefit

_TAIL = 0.025  # of both
_EXACT = 20  # values of both samples


def benefit(slow_us: Sequence[float], fast_us: Sequence[float]) -> Benefit | None:
    """By how much `fast_us` is sooner than `slow_us`, with a 95 % interval; None without values of both."""
    if not slow_us or not fast_us:
        return None
    differences = np.sort(np.subtract.outer(np.asarray(slow_us), np.asarray(fast_us)), axis=None)
    sooner = float(np.median(differences))
    rank = _rank(len(slow_us), len(fast_us))
    if rank < 1:
        return Benefit(sooner, None, None)
    return Benefit(sooner, float(differences[rank - 1]), float(differences[-rank]))


def _rank(one: int, other: int) -> int:
    """Which difference from either end bounds the interval; 0 with too few values."""
    if max(one, other) > _EXACT:
        return floor(one * other / 2 - Z_95 * sqrt(one * other * (one + other + 1) / 12))
    share = _pairs_in_order(one, other)
    below = np.cumsum(share / share.sum())
    return int(np.searchsorted(below, _TAIL, side="right"))


def _pairs_in_order(one: int, other: int) -> NDArray[np.float64]:
    """How many orders of two samples have so many pairs in order, 0 to one * other of them (Mann and Whitney 1947)."""
    # each value of the first sample is above k of the other: partitions into at most `one` parts of at most `other`
    ways = np.zeros((one + 1, one * other + 1))
    ways[0, 0] = 1
    for k in range(other + 1):
        for used in range(1, one + 1):
            ways[used, k:] += ways[used - 1, : one * other + 1 - k]
    found: NDArray[np.float64] = ways[one]
    return found
