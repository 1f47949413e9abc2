"""Durations in buckets of even width on a logarithmic scale, and quantiles of what was counted in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import F64, Bool

# Durations: 24 buckets a decade from 1 us to 1,000 s, so a bucket is 10 % wide.
PER_DECADE = 24
DECADES = 9
BUCKETS = PER_DECADE * DECADES
EDGES: F64 = 10.0 ** (np.arange(BUCKETS + 1) / PER_DECADE)


def buckets(durations_us: F64) -> tuple[NDArray[np.intp], Bool]:
    """The bucket of each duration (undefined if unknown), and which are known; the outer buckets take the rest."""
    known: Bool = ~np.isnan(durations_us)
    clipped = np.clip(np.where(known, durations_us, 1.0), 1.0, EDGES[-1])
    found = (np.log10(clipped) * PER_DECADE).astype(np.intp)
    return np.minimum(found, BUCKETS - 1), known


def used(counts: NDArray[np.integer], rows: NDArray[np.intp]) -> slice:
    """The range of buckets that some of these rows use, at least one."""
    found = np.flatnonzero(counts[rows].any(axis=0))
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 1)


def quantiles(counts: NDArray[np.integer], share: float, first: int = 0) -> F64:
    """The quantile of each row of [n, BUCKETS] counts in microseconds, NaN without samples; exact to 10 %.

    `counts` may have only the buckets from `first` on, if all others are empty.
    """
    sums = counts.cumsum(axis=1)
    total = sums[:, -1]
    wanted = total * share
    place = np.minimum((sums < wanted[:, None]).sum(axis=1), counts.shape[1] - 1)
    rows = np.arange(len(counts))
    inside = counts[rows, place]
    before = sums[rows, place] - inside
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.clip((wanted - before) / inside, 0.0, 1.0)
    # buckets are even in the logarithm
    return np.where(total > 0, 10.0 ** ((first + place + part) / PER_DECADE), np.nan)
