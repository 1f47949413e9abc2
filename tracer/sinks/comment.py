"""The comment that a capture's first SYN of each handshake has: the verdict, what it means, and what to do."""

from __future__ import annotations

from tracer.records.fate import cause_words, failed, holder
from tracer.records.life import causes, explanation, failure, result_words, verdict_words
from tracer.records.notes import asked, happened
from tracer.records.record import Handshake
from tracer.store.list_columns import milliseconds
from tracer.vocabulary.causes import short_cause
from tracer.vocabulary.printable import printable


def comment(record: Handshake) -> str:
    """The verdict, as a comment on the SYN."""
    lines = [f"tfotrace: {', '.join(judged(record))}"]
    if record.tfo.outcome != "not_attempted":
        lines.append(explanation(record))
    elif record.handshake.cause is None and (meaning := failure(record.handshake)):
        lines.append(meaning)
    lines.extend(sentence for sentence, _ in causes(record))
    lines.append(f"handshake {record.id}, seen at the {record.vantage}, {record.community_id}")
    return "\n".join(lines)


def judged(record: Handshake) -> list[str]:
    """The first line, in parts."""
    tfo, timing = record.tfo, record.handshake
    parts = [result_words(timing)]
    if tfo.outcome != "not_attempted" or not failed(timing):
        parts.append(verdict_words(record))
    why = cause_words(timing)
    if why is not None:
        parts.append(why)
    elif tfo.cause is not None:
        parts.append(printable(short_cause(tfo.cause, tfo.cause_confidence)))
    parts += happened(record)
    if timing.rtt_us is not None:
        parts.append(f"RTT {milliseconds(timing.rtt_us)} ms")
    if tfo.rtt_saved_us:
        parts.append(f"saved {milliseconds(tfo.rtt_saved_us)} ms")
    for end, name in ((record.client, "client"), (record.server, "server")):
        process = holder(end.process)
        if process is not None:
            parts.append(f"{name} {process}")
    if record.syn.payload_len:
        acked = record.synack.acked_payload_len if record.synack is not None else 0
        parts += [f"SYN data {acked}/{record.syn.payload_len} B"] if acked in (0, record.syn.payload_len) else []
    return parts + asked(record)
