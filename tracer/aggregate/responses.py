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
from tracer.aggregate.reservoir import Ordered, Reservoir, ordered
from tracer.handshake.events import F64, Bool

TFO, NORMAL, RTT = 0, 1, 2
KINDS = 3
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


def median_error(samples: Ordered) -> F64:
    """The standard error of each median; NaN with less than ENOUGH samples.

    Half the distance of two order statistics about the median, Y(n - c + 1) - Y(c), in standard deviations of the
    normal distribution: c = (n + 1) / 2 - sqrt(n), rounded, at least 1; z is that of the probability, by the
    binomial distribution, that the median of the population lies below Y(c): P(B(n, 1/2) <= c - 1). R. M. Price and
    D. G. Bonett, Estimating the variance of the sample median, J. Stat. Comput. Simul. 68 (2001) 295-305.
    """
    every_rank, every_factor = _by_samples()
    rank = every_rank[samples.kept]
    distance = samples.at(np.maximum(samples.kept - rank, 0)) - samples.at(rank - 1)
    found: F64 = distance * every_factor[samples.kept]
    return found


def interval_of(tfo: Ordered, normal: Ordered) -> tuple[F64, F64, F64]:
    """The median without Fast Open less that with it, and its 95 % confidence interval; NaN without enough of both.

    The interval of the difference of two medians needs no shape of their distributions, as long as they are dense about
    the median: the difference, give or take z sqrt(e1^2 + e2^2), where e1 and e2 are the standard errors
    (`median_error`) and z is 1.96 for 95 %. R. M. Price and D. G. Bonett, Distribution-free confidence intervals for
    difference and ratio of medians, J. Stat. Comput. Simul. 72 (2002) 119-124.
    """
    error = Z_95 * np.hypot(median_error(tfo), median_error(normal))
    sooner = np.where(np.isnan(error), np.nan, normal.quantile(0.5) - tfo.quantile(0.5))
    return sooner, sooner - error, sooner + error


def _are_apart(one: Ordered, other: Ordered) -> Bool:
    """Do the medians' own intervals leave a gap? Each has the population's median in some five of six cases.

    It is that of two order statistics, by the binomial distribution, whatever the population: also where the median
    jumps, as with answers of two kinds, of which about half are slow (a cache).
    """
    (low, high), (other_low, other_high) = _median_range(one), _median_range(other)
    return (low > other_high) | (other_low > high)


def _median_range(samples: Ordered) -> tuple[F64, F64]:
    # the normal approximation; two such intervals that just touch differ at about 5 %
    rank = np.maximum(np.floor((samples.kept + 1) / 2 - 0.7 * np.sqrt(samples.kept)).astype(np.intp), 1)
    return samples.at(rank - 1), samples.at(np.maximum(samples.kept - rank, 0))


@dataclass(frozen=True, slots=True)
class Sample:
    """The samples of some servers: `values` [KINDS, n, KEPT], and how many durations there were [KINDS, n]."""

    values: NDArray[np.float32]
    counts: NDArray[np.int64]

    def _ordered(self, kind: int) -> Ordered:
        return ordered(self.values[kind], self.counts[kind])

    def quantile(self, kind: int, share: float) -> F64:
        """The quantile of each server, interpolated; NaN without samples."""
        return self._ordered(kind).quantile(share)

    def compared(self) -> Comparisons:
        """Medians, tails and the benefit.

        The interval is `interval_of`, and reaches to 0 where the medians' own intervals are not apart.
        """
        tfo, normal = self._ordered(TFO), self._ordered(NORMAL)
        tfo_median, normal_median, rtt = tfo.quantile(0.5), normal.quantile(0.5), self.quantile(RTT, 0.5)
        sooner, low, high = interval_of(tfo, normal)
        touch = ~_are_apart(tfo, normal)
        low[touch] = np.minimum(low[touch], 0.0)
        high[touch] = np.maximum(high[touch], 0.0)
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
            low,
            high,
        )


class Responses:
    """Time to the server's first data byte with SYN data acked whole (TFO) and without data in the SYN (NORMAL), and
    the round trips of these handshakes; row = slot of a server.

    Of each it keeps KEPT (Reservoir).
    """

    def __init__(self, rows: int) -> None:
        # a row for each kind of each slot
        self._rows = rows
        self._kept = Reservoir(KINDS * rows, KEPT)

    def clear(self, slots: Indexes) -> None:
        """Reset these."""
        self._by_kind(self._kept.counts)[:, slots] = 0

    def add_handshakes(self, slots: Indexes, tfo: Bool, normal: Bool, response_us: F64, rtt_us: F64) -> None:
        """Add those that lived by their durations (NaN where not known): accepted TFO, and without data in the SYN."""
        answered = ~np.isnan(response_us)
        by_tfo, by_normal = np.flatnonzero(tfo & answered), np.flatnonzero(normal & answered)
        measured = np.flatnonzero((tfo | normal) & answered & ~np.isnan(rtt_us))
        # all at once: with few rows the number of calls decides the cost
        rows = (slots[by_tfo], slots[by_normal] + NORMAL * self._rows, slots[measured] + RTT * self._rows)
        self._kept.add(
            np.concatenate(rows), np.concatenate((response_us[by_tfo], response_us[by_normal], rtt_us[measured]))
        )

    def _by_kind(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        return counts.reshape(KINDS, self._rows)

    def of(self, slots: Indexes) -> Sample:
        """A copy of the samples of some slots."""
        values = self._kept.values.reshape(KINDS, self._rows, KEPT)
        return Sample(values[:, slots], self._by_kind(self._kept.counts)[:, slots])

    def samples(self, slots: Indexes) -> NDArray[np.int64]:
        """How many with TFO and without these have: [2, n]."""
        found: NDArray[np.int64] = self._by_kind(self._kept.counts)[: NORMAL + 1, slots]
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
