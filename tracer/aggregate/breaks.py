"""When something that worked began to fail: found in the steps of history.py, seconds after it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.history import NS_PER_S, HistoryView
from tracer.aggregate.tally import HAS_FAILED, PART
from tracer.handshake.events import F64, Bool
from tracer.records.run import Totals

# A change is told if chance would make it less than once in a million times; one for the better ends a break sooner,
# for an alarm that stays on is as wrong as one that is late.
_WORSE = -np.log(1e-6)
_BETTER = -np.log(1e-4)
_LEAST_BEFORE = 5  # of so few nothing is known
_LEAST_BAD = 5  # two in a row are no break, even in a day without any
_LEAST_STEPS = 3  # failures of one second are a burst: a scan, a job that starts
_LEAST_SHARE = 0.01  # fewer failures than this are no break, however sure
_NO_CHANCE = -np.log(1e-3)  # what chance makes less than once in a thousand times bears out what is sure already
_PATIENCE = 3  # mean times between handshakes that one may be late
_LOOKED_AT = ("results", "handshakes", "with_data", "lived", "returning", "returning_lived")
_CELLS = np.sort(np.concatenate([np.arange(PART[name].start, PART[name].stop) for name in _LOOKED_AT]))
# where they are among _CELLS
_PLACE = {
    name: slice(at := int(np.searchsorted(_CELLS, PART[name].start)), at + PART[name].stop - PART[name].start)
    for name in _LOOKED_AT
}


class Broken(Enum):
    """What may break."""

    FAST_OPEN = "fast_open"  # SYNs with data whose data was acked whole, and whose connection lived
    HANDSHAKES = "handshakes"  # handshakes that were not refused and came to their end


@dataclass(frozen=True, slots=True)
class Break:
    """It worked, and then it failed more often. Ages are seconds before the snapshot's moment.

    `bad` of `seen` failed since it began (until it was over); `bad_before` of `seen_before` in the hour before it.
    `over_s` is null while it goes on. `totals` are those since it began. `quiet`: they did not fail, but are
    handshakes without Fast Open of clients for which it had worked (returning.py).
    """

    what: Broken
    since_s: int
    over_s: int | None
    bad: int
    seen: int
    bad_before: int
    seen_before: int
    totals: Totals
    quiet: bool = False


def breaks(view: HistoryView) -> tuple[Break, ...]:
    """What has broken within the last hour (HistoryView.reach_s), of each kind the latest; what goes on comes first."""
    return view.once(_breaks)


def _breaks(view: HistoryView) -> tuple[Break, ...]:
    steps = _steps(view)
    failed = steps.of("results")[:, HAS_FAILED].sum(axis=1)
    found = (
        _of_fast_open(view, steps),
        _latest(view, Broken.HANDSHAKES, steps, failed, steps.of("handshakes")[:, 0]),
    )
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.over_s is not None))


def _of_fast_open(view: HistoryView, steps: _Steps) -> Break | None:
    """SYNs with data that fail, else clients that have none any more; what goes on comes first."""
    with_data, lived, returning, again = (
        steps.of(name)[:, 0] for name in ("with_data", "lived", "returning", "returning_lived")
    )
    theirs = np.maximum(returning - again, 0.0)
    loud = _latest(
        view, Broken.FAST_OPEN, steps, np.maximum(with_data - lived, 0.0), with_data,
        lambda *parts: _is_fewer(1.0, steps, lived, *parts) or _is_worse_for_them(theirs, returning, *parts),
    )  # fmt: skip
    if loud is not None and loud.over_s is None:
        return loud
    quiet = _latest(
        view, Broken.FAST_OPEN, steps, theirs, returning, lambda *parts: _is_fewer(0.5, steps, lived, *parts)
    )
    if quiet is not None and (loud is None or quiet.over_s is None):
        return replace(quiet, quiet=True)
    return loud


def _is_fewer(share: float, steps: _Steps, lived: F64, during: slice, before: slice) -> bool:
    """Did Fast Open work less often, at most that share as often as before?

    Else others came for which it never worked, or clients began to do without it beside those that use it.
    """
    ages_s = steps.ages_s.astype(np.float64)
    after = float(ages_s[during.start - 1]) if during.start else -1.0
    during_s = float(ages_s[during.stop - 1]) - after
    before_s = max(1.0, float(ages_s[before.stop - 1] - ages_s[during.stop - 1]))
    now, then = float(lived[during].sum()), float(lived[before].sum())
    if now / during_s > share * then / before_s:
        return False
    return bool(_rates_differ(*(np.array([one]) for one in (now, during_s, then, before_s)))[0] >= _NO_CHANCE)


def _is_worse_for_them(bad: F64, seen: F64, during: slice, before: slice) -> bool:
    """Did it work for fewer of those for which it had worked?"""
    counts = [float(one[part].sum()) for one in (bad, seen) for part in (during, before)]
    bad_now, bad_then, now, then = counts
    share, share_then = bad_now / max(1.0, now), bad_then / max(1.0, then)
    if not bad_now or share < 2 * share_then:
        return False
    always = min((bad_now + bad_then) / (now + then), 1 - 1e-12)
    sure = now * _divergence(np.array([share]), always) + then * _divergence(np.array([share_then]), always)
    return bool(sure[0] >= _NO_CHANCE)


@dataclass(frozen=True, slots=True)
class _Steps:
    """The steps of the last hour, the newest first: how long ago each began, and those of its cells that say it."""

    ages_s: NDArray[np.int64]
    size_s: NDArray[np.int64]
    cells: F64

    def of(self, name: str) -> F64:
        """The cells of a name (tally.py)."""
        return self.cells[:, _PLACE[name]]


def _steps(view: HistoryView) -> _Steps:
    now_s = view.now_ns // NS_PER_S
    pieces = []
    for steps, chosen in view.pieces():
        number, cells = steps.number[chosen], steps.cells[chosen][:, _CELLS]
        pieces.append((now_s - number * steps.size_s, np.full(len(number), steps.size_s), cells))
    ages, sizes, cells = (np.concatenate([piece[at] for piece in pieces])[::-1] for at in range(3))
    hour = ages < view.reach_s
    # the oldest step may have begun before counting did
    return _Steps(np.clip(ages[hour], 0, max(0, now_s - view.began_ns // NS_PER_S)), sizes[hour], cells[hour])


def _latest(
    view: HistoryView,
    what: Broken,
    steps: _Steps,
    bad: F64,
    seen: F64,
    holds: Callable[[slice, slice], bool] = lambda _, __: True,
) -> Break | None:
    """The latest break: once one is over, the next is looked for in what came since.

    `holds` says of the steps during it and before whether other figures bear it out.
    """
    found, end = None, len(seen)
    while True:
        since = _worse(steps, bad[:end], seen[:end])
        if since is None or np.count_nonzero(bad[: since + 1]) < _LEAST_STEPS:
            return found
        over = _better(bad[: since + 1], seen[: since + 1])
        ended = 0 if over is None else over + 1
        during, before = slice(ended, since + 1), slice(since + 1, end)
        if not holds(during, before):
            return found
        age = int(steps.ages_s[since])
        found = Break(
            what,
            age,
            None if over is None else int(steps.ages_s[over]),
            int(bad[during].sum()),
            int(seen[during].sum()),
            int(bad[before].sum()),
            int(seen[before].sum()),
            view.totals_of_last(age + 1),
        )
        if over is None:
            return found
        end = over + 1


def _worse(steps: _Steps, bad: F64, seen: F64) -> int | None:
    """The oldest step after the likeliest change for the worse, if chance would hardly make it.

    Both must have grown: the share of failures (else more traffic would be a break) and how often they come (else it
    would be one if all go home but a client that always fails). The logarithm of the likelihood ratio of one share, or
    rate, before and another after against the same all the time is at least x by chance about exp(-x) times (Wilks);
    where failures came in bursts before, it is divided by how much more they vary than chance would (quasi-likelihood).
    """
    if len(seen) < 2 or not bad.any():
        return None
    bad_after, after, share, share_before, sure = _shares(bad, seen)
    bad_before, before = bad.sum() - bad_after, seen.sum() - after
    time_after: F64 = steps.ages_s[: len(seen) - 1].astype(np.float64) + 1
    time_before: F64 = np.maximum(1.0, float(steps.ages_s[len(seen) - 1]) + 1 - time_after)
    # until the next handshake is due nobody knows better: an alert would blink
    idle_s = float(steps.ages_s[np.flatnonzero(seen)[0]])
    time_after = np.maximum(1.0, time_after - np.minimum(idle_s, _PATIENCE * time_after / np.maximum(1.0, after)))
    rate, rate_before = bad_after / time_after, bad_before / time_before
    often = _rates_differ(bad_after, time_after, bad_before, time_before)
    sure = np.minimum(sure, often) / _burstiness(steps, bad, bad_before, time_before)
    # of very many handshakes any swing is sure: at least twice as many fail
    possible: Bool = (before >= _LEAST_BEFORE) & (share >= 2 * share_before) & (share > 0) & (rate > rate_before)
    sure = np.where(possible, sure, 0.0)
    at = int(sure.argmax())
    if sure[at] < _WORSE or bad_after[at] < _LEAST_BAD or share[at] < _LEAST_SHARE:
        return None
    return at


def _better(bad: F64, seen: F64) -> int | None:
    """The oldest step after the likeliest change for the better: at most half as many fail."""
    if len(seen) < 2 or not bad.any():
        return None
    _, after, share, share_before, sure = _shares(bad, seen)
    sure = np.where((after > 0) & (share < share_before / 2), sure, 0.0)
    at = int(sure.argmax())
    return at if sure[at] >= _BETTER else None


def _shares(bad: F64, seen: F64) -> tuple[F64, F64, F64, F64, F64]:
    """For each place where it may have changed: failures and all after it, the shares after and before, how sure."""
    bad_sums, sums = bad.cumsum(), seen.cumsum()
    bad_after, after = bad_sums[:-1], sums[:-1]
    bad_before, before = bad_sums[-1] - bad_after, sums[-1] - after
    share, share_before = _share(bad_after, after), _share(bad_before, before)
    always = min(bad_sums[-1] / max(1.0, sums[-1]), 1 - 1e-12)
    sure = after * _divergence(share, always) + before * _divergence(share_before, always)
    return bad_after, after, share, share_before, sure


def _share(bad: F64, seen: F64) -> F64:
    return np.divide(bad, seen, out=np.zeros_like(seen), where=seen > 0)


def _divergence(share: F64, expected: float) -> F64:
    """Kullback-Leibler divergence of shares from another, nats."""
    with np.errstate(divide="ignore", invalid="ignore"):
        failed = np.where(share > 0, share * np.log(share / expected), 0.0)
        worked = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - expected)), 0.0)
    found: F64 = failed + worked
    return found


def _rates_differ(one: F64, one_s: F64, other: F64, other_s: F64) -> F64:
    """The same of two rates (Poisson)."""
    rate = (one + other) / (one_s + other_s)
    return _excess(one, rate * one_s) + _excess(other, rate * other_s)


def _excess(count: F64, expected: F64) -> F64:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: F64 = np.where(count > 0, count * np.log(count / expected), 0.0)
    return found


def _burstiness(steps: _Steps, bad: F64, bad_before: F64, time_before: F64) -> F64:
    """By how much the failures of the steps before vary more than by chance: Pearson's chi squared by its degrees."""
    size = steps.size_s[: len(bad)]
    squares = bad * bad / size
    squares_before = squares.sum() - squares.cumsum()[:-1]
    # steps in which nothing happened are left out of the arrays, and count
    degrees = np.maximum(1.0, time_before / size[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (time_before / bad_before * squares_before - bad_before) / degrees
    return np.where(bad_before >= _LEAST_BAD, np.maximum(1.0, found), 1.0)
