"""When something that worked began to fail: found in the steps of history.py, seconds after it happens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.history import NS_PER_S, HistoryView
from tracer.aggregate.tally import HAS_FAILED, PART
from tracer.handshake.events import F64, Bool
from tracer.records.record import Totals

# A change is told if chance would make it less than once in a million times; one for the better ends a break sooner,
# for an alarm that stays on is as wrong as one that is late.
_WORSE = -np.log(1e-6)
_BETTER = -np.log(1e-3)
_LEAST_BEFORE = 5  # of so few nothing is known
_LEAST_BAD = 5  # two in a row are no break, even in a day without any
_LEAST_SHARE = 0.05  # fewer failures than this are no break, however sure


class Broken(Enum):
    """What may break."""

    FAST_OPEN = "fast_open"  # SYNs with data whose data was acked whole, and whose connection lived
    HANDSHAKES = "handshakes"  # handshakes that were not refused and came to their end


@dataclass(frozen=True, slots=True)
class Break:
    """It worked, and then it failed more often. Ages are seconds before the snapshot's moment.

    `bad` of `seen` failed since it began (until it was over); `bad_before` of `seen_before` in the hour before it.
    `over_s` is null while it goes on. `totals` are those since it began.
    """

    what: Broken
    since_s: int
    over_s: int | None
    bad: int
    seen: int
    bad_before: int
    seen_before: int
    totals: Totals


def breaks(view: HistoryView) -> tuple[Break, ...]:
    """What has broken within the last hour, and what of it is over."""
    ages, cells = _by_age(view)
    with_data, lived = cells[:, PART["with_data"].start], cells[:, PART["lived"].start]
    failed = cells[:, PART["results"]][:, HAS_FAILED].sum(axis=1)
    found = (
        _break(view, Broken.FAST_OPEN, ages, np.maximum(with_data - lived, 0.0), with_data),
        _break(view, Broken.HANDSHAKES, ages, failed, cells[:, PART["handshakes"].start]),
    )
    return tuple(one for one in found if one is not None)


def _by_age(view: HistoryView) -> tuple[NDArray[np.int64], F64]:
    """How long ago each step began, and its cells: the newest first; seconds, and before them coarser steps."""
    now_s = view.now_ns // NS_PER_S
    begin_fine = int(view.fine.number[0]) if len(view.fine.number) else now_s
    # a coarse step that seconds cover in part is left out: they would count twice
    older = slice(0, int(np.searchsorted((view.coarse.number + 1) * view.coarse.size_s, begin_fine, side="right")))
    ages = now_s - np.concatenate((view.coarse.number[older] * view.coarse.size_s, view.fine.number))
    return ages[::-1], np.concatenate((view.coarse.cells[older], view.fine.cells))[::-1]


def _break(view: HistoryView, what: Broken, ages: NDArray[np.int64], bad: F64, seen: F64) -> Break | None:
    """The change for the worse that is surest, and the one for the better after it."""
    hour = ages < 3600
    ages, bad, seen = ages[hour], bad[hour], seen[hour]
    since = _change(bad, seen, worse=True)
    if since is None:
        return None
    bad_since, seen_since = bad[: since + 1], seen[: since + 1]
    over = _change(bad_since, seen_since, worse=False)
    ended = 0 if over is None else over + 1
    before = slice(since + 1, None)
    age = int(ages[since])
    return Break(
        what,
        age,
        None if over is None else int(ages[over]),
        int(bad_since[ended:].sum()),
        int(seen_since[ended:].sum()),
        int(bad[before].sum()),
        int(seen[before].sum()),
        view.totals_of_last(age + 1),
    )


def _change(bad: F64, seen: F64, *, worse: bool) -> int | None:
    """The oldest step after the likeliest change of the share of failures, if chance would hardly make it.

    Likelihood ratio of one share before and another after against the same share all the time (Wilks): its logarithm is
    at least x by chance about exp(-x) times.
    """
    if len(seen) < 2 or not bad.any():
        return None
    bad_sums, sums = bad.cumsum(), seen.cumsum()
    bad_after, after = bad_sums[:-1], sums[:-1]
    bad_before, before = bad_sums[-1] - bad_after, sums[-1] - after
    share, share_before = _share(bad_after, after), _share(bad_before, before)
    always = min(bad_sums[-1] / max(1.0, sums[-1]), 1 - 1e-12)
    sure = after * _divergence(share, always) + before * _divergence(share_before, always)
    possible: Bool = (before >= _LEAST_BEFORE) & (after > 0)
    if worse:
        possible &= (share > share_before) & (share >= _LEAST_SHARE) & (bad_after >= _LEAST_BAD)
    else:
        possible &= share < share_before / 2
    sure = np.where(possible, sure, 0.0)
    at = int(sure.argmax())
    return at if sure[at] >= (_WORSE if worse else _BETTER) else None


def _share(bad: F64, seen: F64) -> F64:
    return np.divide(bad, seen, out=np.zeros_like(seen), where=seen > 0)


def _divergence(share: F64, expected: float) -> F64:
    """Kullback-Leibler divergence of shares from another, nats."""
    with np.errstate(divide="ignore", invalid="ignore"):
        failed = np.where(share > 0, share * np.log(share / expected), 0.0)
        worked = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - expected)), 0.0)
    found: F64 = failed + worked
    return found
