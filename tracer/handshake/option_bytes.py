"""The option bytes of many segments at once, without the values that differ in each handshake."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import Events

WIDTH = 40  # bytes: TCP_OPTIONS_MAX of bpf/event.h
STAMPS = 8  # bytes of TSval and TSecr


def _mask(start: int, length: int) -> NDArray[np.uint64]:
    """All bits but those of `length` bytes from `start` on, as five words."""
    kept = np.full(WIDTH, 0xFF, np.uint8)
    kept[start : start + length] = 0
    return kept.view(np.uint64)


# by offset, and for the cookie also by length; WIDTH stands for offsets beyond the end (NO_OFFSET)
_WITHOUT_STAMPS = np.array([_mask(start, STAMPS) for start in range(WIDTH + 1)])
_WITHOUT_COOKIE = np.array([[_mask(start, length) for length in range(WIDTH + 1)] for start in range(WIDTH + 1)])


def masked(segment: Events) -> NDArray[np.uint64]:
    """[n, 5] words of option bytes with TSval, TSecr and cookie zeroed, which leaves few distinct ones."""
    options = np.ascontiguousarray(segment["options"]).view(np.uint64)
    stamps = np.minimum(segment["ts_offset"], WIDTH)
    found: NDArray[np.uint64] = options & _WITHOUT_STAMPS[stamps]
    rows = np.flatnonzero(segment["cookie_len"])
    if len(rows):
        start, length = (np.minimum(segment[name][rows], WIDTH) for name in ("tfo_offset", "cookie_len"))
        found[rows] &= _WITHOUT_COOKIE[start, length]
    return found


def layout_keys(masked_options: NDArray[np.uint64], options_len: NDArray[np.uint8]) -> list[bytes]:
    """The used bytes of each, for signature.option_layout()."""
    data = masked_options.tobytes()
    starts = range(0, len(data), WIDTH)
    return [data[at : at + length] for at, length in zip(starts, options_len.tolist(), strict=True)]
