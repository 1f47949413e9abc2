"""Why handshakes failed, were slow or had no Fast Open within a window: how many, where, and is it on the rise?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.history import NS_PER_S, HistoryView, Where, Window
from tracer.aggregate.tally import HAS_FAILED, PART
from tracer.handshake.events import F64
from tracer.vocabulary.vocabulary import Cause, HandshakeCause, HandshakeResult, Outcome

_LEAST_S = 10  # the newest part of a window that has a trend
_RANKED = 60  # reasons that are looked at for a trend
_SURE = 2.5  # standard deviations that tell a trend from chance


class Trend(Enum):
    """How the newest fifth of a window compares with the rest of it; what was on the rise and stopped is gone."""

    RISING = "rising"
    STEADY = "steady"
    FALLING = "falling"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Reason:
    """One of: a result (failed, or with a cause) and its cause; a cause of Fast Open; an outcome without a cause.

    `cell` is where history.py counts it; `failed` of those with a cause of Fast Open are of the
    group failed. `last_s` is the age of the newest, null if it is more than an hour (HistoryView.reach_s).
    """

    cell: int
    seen: int
    failed: int = 0
    trend: Trend = Trend.STEADY
    last_s: int | None = None
    where: Where | None = None

    @property
    def fate(self) -> tuple[HandshakeResult, HandshakeCause] | None:
        """Result and cause of handshakes."""
        at = self.cell - PART["fates"].start
        if not 0 <= at < len(HandshakeResult) * len(HandshakeCause):
            return None
        return HandshakeResult(at // len(HandshakeCause)), HandshakeCause(at % len(HandshakeCause))

    @property
    def cause(self) -> Cause | None:
        """Why Fast Open did not work."""
        at = self.cell - PART["causes"].start
        return Cause(at) if 0 <= at < len(Cause) else None

    @property
    def outcome(self) -> Outcome | None:
        """What came of Fast Open, where it is not known why."""
        at = self.cell - PART["unexplained"].start
        return Outcome(at) if 0 <= at < len(Outcome) else None

    @property
    def is_failure(self) -> bool:
        """Did handshakes fail, or did Fast Open cost most of them time or the connection?"""
        if self.fate is not None:
            return bool(HAS_FAILED[self.fate[0]])
        return 2 * self.failed >= self.seen > 0


_FATES, _CAUSES, _OUTCOMES = PART["fates"], PART["causes"], PART["unexplained"]
_FAST_OPEN = np.r_[_CAUSES.start + 1 : _CAUSES.stop, _OUTCOMES.start : _OUTCOMES.stop]
_ALL: NDArray[np.int64] = np.r_[_FATES.start : _FATES.stop, _FAST_OPEN]


def most_frequent(view: HistoryView, window: Window, most: int) -> tuple[Reason, ...]:
    """First one of handshakes and one of Fast Open, then the others, with nothing but their number."""
    sums = view.sums(window)
    seen = sums[_ALL]
    order = np.argsort(-seen, kind="stable")[: int(np.count_nonzero(seen))]
    of_fast_open = order >= _FATES.stop - _FATES.start
    first = sorted(int(np.flatnonzero(kind)[0]) for kind in (of_fast_open, ~of_fast_open) if kind.any())
    ranked = [*order[first].tolist(), *np.delete(order, first).tolist()][:most]
    return tuple(Reason(int(_ALL[at]), int(seen[at]), _failed(sums, int(_ALL[at]))) for at in ranked)


def _failed(sums: F64, cell: int) -> int:
    at = cell - _CAUSES.start
    return int(sums[PART["causes_failed"]][at]) if 0 <= at < len(Cause) else 0


def reasons(view: HistoryView, window: Window, most: int = 12, *, newest_first: bool = True) -> tuple[Reason, ...]:
    """The same, with all that is known of them; `newest_first`: what is on the rise first, and last what is gone."""
    span_s = min(window.seconds or view.reach_s, (view.now_ns - view.began_ns) // NS_PER_S + 1)
    newest_s = span_s // 5
    newest, within = view.sums_of_last(max(1, newest_s)), view.sums_of_last(span_s)
    ranked = most_frequent(view, window, _RANKED)
    found = []
    for one, last_s in zip(ranked, _last(view, [one.cell for one in ranked]), strict=True):
        trend = Trend.STEADY
        if newest_s >= _LEAST_S:
            trend = _trend(float(newest[one.cell]), float(within[one.cell]), newest_s / span_s)
        if trend is Trend.RISING and (last_s is None or last_s > max(_LEAST_S, newest_s // 4)):
            trend = Trend.GONE
        found.append(replace(one, trend=trend, last_s=last_s))
    if newest_first:
        found.sort(key=lambda one: (one.trend is Trend.GONE) - (one.trend is Trend.RISING))
    return tuple(replace(one, where=_where(view, window, one, newest_s)) for one in found[:most])


def _where(view: HistoryView, window: Window, one: Reason, newest_s: int) -> Where | None:
    """The place of most; of what is on the rise that of the newest, if it is another."""
    where = view.where(window, one.cell)
    if one.trend is not Trend.RISING:
        return where
    lately = view.where_of_last(newest_s, one.cell)
    if where is not None and (lately is None or (where.ip, where.port) == (lately.ip, lately.port)):
        return where
    return replace(lately, lately=True) if lately is not None else None


def _trend(newest: float, within: float, share: float) -> Trend:
    """Is the newest part of it larger or smaller than its share of time, beyond what chance does?"""
    if within and not newest and (1 - share) ** within < 0.01:
        return Trend.GONE
    off = (newest - within * share) / max(1.0, (within * share * (1 - share)) ** 0.5)
    if abs(off) < _SURE:
        return Trend.STEADY
    return Trend.RISING if off > 0 else Trend.FALLING


def _last(view: HistoryView, cells: list[int]) -> list[int | None]:
    """The age of the newest handshakes of each of these cells."""
    found: list[int | None] = [None] * len(cells)
    for steps in (view.coarse, view.fine):  # what fine steps know is nearer
        there = steps.cells[:, cells] != 0
        for at in np.flatnonzero(there.any(axis=0)).tolist():
            newest_s = (int(steps.number[np.flatnonzero(there[:, at])[-1]]) + 1) * steps.size_s - 1
            found[at] = max(0, view.now_ns // NS_PER_S - newest_s)
    return [age_s if age_s is not None and age_s < view.reach_s else None for age_s in found]
