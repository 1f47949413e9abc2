"""Options of SYN and SYN-ACK that cannot work, over whole batches (TFO.md section 8)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, Bool, Events, has
from tracer.vocabulary.vocabulary import WARNING_WORDS, Has, Warn

MSS_MIN = 536  # what everybody takes, and what no option means (RFC 9293, section 3.7.1)
WSCALE_MAX = 14  # RFC 7323, section 2.3
_HEADERS_V4, _HEADERS_V6 = 40, 60  # IP and TCP, without options


def warnings(events: Events, mtu_of: Callable[[int], int]) -> U8:
    """A mask of Warn for each handshake. `mtu_of`: of an interface by its number, 0 where it is not known."""
    found = np.zeros(len(events), np.uint8)
    mtus = _mtus(events["ifindex"], mtu_of)
    left = events["egress"] != 0
    for name, leaves in (("syn", left), ("synack", ~left)):
        facts = events[name]
        carried = facts["has"]
        there, with_mss = has(carried, Has.SEGMENT), has(carried, Has.MSS)
        found |= (with_mss & (facts["mss"] < MSS_MIN)) * np.uint8(Warn.MSS_TINY)
        found |= (there & (facts["window"] == 0)) * np.uint8(Warn.WINDOW_ZERO)
        found |= (has(carried, Has.WSCALE) & (facts["wscale"] > WSCALE_MAX)) * np.uint8(Warn.WSCALE_INVALID)
        if mtus is not None:
            found |= (with_mss & leaves & _above(events, facts, mtus)) * np.uint8(Warn.MSS_ABOVE_MTU)
    return found


@cache
def warning_words(mask: int) -> tuple[str, ...]:
    """`warnings` of a record."""
    return tuple(word for bit, word in enumerate(WARNING_WORDS) if mask >> bit & 1)


def _above(events: Events, facts: Events, mtus: NDArray[np.int64]) -> Bool:
    """Does a segment that leaves ask for larger ones than come back by that interface?

    One that arrives may: the other end has a larger MTU, and this one sends no more than its own.
    """
    headers = np.where(events["family"] == 4, _HEADERS_V4, _HEADERS_V6)
    found: Bool = (mtus != 0) & (facts["mss"] + headers > mtus)
    return found


def _mtus(ifindex: NDArray[np.uint32], mtu_of: Callable[[int], int]) -> NDArray[np.int64] | None:
    """The MTU of each row's interface; None if none is known."""
    if not len(ifindex):
        return None
    lowest = int(ifindex.min())
    if lowest == int(ifindex.max()):
        mtu = mtu_of(lowest)
        return np.full(len(ifindex), mtu) if mtu else None
    numbers, places = np.unique(ifindex, return_inverse=True)
    mtus = np.array([mtu_of(number) for number in numbers.tolist()], np.int64)
    return mtus[places] if mtus.any() else None
