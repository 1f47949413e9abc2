"""Sums over the run, added to a batch at a time; nothing here grows with the number of handshakes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.fates import Fates
from tracer.handshake.batch import Batch
from tracer.handshake.events import Bool
from tracer.handshake.outcome import Verdicts
from tracer.records.record import Balance, Totals
from tracer.vocabulary.vocabulary import (
    GROUP_OF,
    After,
    Cause,
    Group,
    HandshakeCause,
    HandshakeResult,
    Outcome,
    Request,
    word,
)


def one_of(*outcomes: Outcome) -> Bool:
    """A table by outcome: is it one of these?"""
    found = np.zeros(len(Outcome), np.bool_)
    found[list(outcomes)] = True
    return found


IS_ACCEPTED = one_of(Outcome.DATA_ACKED, Outcome.DATA_ACKED_NEW_COOKIE)
IS_FAILED = one_of(*(outcome for outcome, group in GROUP_OF.items() if group is Group.FAILED))


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


def _named(counts: NDArray[np.int64], members: type[IntEnum]) -> dict[str, int]:
    """Counts by the member's word, without zeros."""
    return {word(member): int(counts[member]) for member in members if counts[member]}


def _known(counts: NDArray[np.int64], members: type[IntEnum]) -> dict[str, int]:
    """Likewise, without what is null in records: 0."""
    return {word(member): int(counts[member]) for member in members if member and counts[member]}


class Aggregate:
    """Totals of a run."""

    def __init__(self) -> None:
        self.handshakes = 0
        self.attempts = 0
        self.with_data = 0
        self._results = np.zeros(len(HandshakeResult), np.int64)
        self._requests = np.zeros(len(Request), np.int64)
        self._outcomes = np.zeros(len(Outcome), np.int64)
        self._groups = np.zeros(len(Group), np.int64)
        self._causes = np.zeros(len(Cause), np.int64)
        self._handshake_causes = np.zeros(len(HandshakeCause), np.int64)
        self._fates = Fates()
        self._lived = 0
        self._after = np.zeros(len(After), np.int64)
        self._died = np.zeros(len(Outcome), np.int64)
        self._saved_us = 0.0
        self._delay_us = 0.0

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        verdicts, durations = batch.verdicts, batch.durations
        self.handshakes += len(batch)
        self.attempts += int(np.count_nonzero(verdicts.attempted))
        self.with_data += int(np.count_nonzero(batch.events["syn"]["payload_len"]))
        self._results += np.bincount(batch.events["result"], minlength=len(HandshakeResult))
        self._requests += np.bincount(verdicts.request, minlength=len(Request))
        self._outcomes += np.bincount(verdicts.outcome, minlength=len(Outcome))
        self._groups += np.bincount(verdicts.group, minlength=len(Group))
        self._causes += np.bincount(batch.causes.cause, minlength=len(Cause))
        self._handshake_causes += np.bincount(batch.causes.handshake_cause, minlength=len(HandshakeCause))
        self._fates.add(batch)
        self._lived += int(np.count_nonzero(accepted_and_lived(verdicts)))
        self._after += np.bincount(verdicts.after, minlength=len(After))
        self._died += np.bincount(verdicts.outcome[died(verdicts)], minlength=len(Outcome))
        self._saved_us += float(np.nansum(durations.rtt_saved_us))
        # what an attempt's lost SYN cost; a plain handshake's is not TFO's
        self._delay_us += float(np.nansum(durations.delay_us[verdicts.attempted]))

    def totals(self) -> Totals:
        """The sums so far."""
        return Totals(
            handshakes=self.handshakes,
            results=_named(self._results, HandshakeResult),
            tfo_attempts=self.attempts,
            tfo_with_data=self.with_data,
            tfo_accepted=int(self._outcomes[IS_ACCEPTED].sum()),
            requests=_named(self._requests, Request),
            outcomes=_named(self._outcomes, Outcome),
            groups={group.word: int(self._groups[group]) for group in Group if self._groups[group]},
            causes=_known(self._causes, Cause),
            rtt_saved_us=round(self._saved_us, 3),
            delay_us=round(self._delay_us, 3),
            net_saved_us=round(self._saved_us - self._delay_us, 3),
            tfo_lived=self._lived,
            after=_known(self._after, After),
            died=_named(self._died, Outcome),
            handshake_causes=_known(self._handshake_causes, HandshakeCause),
            handshake_confidences=self._fates.confidences(),
            failed_causes=self._fates.failed_causes(),
            failed_at=self._fates.failed_at(),
        )


def balance(counters: Mapping[str, int], still_open: int, received: int, dropped: int) -> Balance:
    """The balance sheet from the kernel programs' counters; no term is computed from the others."""
    return Balance(
        opened=counters.get("opened", 0),
        emitted=counters.get("emitted", 0),
        lost=counters.get("lost", 0),
        evicted=sum(value for name, value in counters.items() if name.startswith("evicted_")),
        suppressed=counters.get("suppressed", 0),
        still_open=still_open,
        received=received,
        dropped=dropped,
    )


def losses(sheet: Balance) -> int:
    """Handshakes that were opened and will never be shown."""
    return sheet.lost + sheet.evicted + sheet.suppressed + sheet.dropped
