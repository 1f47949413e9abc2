"""Causes of a batch as columns, beside its verdicts: what tracer/causes/judge.py infers and everybody else reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8


@dataclass(frozen=True, slots=True)
class Causes:
    """One row a handshake, in the order of the batch; 0 where nothing is known."""

    cause: U8  # Cause
    confidence: U8  # Confidence
    cookie_check: U8  # CookieCheck

    @classmethod
    def none(cls, count: int) -> Causes:
        """`count` rows of which nothing is known; the columns are the caller's to fill in."""
        return cls(np.zeros(count, np.uint8), np.zeros(count, np.uint8), np.zeros(count, np.uint8))

    def rows(self, part: slice | NDArray[np.intp]) -> Causes:
        """Some of the rows: by a slice without copies, or by their numbers."""
        return Causes(self.cause[part], self.confidence[part], self.cookie_check[part])
