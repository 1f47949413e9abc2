"""A batch that is being judged, and how its rows get their causes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tracer.causes.attempts import Keys
from tracer.handshake.batch import Batch
from tracer.handshake.causes import Causes
from tracer.handshake.events import U8, Indexes, among
from tracer.ipc.messages import ListenerAnswer
from tracer.vocabulary.vocabulary import After, Cause, CauseAt, Confidence, HandshakeCause, Outcome


@dataclass(slots=True)
class Case:
    """A batch being judged: each row keeps the first cause found."""

    batch: Batch
    causes: Causes
    keys: Keys
    silent: dict[int, ListenerAnswer] = field(default_factory=dict)  # by row, of SYNs for which nothing left
    ways: dict[int, int] = field(default_factory=dict)  # by row, of SYNs to pass on: the interface by which they leave
    contradicted: Indexes = field(default_factory=lambda: np.zeros(0, np.intp))  # by the client's own kernel
    origins: U8 = field(init=False)  # CookieOrigin of the cookies that this host refused

    def __post_init__(self) -> None:
        """Nothing is known of cookies yet."""
        self.origins = np.zeros(len(self.batch), np.uint8)

    def outcome_is(self, *outcomes: Outcome) -> Indexes:
        """Rows with one of these outcomes and no cause yet."""
        return np.flatnonzero(among(outcomes).take(self.batch.verdicts.outcome) & (self.causes.cause == Cause.NONE))

    def say(self, rows: Indexes, cause: Cause, confidence: Confidence) -> None:
        """Give a cause to those rows that have none yet; who closed unused did not fail, so only to what is certain."""
        if not len(rows):
            return
        rows = rows[self.causes.cause[rows] == Cause.NONE]
        if confidence != Confidence.CERTAIN:
            rows = rows[self.batch.verdicts.after[rows] != After.CLOSED_UNUSED]
        self.causes.cause[rows] = cause
        self.causes.confidence[rows] = confidence

    def blame(self, rows: Indexes, cause: HandshakeCause, confidence: Confidence, at: CauseAt = CauseAt.NONE) -> None:
        """Give a cause of the handshake's fate to those rows that have none yet."""
        if not len(rows):
            return
        rows = rows[self.causes.handshake_cause[rows] == HandshakeCause.NONE]
        self.causes.handshake_cause[rows] = cause
        self.causes.handshake_confidence[rows] = confidence
        self.causes.cause_at[rows] = at
