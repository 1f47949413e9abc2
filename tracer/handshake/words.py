"""Fields of the record that are words of a vocabulary: the words, and the column that has a word's number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.causes import Causes
from tracer.handshake.ecn import answered_ecn
from tracer.handshake.events import U8, Events
from tracer.handshake.outcome import Verdicts
from tracer.vocabulary.vocabulary import (
    AFTER_WORDS,
    ANSWERED_ECN_WORDS,
    CAUSE_AT_WORDS,
    CAUSE_WORDS,
    CLIENT_FAIL_WORDS,
    CONFIDENCE_WORDS,
    COOKIE_CHECK_WORDS,
    GROUP_WORDS,
    HANDSHAKE_CAUSE_WORDS,
    OUTCOME_WORDS,
    REASON_WORDS,
    REQUEST_WORDS,
    RESET_FROM_WORDS,
    RESULT_WORDS,
    RESUMED_WORDS,
    VANTAGE_WORDS,
    Group,
    Outcome,
)


class Judged(Protocol):
    """A batch, or rows."""

    @property
    def events(self) -> Events: ...
    @property
    def verdicts(self) -> Verdicts: ...
    @property
    def causes(self) -> Causes: ...
    @property
    def vantage(self) -> U8: ...


def _group(rows: Judged) -> NDArray[Any]:
    return np.where(rows.verdicts.outcome == Outcome.UNKNOWN, len(Group), rows.verdicts.group)


WORDS: dict[str, tuple[Sequence[str | None], Callable[[Judged], NDArray[Any]]]] = {
    "vantage": (VANTAGE_WORDS, lambda rows: rows.vantage),
    "handshake.result": (RESULT_WORDS, lambda rows: rows.events["result"]),
    "handshake.settled_by": (REASON_WORDS, lambda rows: rows.events["reason"]),
    "handshake.after": (AFTER_WORDS, lambda rows: rows.verdicts.after),
    "handshake.answered_ecn": (
        ANSWERED_ECN_WORDS,
        lambda rows: answered_ecn(rows.events, rows.verdicts.answered_syn),
    ),
    "handshake.reset.from": (RESET_FROM_WORDS, lambda rows: rows.events["reset_from"]),
    "handshake.resumed": (RESUMED_WORDS, lambda rows: rows.events["resumed"]),
    "handshake.cause": (HANDSHAKE_CAUSE_WORDS, lambda rows: rows.causes.handshake_cause),
    "handshake.cause_confidence": (CONFIDENCE_WORDS, lambda rows: rows.causes.handshake_confidence),
    "handshake.cause_at": (CAUSE_AT_WORDS, lambda rows: rows.causes.cause_at),
    "tfo.request": (REQUEST_WORDS, lambda rows: rows.verdicts.request),
    "tfo.outcome": (OUTCOME_WORDS, lambda rows: rows.verdicts.outcome),
    "tfo.group": ([*GROUP_WORDS, None], _group),
    "tfo.cookie_check": (COOKIE_CHECK_WORDS, lambda rows: rows.causes.cookie_check),
    "tfo.cause": (CAUSE_WORDS, lambda rows: rows.causes.cause),
    "tfo.cause_confidence": (CONFIDENCE_WORDS, lambda rows: rows.causes.confidence),
    "tfo.client_fail": (CLIENT_FAIL_WORDS, lambda rows: rows.causes.client_fail),
}


def words(rows: Judged, name: str) -> list[str | None]:
    """What the records of these rows say in that field."""
    vocabulary, numbers = WORDS[name]
    return [vocabulary[number] for number in numbers(rows).tolist()]
