"""How soon servers answer with Fast Open and without: a bounded sample of exact durations for each server.

Histograms as coarse as the other distributions' would blur the difference of two medians.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.keyindex import Indexes
from tracer.handshake.events import F64, Bool

TFO, NORMAL, RTT = 0, 1, 2
KINDS = 3
_FIRST = np.zeros(1, np.intp)
KEPT = 256  # durations of a kind and server: a median of so many is near that of all
# What both sides need before they are compared: with fewer a 90th percentile is the greatest of all, and the median's
# error may be as large as the benefit.
ENOUGH = 10
Z_95 = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Some servers in columns, microseconds; NaN without samples. `sooner_*` are NaN without enough of both.

    `sooner_us` is the median of normal handshakes minus that with TFO, `sooner_rtts` the same in median round trips,
    `sooner_low_us` to `sooner_high_us` its 95 % confidence interval.
    """

    tfo_samples: NDArray[np.int64]
    normal_samples: NDArray[np.int64]
    tfo_median_us: F64
    tfo_p90_us: F64
    normal_median_us: F64
    normal_p90_us: F64
    rtt_median_us: F64
    sooner_us: F64
    sooner_rtts: F64
    sooner_low_us: F64
    sooner_high_us: F64


@cache
def _by_samples() -> tuple[Indexes, F64]:
    """For each number of samples n up to KEPT: c, and 1 / (2 z), of the median's error; that is NaN below ENOUGH."""
    ranks, factors = np.ones(KEPT + 1, np.intp), np.full(KEPT + 1, np.nan)
    binomial = np.ones(1)
    for n in range(1, KEPT + 1):
        binomial = np.convolve(binomial, (0.5, 0.5))
        if n >= ENOUGH:
            ranks[n] = c = max(1, round((n + 1) / 2 - sqrt(n)))
            factors[n] = 0.5 / _normal_quantile(float(binomial[:c].sum()))
    return ranks, factors


def _normal_quantile(tail: float) -> float:
    """The z that a normal variable exceeds with this probability, of at most a half."""
    low, high = 0.0, 40.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if erfc(middle / sqrt(2)) / 2 > tail else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Samples of some servers [n, KEPT] in order, and how many each server has."""

    values: NDArray[np.float32]
    kept: Indexes

    def _at(self, place: Indexes) -> F64:
        found: F64 = self.values[np.arange(len(self.kept)), place].astype(np.float64)
        return found

    def quantile(self, share: float) -> F64:
        """The quantile of each server, interpolated; NaN without samples."""
        last = np.maximum(self.kept - 1, 0)
        at = last * share
        low = np.floor(at).astype(np.intp)
        below, above = self._at(low), self._at(np.minimum(low + 1, last))
        found: F64 = below + (above - below) * (at - low)
        return found

    def median_error(self) -> F64:
        """The standard error of each median; NaN with less than ENOUGH samples.

        Half the distance of two order statistics about the median, Y(n - c + 1) - Y(c), in standard deviations of the
        normal distribution: c = (n + 1) / 2 - sqrt(n), rounded, at least 1; z is that of the probability, by the
        binomial distribution, that the median of the population lies below Y(c): P(B(n, 1/2) <= c - 1). R. M. Price and
        D. G. Bonett, Estimating the variance of the sample median, J. Stat. Comput. Simul. 68 (2001) 295-305.
        """
        every_rank, every_factor = _by_samples()
        rank = every_rank[self.kept]
        distance = self._at(np.maximum(self.kept - rank, 0)) - self._at(rank - 1)
        found: F64 = distance * every_factor[self.kept]
        return found


@dataclass(frozen=True, slots=True)
class Sample:
    """The samples of some servers: `values` [KINDS, n, KEPT], and how many durations there were [KINDS, n]."""

    values: NDArray[np.float32]
    counts: NDArray[np.int64]

    def _ordered(self, kind: int) -> _Ordered:
        kept = np.minimum(self.counts[kind], KEPT)
        # places that were never written count as NaN, which sorts to the end
        there = np.arange(KEPT) < kept[:, None]
        return _Ordered(np.sort(np.where(there, self.values[kind], np.float32(np.nan)), axis=1), kept)

    def quantile(self, kind: int, share: float) -> F64:
        """The quantile of each server, interpolated; NaN without samples."""
        return self._ordered(kind).quantile(share)

    def compared(self) -> Comparisons:
        """Medians, tails and the benefit.

        The interval of the difference of two medians needs no shape of their distributions: the difference, give or
        take z sqrt(e1^2 + e2^2), where e1 and e2 are the standard errors (`_Ordered.median_error`) and z is 1.96 for
        95 %. R. M. Price and D. G. Bonett, Distribution-free confidence intervals for difference and ratio of medians,
        J. Stat. Comput. Simul. 72 (2002) 119-124.
        """
        tfo, normal = self._ordered(TFO), self._ordered(NORMAL)
        tfo_median, normal_median, rtt = tfo.quantile(0.5), normal.quantile(0.5), self.quantile(RTT, 0.5)
        error = Z_95 * np.hypot(tfo.median_error(), normal.median_error())
        sooner = np.where(np.isnan(error), np.nan, normal_median - tfo_median)
        return Comparisons(
            self.counts[TFO],
            self.counts[NORMAL],
            tfo_median,
            tfo.quantile(0.9),
            normal_median,
            normal.quantile(0.9),
            rtt,
            sooner,
            sooner / np.where(rtt > 0, rtt, np.nan),
            sooner - error,
            sooner + error,
        )


class _Random:
    """SplitMix64 (Steele, Lea and Flood 2014), many numbers at a time: numpy's generators are 2 MB of libraries."""

    _GOLDEN = np.uint64(0x9E3779B97F4A7C15)
    _MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))

    def __init__(self, seed: int) -> None:
        self._state = np.uint64(seed)

    def numbers(self, count: int) -> F64:
        """`count` numbers, uniform from 0 to below 1."""
        steps = np.arange(1, count + 1, dtype=np.uint64)
        steps *= self._GOLDEN
        steps += self._state
        if count:
            self._state = steps[-1]
        for shift, factor in self._MIX:
            steps ^= steps >> shift
            steps *= factor
        steps ^= steps >> np.uint64(31)
        found: F64 = (steps >> np.uint64(11)).astype(np.float64)
        found *= 2.0**-53
        return found


class Responses:
    """Time to the server's first data byte with SYN data acked whole (TFO) and without data in the SYN (NORMAL), and
    the round trips of these handshakes; row = slot of a server.

    It keeps up to KEPT durations, then a uniform sample of the whole run (reservoir sampling, algorithm R).
    """

    def __init__(self, rows: int) -> None:
        # a row for each kind of each slot; empty and not zeros: pages that no server uses are never touched
        self._rows = rows
        self._values = np.empty((KINDS * rows, KEPT), np.float32)
        self._counts = np.zeros(KINDS * rows, np.int64)
        # numbers of 16 bits are sorted without comparing them
        self._order_by = np.min_scalar_type(KINDS * rows)
        # the same numbers each time, so that a replay gives the same results
        self._random = _Random(7413)

    def _add(self, rows: Indexes, durations_us: F64) -> None:
        if not len(rows):
            return
        order = rows.astype(self._order_by).argsort(kind="stable")
        rows = rows[order]
        starts = np.flatnonzero(rows[1:] != rows[:-1]) + 1
        starts = np.concatenate((_FIRST, starts))
        lengths = np.empty_like(starts)
        np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
        lengths[-1] = len(rows) - starts[-1]
        place = self._counts[rows]  # how many came before
        place += np.arange(len(rows))
        place -= np.repeat(starts, lengths)
        late = np.flatnonzero(place >= KEPT)
        if len(late):
            place[late] = self._random.numbers(len(late)) * (place[late] + 1)
        kept = np.flatnonzero(place < KEPT)
        self._values[rows[kept], place[kept]] = durations_us[order[kept]]  # of two in one place the later stays
        self._counts[rows[starts]] += lengths

    def clear(self, slots: Indexes) -> None:
        """Reset these."""
        self._by_kind(self._counts)[:, slots] = 0

    def add_handshakes(self, slots: Indexes, tfo: Bool, normal: Bool, response_us: F64, rtt_us: F64) -> None:
        """Add those that lived by their durations (NaN where not known): accepted TFO, and without data in the SYN."""
        answered = ~np.isnan(response_us)
        by_tfo, by_normal = np.flatnonzero(tfo & answered), np.flatnonzero(normal & answered)
        measured = np.flatnonzero((tfo | normal) & answered & ~np.isnan(rtt_us))
        # all at once: with few rows the number of calls decides the cost
        rows = (slots[by_tfo], slots[by_normal] + NORMAL * self._rows, slots[measured] + RTT * self._rows)
        self._add(np.concatenate(rows), np.concatenate((response_us[by_tfo], response_us[by_normal], rtt_us[measured])))

    def _by_kind(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        return counts.reshape(KINDS, self._rows)

    def of(self, slots: Indexes) -> Sample:
        """A copy of the samples of some slots."""
        values = self._values.reshape(KINDS, self._rows, KEPT)
        return Sample(values[:, slots], self._by_kind(self._counts)[:, slots])

    def samples(self, slots: Indexes) -> NDArray[np.int64]:
        """How many with TFO and without these have: [2, n]."""
        found: NDArray[np.int64] = self._by_kind(self._counts)[: NORMAL + 1, slots]
        return found

    def enough(self, slots: Indexes) -> Bool:
        """Which of these have enough samples of both kinds to be compared."""
        tfo, normal = self.samples(slots)
        found: Bool = (tfo >= ENOUGH) & (normal >= ENOUGH)
        return found

    def ranked(self, live: Indexes, shown: int, only_enough: bool = False) -> Indexes:
        """The servers with most samples; those with enough of both kinds come first, those without any are left out."""
        tfo, normal = self.samples(live)
        enough = self.enough(live)
        counted = enough if only_enough else tfo + normal > 0
        order = np.lexsort((-(tfo + normal), ~((tfo > 0) & (normal > 0)), ~enough))
        ranked: Indexes = live[order[counted[order]]][:shown]
        return ranked
