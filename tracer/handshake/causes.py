"""What is inferred of a batch as columns, filled in by tracer/causes/judge.py."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, Events

# the same handshake on the other side of a translation; id 0 = none is known
TWIN = np.dtype(
    [("id", "<u8"), ("client", "u1", (16,)), ("server", "u1", (16,)), ("client_port", "<u2"), ("server_port", "<u2")]
)
_RAW = np.dtype(f"V{TWIN.itemsize}")  # numpy copies bytes at once, and fields one by one


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
    nat: NDArray[np.void]  # bytes of a TWIN
    changed: NDArray[np.uint16]  # what this host changed on the way through it, by a number that RowNames knows

    @classmethod
    def none(cls, count: int) -> Causes:
        """`count` unknown rows, for the caller to fill in."""
        return cls(*(np.zeros(count, dtype) for dtype in DTYPES.values()))

    @property
    def twins(self) -> Events:
        """`nat` with its fields (TWIN)."""
        found: Events = self.nat.view(TWIN)
        return found


DTYPES: dict[str, np.dtype[Any]] = {one.name: np.dtype(np.uint8) for one in fields(Causes)} | {
    "nat": _RAW,
    "changed": np.dtype(np.uint16),
}
