"""The comment that a capture's first SYN of each handshake has: the verdict, what it means, and what to do."""

from __future__ import annotations

from typing import NamedTuple

from tracer.records.fate import cause_words, failed, holder
from tracer.records.life import causes, explanation, failure, result_words, verdict_words
from tracer.records.notes import asked, happened
from tracer.records.record import Handshake
from tracer.store.list_columns import milliseconds
from tracer.vocabulary.causes import short_cause
from tracer.vocabulary.printable import printable


class Words(NamedTuple):
    """The texts of a comment between what hardly repeats: durations, processes, and the handshake's ids."""

    head: str  # to the round trip, which follows what happened
    asked: str  # between processes and the line with the ids
    seen: str  # between the two ids


def comment(record: Handshake) -> str:
    """The verdict, as a comment on the SYN."""
    return filled(
        words(record),
        record.handshake.rtt_us,
        record.tfo.rtt_saved_us,
        holder(record.client.process),
        holder(record.server.process),
        record.id,
        record.community_id,
    )


def filled(
    text: Words,
    rtt_us: float | None,
    saved_us: float | None,
    client: str | None,
    server: str | None,
    id_: str,
    community_id: str,
) -> str:
    """The whole comment. Durations are microseconds, None where not known; processes have name and pid."""
    rtt = "" if rtt_us is None else f", RTT {milliseconds(rtt_us)} ms"
    saved = f", saved {milliseconds(saved_us)} ms" if saved_us else ""
    who = "" if client is None else f", client {client}"
    whose = "" if server is None else f", server {server}"
    return f"{text.head}{rtt}{saved}{who}{whose}{text.asked}{id_}{text.seen}{community_id}"


def words(record: Handshake) -> Words:
    """All that it says of this record besides."""
    lines = [""]
    if record.tfo.outcome != "not_attempted":
        lines.append(explanation(record))
    elif record.handshake.cause is None and (meaning := failure(record.handshake)):
        lines.append(meaning)
    lines.extend(printable(sentence) for sentence, _ in causes(record))
    lines.append("handshake ")
    asked_for = "".join(f", {one}" for one in _taken(record) + asked(record))
    return Words(
        f"tfotrace: {', '.join(judged(record))}",
        asked_for + "\n".join(lines),
        f", seen at the {record.vantage}, ",
    )


def judged(record: Handshake) -> list[str]:
    """What became of it and why, in parts."""
    tfo, timing = record.tfo, record.handshake
    parts = [result_words(timing)]
    if tfo.outcome != "not_attempted" or not failed(timing):
        parts.append(verdict_words(record))
    why = cause_words(timing)
    if why is not None:
        parts.append(why)
    elif tfo.cause is not None:
        parts.append(printable(short_cause(tfo.cause, tfo.cause_confidence)))
    return parts + happened(record)


def _taken(record: Handshake) -> list[str]:
    """How much of the SYN's data was acked, if all or nothing."""
    length = record.syn.payload_len
    acked = record.synack.acked_payload_len if record.synack is not None else 0
    return [f"SYN data {acked}/{length} B"] if length and acked in (0, length) else []
