"""Compares two neighbouring places of a path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tracer.compare.fates import Watch, answers, by_another_path, divide, expected, tell_fates
from tracer.compare.headers import EXAMPLES, Findings, compare_headers, hops_between
from tracer.compare.join import Joined, Offset, join
from tracer.compare.model import Comparison, Finding
from tracer.compare.place import Place, Rows, take
from tracer.vocabulary.changes import What

Bool = NDArray[np.bool_]
SELDOM = 0.05
# the order in which findings are told: what breaks connections first
_RANK = {what: rank for rank, what in enumerate((
    What.ANSWERED_ON_PATH, What.REFUSED, What.LOST, What.PAYLOAD_STRIPPED, What.DATA_ADDED, What.OPTION_STRIPPED,
    What.ECN_CHANGED, What.MSS_CHANGED, What.WSCALE_CHANGED, What.COOKIE_CHANGED, What.OPTION_ADDED,
    What.SERVER_TRANSLATED, What.CLIENT_TRANSLATED, What.ISN_CHANGED, What.WINDOW_CHANGED, What.OPTIONS_REORDERED,
    What.TTL_RAISED,
))}  # fmt: skip


def compare(first: Place, second: Place) -> Comparison:
    """What happened between two places, whichever of them is nearer to the clients.

    Both must have the same Layouts.
    """
    rows, others = first.rows(), second.rows()
    joined = join(rows, others)
    mostly_near = not len(joined) or bool(np.count_nonzero(joined.first_is_near) * 2 >= len(joined))
    near, far = (first, second) if mostly_near else (second, first)
    seen = (len(rows), len(others)) if mostly_near else (len(others), len(rows))
    found = Comparison(near.name, far.name, seen, len(joined))
    found.translated = int(np.count_nonzero(~joined.by_id))
    found.other_way = int(np.count_nonzero(joined.first_is_near != mostly_near))
    if joined.offset is not None:
        ahead = joined.offset.ns if mostly_near else -joined.offset.ns
        found.offset = Offset(ahead, joined.offset.error_ns, joined.offset.handshakes)
    _doubts(found, joined, near, far)
    spans = (first.span(rows), second.span(others))
    later = joined.offset.ns if joined.offset is not None else 0
    ours, theirs = Watch(*spans[0], first), Watch(spans[1][0] - later, spans[1][1] - later, second)
    near_watch, far_watch = (ours, theirs) if mostly_near else (theirs, ours)
    whose = answers(joined, far_watch)
    missing = _missing(found, joined, near, far, spans[mostly_near], whose.in_between, first_is_near=mostly_near)
    findings, missed = Findings(joined.near), Findings(missing)
    compare_headers(joined, first.layouts.known, whose.in_between, findings)
    tell_fates(joined, whose, missing, findings, missed, near_watch, far_watch)
    found.findings = sorted(_merged(findings.list, missed.list), key=_importance)
    found.hops = hops_between(joined, whose.in_between)
    found.times = divide(joined, whose)
    return found


def _importance(one: Finding) -> tuple[bool, int, int]:
    """What happens seldom comes last."""
    return one.count < SELDOM * one.of, _RANK[one.what], -one.count


def _missing(
    found: Comparison, joined: Joined, near: Place, far: Place, far_span: tuple[int, int], in_between: Bool, *,
    first_is_near: bool,
) -> Rows:  # fmt: skip
    """Rows of the near place that the far one would have seen, had they arrived there; counts them and the others."""
    alone, behind = joined.alone if first_is_near else joined.alone[::-1]
    found.not_judged = len(alone) + len(behind)
    nothing = alone[:0]
    if found.offset is None or not far.is_whole or not near.is_whole:
        return nothing
    there = expected(alone, joined.near, found.offset, far_span)
    missing = take(alone, np.flatnonzero(there))
    missing = take(missing, np.flatnonzero(~by_another_path(missing, take(joined.near, np.flatnonzero(~in_between)))))
    found.missing = len(missing)
    found.not_judged -= len(missing)
    return missing


def _doubts(found: Comparison, joined: Joined, near: Place, far: Place) -> None:
    if not len(joined):
        found.doubts.append(
            "no handshake was seen at both places: they lie on different paths, or watched at different times, or "
            "something in between opens connections of its own"
        )
        return
    for place in (near, far):
        if not place.is_whole:
            found.doubts.append(
                f"{place.name} has not every handshake that passed there (a filter, a limit, losses, a cut or several "
                "runs), so nothing is said of what it lacks"
            )
    if joined.offset is not None and joined.offset.error_ns is None:
        found.doubts.append("no handshake was seen whole at both places, so how far the clocks differ is known roughly")


def _merged(seen: Sequence[Finding], missed: Sequence[Finding]) -> list[Finding]:
    """Both kinds of the same thing as one, which is certain if a part is."""
    found: dict[tuple[object, ...], Finding] = {}
    for one in (*seen, *missed):
        key = (one.what, one.piece, one.towards, one.before, one.after)
        other = found.get(key)
        found[key] = one if other is None else replace(
            other, count=other.count + one.count, of=max(one.of, other.of),
            handshakes=(*other.handshakes, *one.handshakes)[:EXAMPLES],
            servers=tuple(dict.fromkeys((*other.servers, *one.servers)))[:EXAMPLES],
        )  # fmt: skip
    return list(found.values())
