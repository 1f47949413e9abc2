"""The causes of a batch as columns, filled in by tracer/causes/judge.py."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from tracer.handshake.events import U8


@dataclass(frozen=True, slots=True)
class Causes:
    """One row per handshake, in the order of the batch; 0 means unknown."""

    cause: U8  # Cause, and its Confidence
    confidence: U8
    cookie_check: U8  # CookieCheck
    client_fail: U8  # ClientFail
    handshake_cause: U8  # HandshakeCause, its Confidence and CauseAt
    handshake_confidence: U8
    cause_at: U8
    drop: U8  # what the kernel said of a segment, and of its reset, by numbers that RowNames knows
    reset_reason: U8
    listener: U8  # whose queue was asked about, likewise

    @classmethod
    def none(cls, count: int) -> Causes:
        """`count` unknown rows, for the caller to fill in."""
        return cls(*(np.zeros(count, np.uint8) for _ in fields(cls)))
