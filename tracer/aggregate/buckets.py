"""Durations in buckets whose edges people like to read: 1, 2, 5, 10, 20, 50 ..., from 1 us to 1,000 s."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import F64

DECADES = 9
EDGES: F64 = np.array([step * 10.0**decade for decade in range(DECADES) for step in (1, 2, 5)] + [10.0**DECADES])
BUCKETS = len(EDGES) - 1


def bucket_counts(durations_us: F64) -> NDArray[np.int64]:
    """How many of these known durations are in each bucket; the outer buckets take the rest."""
    return np.bincount(np.searchsorted(EDGES[1:-1], durations_us, side="right"), minlength=BUCKETS)
