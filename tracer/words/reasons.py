"""Why handshakes failed, were slow or had no Fast Open, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tracer.aggregate.reasons import Reason
from tracer.vocabulary.causes import handshake_sentence, remedy, tfo_sentence
from tracer.vocabulary.fates import brief_cause, fate_words
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.meanings import EXPLANATIONS, FAILURES, VERDICTS
from tracer.vocabulary.vocabulary import GROUP_OF, Group, HandshakeCause, Outcome, word


def outcome_words(outcome: str) -> str:
    """The verdict without its "TFO"."""
    text = VERDICTS.get(outcome, outcome)
    return text.removeprefix("TFO ")


def died_words(outcome: str) -> str:
    """The verdict where the connection died after it."""
    return f"{outcome_words(outcome)}, then dead"


@dataclass(frozen=True, slots=True)
class Told:
    """A reason in words: what it is, its group, the filter that finds its handshakes, what to do."""

    words: str
    group: str
    way: str
    remedy: str


def told(reason: Reason) -> Told:
    """The words for a reason."""
    return _told(reason.cell, "failed" if reason.is_failure else "degraded")


@lru_cache(maxsize=1024)
def _told(at: int, group: str) -> Told:
    reason = Reason(at, 0)
    if reason.fate is not None:
        result, cause = word(reason.fate[0]), word(reason.fate[1]) if reason.fate[1] else None
        words = fate_words(result, cause)
        way = f"result == {result} and why == {cause or 'null'}"
        return Told(words, group, way, remedy(handshake_sentence(cause) if cause else FAILURES.get(result, "")))
    if reason.cause is not None:
        cause = word(reason.cause)
        words = f"Fast Open: {in_words(cause)}"
        return Told(words, group, f"tfo.cause == {cause}", remedy(tfo_sentence(cause)))
    return _told_outcome(reason.outcome or Outcome.UNKNOWN)


def _told_outcome(outcome: Outcome) -> Told:
    name = None if outcome is Outcome.UNKNOWN else word(outcome)
    kind = GROUP_OF[outcome]
    lives = kind in (Group.DEGRADED, Group.FAILED)
    words = outcome_words(name or "") if lives else died_words(name or "answer not seen")
    way = f"outcome == {name or 'null'} and tfo.cause == null and result == established"
    what, _, more = EXPLANATIONS[name].partition(". ")
    return Told(
        f"Fast Open: {words}",
        kind.word if lives else "failed",
        way if lives else f"{way} and group == failed",
        more or remedy(what),
    )


def track_words(reason: Reason) -> str:
    """A reason in as few words as a plot has room for; those of Fast Open are told apart from those of handshakes."""
    fate = reason.fate
    if fate is not None and fate[1] is not HandshakeCause.NONE:
        return brief_cause(word(fate[1]))
    return told(reason).words.replace("Fast Open: ", "TFO: ", 1)
