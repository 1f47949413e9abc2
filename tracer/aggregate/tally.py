"""What totals are made of: a row of cells for each moment, so that moments can be added up to any stretch of time."""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.batch import Batch
from tracer.handshake.events import F64, Bool
from tracer.handshake.outcome import Verdicts
from tracer.records.failed_at import FailedAt
from tracer.records.run import Totals
from tracer.vocabulary.fates import FAILED_RESULTS
from tracer.vocabulary.vocabulary import (
    GROUP_OF,
    After,
    Cause,
    Confidence,
    Group,
    HandshakeCause,
    HandshakeResult,
    Outcome,
    Request,
    word,
)

_WIDTHS = {
    "handshakes": 1, "attempts": 1, "with_data": 1, "lived": 1, "any_failed": 1, "saved_us": 1, "delay_us": 1,
    "resent": 1,
    # of clients for which Fast Open worked before (returning.py), and how many of these it worked for again
    "returning": 1, "returning_lived": 1,
    "results": len(HandshakeResult), "requests": len(Request), "outcomes": len(Outcome), "groups": len(Group),
    "causes": len(Cause), "handshake_causes": len(HandshakeCause), "after": len(After), "died": len(Outcome),
    "causes_failed": len(Cause),  # of those whose group is failed
    "fates": len(HandshakeResult) * len(HandshakeCause),  # of those that failed or have a cause
    "confidences": len(HandshakeCause) * len(Confidence), "cause_confidences": len(Cause) * len(Confidence),
    "unexplained": len(Outcome),  # of established ones that are degraded or failed without a cause
}  # fmt: skip
_ENDS = np.cumsum(list(_WIDTHS.values())).tolist()
CELLS = _ENDS[-1]
# where the counts of each name are in a row of cells
PART = MappingProxyType(
    {name: slice(end - width, end) for (name, width), end in zip(_WIDTHS.items(), _ENDS, strict=True)}
)


def one_of(*outcomes: Outcome) -> Bool:
    """A table by outcome: is it one of these?"""
    found = np.zeros(len(Outcome), np.bool_)
    found[list(outcomes)] = True
    return found


IS_ACCEPTED = one_of(Outcome.DATA_ACKED, Outcome.DATA_ACKED_NEW_COOKIE)
IS_FAILED = one_of(*(outcome for outcome, group in GROUP_OF.items() if group is Group.FAILED))
HAS_FAILED: Bool = np.zeros(len(HandshakeResult), np.bool_)
HAS_FAILED[list(FAILED_RESULTS)] = True


def accepted_and_lived(verdicts: Verdicts) -> Bool:
    """Was the SYN's data acked whole, and did the connection live? Only then has Fast Open worked.

    The data may have been acked by a host whose SYN-ACK the client did not take: that connection is another. A server
    that acks the request and then resets before it answers has failed.
    """
    found: Bool = IS_ACCEPTED[verdicts.outcome] & verdicts.lived & (verdicts.acked_payload_len != 0)
    found &= verdicts.group != Group.FAILED
    return found


def died(verdicts: Verdicts) -> Bool:
    """Did the handshake fail only afterwards, whatever its outcome promised?"""
    found: Bool = (verdicts.group == Group.FAILED) & ~IS_FAILED[verdicts.outcome]
    return found


def unexplained(batch: Batch) -> Bool:
    """Did Fast Open bring no gain to a connection that was established, and nobody knows why?"""
    group = batch.verdicts.group
    found: Bool = (group == Group.DEGRADED) | (group == Group.FAILED)
    found &= (batch.causes.cause == 0) & (batch.events["result"] == HandshakeResult.ESTABLISHED)
    return found


def fate_cell(result: int, cause: int) -> int:
    """The cell of handshakes with a result and a cause."""
    begin: int = PART["fates"].start
    return begin + result * len(HandshakeCause) + cause


class _Tally:
    """Adds to rows of cells: one for each place, or a single one."""

    def __init__(self, place: NDArray[np.intp] | None, places: int) -> None:
        self.cells: F64 = np.zeros((places, CELLS))
        self._place, self._places = place, places

    def codes(self, name: str, codes: NDArray[np.integer], rows: NDArray[np.intp] | Bool | None = None) -> None:
        """Count rows by a code; `rows` says which have one."""
        if self._place is None:
            self.cells[0, PART[name]] = np.bincount(codes, minlength=_WIDTHS[name])
            return
        width = _WIDTHS[name]
        place = self._place if rows is None else self._place[rows]
        found = np.bincount(place * width + codes, minlength=self._places * width)
        self.cells[:, PART[name]] = found.reshape(self._places, width)

    def rows(self, name: str, chosen: Bool) -> None:
        """Count rows."""
        if self._place is None:
            self.cells[0, PART[name].start] = np.count_nonzero(chosen)
        else:
            self.cells[:, PART[name].start] = np.bincount(self._place[chosen], minlength=self._places)

    def sums(self, name: str, values: F64) -> None:
        """Add up what is known of a value."""
        if self._place is None:
            self.cells[0, PART[name].start] = np.nansum(values)
        else:
            known = np.nan_to_num(values)
            self.cells[:, PART[name].start] = np.bincount(self._place, known, minlength=self._places)


def tally(batch: Batch, place: NDArray[np.intp] | None = None, places: int = 1) -> F64:
    """Cells [places, CELLS] of a batch; `place` says to which of them each row belongs, if there are several."""
    verdicts, durations, causes, result = batch.verdicts, batch.durations, batch.causes, batch.events["result"]
    if places == 1:
        place = None
    to = _Tally(place, places)
    attempted, has_failed = verdicts.attempted, HAS_FAILED[result]
    to.cells[:, PART["handshakes"].start] = len(batch) if place is None else np.bincount(place, minlength=places)
    to.rows("attempts", attempted)
    to.rows("with_data", batch.events["syn"]["payload_len"] != 0)
    to.rows("lived", accepted_and_lived(verdicts))
    to.rows("any_failed", (verdicts.group == Group.FAILED) | has_failed)
    to.sums("saved_us", durations.rtt_saved_us)
    # what an attempt's lost SYN cost; a plain handshake's is not TFO's
    delay_us = np.where(verdicts.attempted, durations.delay_us, 0.0)
    to.sums("delay_us", delay_us)
    to.rows("resent", delay_us > 0)
    to.codes("results", result)
    to.codes("requests", verdicts.request)
    to.codes("outcomes", verdicts.outcome)
    to.codes("groups", verdicts.group)
    to.codes("causes", causes.cause)
    to.codes("handshake_causes", causes.handshake_cause)
    to.codes("after", verdicts.after)
    caused = np.flatnonzero(causes.cause)
    if len(caused):
        cause = causes.cause[caused].astype(np.intp)
        to.codes("cause_confidences", cause * len(Confidence) + causes.confidence[caused], caused)
    costly = (verdicts.group == Group.FAILED) & (causes.cause != 0)
    if costly.any():
        to.codes("causes_failed", causes.cause[costly], costly)
    dead = died(verdicts)
    to.codes("died", verdicts.outcome[dead], dead)
    # almost all rows of ordinary traffic end here
    fated = np.flatnonzero(has_failed | (causes.handshake_cause != 0))
    if len(fated):
        cause = causes.handshake_cause[fated].astype(np.intp)
        to.codes("fates", result[fated].astype(np.intp) * len(HandshakeCause) + cause, fated)
        to.codes("confidences", cause * len(Confidence) + causes.handshake_confidence[fated], fated)
    unlucky = unexplained(batch)
    if unlucky.any():
        to.codes("unexplained", verdicts.outcome[unlucky], unlucky)
    return to.cells


def _named(counts: F64, members: type[IntEnum]) -> dict[str, int]:
    """Counts by the member's word, without zeros."""
    return {word(member): int(seen) for member, seen in zip(members, counts.tolist(), strict=True) if seen}


def _known(counts: F64, members: type[IntEnum]) -> dict[str, int]:
    """Likewise, without what is null in records: 0."""
    return {word(member): int(seen) for member, seen in zip(members, counts.tolist(), strict=True) if member and seen}


def _confidences(counts: F64, causes: type[Cause] | type[HandshakeCause]) -> dict[str, str]:
    """How sure each cause is where it is surest."""
    seen = counts.reshape(len(causes), len(Confidence)) != 0
    known = (np.flatnonzero(seen[1:, 1:].any(axis=1)) + 1).tolist()
    return {word(causes(cause)): word(Confidence(int(np.flatnonzero(seen[cause])[-1]))) for cause in known}


def _failed_causes(counts: F64) -> dict[str, dict[str, int]]:
    """Of those that failed, by result: how many have which cause."""
    by_result = counts.reshape(len(HandshakeResult), len(HandshakeCause))
    found = {word(result): _known(by_result[result], HandshakeCause) for result in FAILED_RESULTS}
    return {result: causes for result, causes in found.items() if causes}


def totals_of(cells: F64, failed_at: tuple[FailedAt, ...]) -> Totals:
    """The totals that one row of cells stands for."""
    part = {name: cells[where] for name, where in PART.items()}
    saved_us, delay_us = float(part["saved_us"][0]), float(part["delay_us"][0])
    return Totals(
        handshakes=int(part["handshakes"][0]),
        results=_named(part["results"], HandshakeResult),
        tfo_attempts=int(part["attempts"][0]),
        tfo_with_data=int(part["with_data"][0]),
        tfo_accepted=int(part["outcomes"][IS_ACCEPTED].sum()),
        requests=_named(part["requests"], Request),
        outcomes=_named(part["outcomes"], Outcome),
        groups={group.word: int(part["groups"][group]) for group in Group if part["groups"][group]},
        causes=_known(part["causes"], Cause),
        rtt_saved_us=round(saved_us, 3),
        delay_us=round(delay_us, 3),
        net_saved_us=round(saved_us - delay_us, 3),
        tfo_lived=int(part["lived"][0]),
        after=_known(part["after"], After),
        died=_named(part["died"], Outcome),
        handshake_causes=_known(part["handshake_causes"], HandshakeCause),
        handshake_confidences=_confidences(part["confidences"], HandshakeCause),
        failed_causes=_failed_causes(part["fates"]),
        failed_at=failed_at,
        tfo_resent=int(part["resent"][0]),
        cause_confidences=_confidences(part["cause_confidences"], Cause),
    )
