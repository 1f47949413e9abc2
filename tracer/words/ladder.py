"""A handshake as a ladder diagram: client left, server right, time downwards. It shows only what was seen.

Times are microseconds since the first SYN, as seen where tfotrace listens; None means unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tracer.records.life import drop_words, misfits
from tracer.records.record import Handshake, Segment, SynAck
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.numbers import duration
from tracer.vocabulary.printable import cell, cut, printable, times

Direction = Literal["right", "left", "lost", "note"]
Line = tuple[tuple[str, str], ...]  # parts: a text and the name of its style
LADDER_MAX = 72  # cells: a wider one is harder to read
_TIME_CELLS = 9
_FILLER_OPTIONS = {"nop", "eol"}
_SHORT_OPTIONS = {
    "sack_permitted": "sack", "timestamps": "ts", "tfo_experimental": "tfo(exp)",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One arrow, with `detail` below it."""

    direction: Direction
    label: str
    at_us: float | None = None
    detail: str = ""
    style: str = "text"


def steps(record: Handshake) -> list[Step]:
    """The steps of one handshake, starting with its first SYN."""
    timing, tfo, syn, synack = record.handshake, record.tfo, record.syn, record.synack
    found = [Step("right", _syn_label(record), 0.0, _segment_detail(syn), "tfo" if tfo.kind is not None else "text")]
    answered_after = tfo.delay_us or 0.0
    if timing.syn_count > 1:
        again = timing.syn_count - 1
        times = "once" if again == 1 else f"{again} times"
        label = f"SYN again, {times}" + (", without data" if syn.payload_len else "")
        if answered_after and not _two_hosts(record):
            found[0] = Step("lost", found[0].label, 0.0, found[0].detail, "failed")
        found.append(Step("right", label, answered_after or None, "", "degraded"))
    if synack is not None:
        found.extend(_answered(record, synack, answered_after))
    else:
        found.extend(_unanswered(record))
    if timing.drop is not None:
        # when is not known: it stands before how it ended
        found.insert(max(1, len(found) - 1), Step("note", drop_words(timing.drop), None, "", "failed"))
    return found


def _answered(record: Handshake, synack: SynAck, answered_after: float) -> list[Step]:
    timing, syn = record.handshake, record.syn
    at = None if timing.synack_delay_us is None else answered_after + timing.synack_delay_us
    accepted = 0 < syn.payload_len == synack.acked_payload_len
    style = "ok" if accepted else "degraded" if syn.payload_len else "text"
    found = [Step("left", _synack_label(record, synack), at, _segment_detail(synack), style)]
    if _two_hosts(record):
        found.insert(0, Step("left", "SYN-ACK of another host", None, "", "degraded"))
    if timing.result == "simultaneous_open":
        found.insert(0, Step("left", "SYN from the other end: both open at once", None, "", "degraded"))
    if timing.synack_count > 1:
        found.append(Step("left", f"SYN-ACK again ({timing.synack_count} in all)", None, "", "degraded"))
    reset_us = None if timing.reset is None else timing.reset.after_us
    if timing.result == "aborted":
        if timing.reset is not None and timing.reset.from_ == "server":
            return [*found, Step("left", "RST from the server", reset_us, "", "failed")]
        return [*found, Step("right", "RST: the client gives up", reset_us, "", "failed")]
    if timing.result == "half_open":
        return [*found, Step("note", "no ACK from the client", None, "", "failed")]
    acked_at = None if at is None or timing.ack_delay_us is None else at + timing.ack_delay_us
    if timing.ack_delay_us is not None or timing.result == "established":
        found.append(Step("right", _ack_label(record, synack), acked_at))
    if timing.first_response_us is not None:
        found.append(Step("left", "first byte of the answer", timing.first_response_us, "", "accent"))
    elif timing.settled_by == "rst":
        if timing.reset is None:
            found.append(Step("note", "reset", None, "", "failed"))
        else:
            way: Direction = "left" if timing.reset.from_ == "server" else "right"
            found.append(Step(way, f"RST from the {timing.reset.from_}", reset_us, "", "failed"))
    elif timing.after in ("synack_again", "silence"):
        again = timing.request_repeats and not timing.request_acked
        text = f"the first data again, {times(timing.request_repeats or 0)}, never acked" if again else "no answer seen"
        found.append(Step("note", text, None, "", "failed" if again else "dim"))
    return found


def _two_hosts(record: Handshake) -> bool:
    return (record.handshake.synack_isns or 0) > 1


def _unanswered(record: Handshake) -> list[Step]:
    timing = record.handshake
    if timing.result == "rejected":
        return [Step("left", "RST: refused", None, "", "failed")]
    if timing.result == "unreachable":
        what = f"ICMP type {timing.icmp.type} code {timing.icmp.code}" if timing.icmp is not None else "ICMP"
        return [Step("left", f"{what}: unreachable", None, "", "failed")]
    if timing.result == "simultaneous_open":
        return [Step("left", "SYN from the other end: both open at once", None, "", "degraded")]
    if timing.result == "syn_on_established":
        return [Step("left", "bare ACK: the connection was already open", None, "", "degraded")]
    if timing.result == "established":
        return [Step("note", "SYN-ACK on a path not traced here"), Step("right", "ACK")]
    if timing.misfits is not None:
        return [Step("note", misfits(timing.misfits), None, "", "failed")]
    return [Step("note", "no reply", None, "", "failed")]


def _syn_label(record: Handshake) -> str:
    words = ["SYN"]
    tfo = record.tfo
    if record.syn.payload_len:
        words.append(f"{record.syn.payload_len} B data")
    if record.tfo.request == "malformed":
        words.append("malformed TFO option")
    elif tfo.kind is not None:
        words.append(f"TFO cookie {tfo.cookie_len} B" if tfo.cookie_len else "TFO cookie?")
    return ", ".join(words)


def _synack_label(record: Handshake, synack: SynAck) -> str:
    words = ["SYN-ACK"]
    sent, acked = record.syn.payload_len, synack.acked_payload_len
    if sent or acked:
        words.append(f"acks all {sent} B" if acked == sent else f"acks {acked} of {sent} B")
    if record.tfo.synack_kind is not None and not {"tfo", "tfo_experimental"}.isdisjoint(synack.options):
        same = record.tfo.cookie_id is not None and record.tfo.cookie_id == record.tfo.synack_cookie_id
        words.append("the same cookie" if same else f"cookie {record.tfo.synack_cookie_len} B")
    if synack.payload_len:
        words.append(f"{synack.payload_len} B data")
    return ", ".join(words)


def _ack_label(record: Handshake, synack: SynAck) -> str:
    sent, acked = record.syn.payload_len, synack.acked_payload_len
    if sent and acked == sent:
        return "ACK"
    if sent:
        return "ACK, the data again"
    return "ACK, now the request"


def _segment_detail(segment: Segment) -> str:
    names = [_SHORT_OPTIONS.get(name, name) for name in segment.options if name not in _FILLER_OPTIONS]
    return " ".join(names)


def ladder_lines(record: Handshake, cells: int) -> list[Line]:
    """The diagram, `cells` wide (at least 28)."""
    inner = max(16, cells - _TIME_CELLS - 4)
    margin = " " * (_TIME_CELLS + 1)
    client, server = (printable(endpoint_text(end.ip, end.port)) for end in (record.client, record.server))
    half = (inner + 2) // 2
    lines: list[Line] = [
        ((margin, "text"), (cell("client", half), "strong"), (cell("server", inner + 2 - half, right=True), "strong")),
    ]
    if len(client) + len(server) + 2 <= inner + 2:
        lines.append(((margin, "text"), (client, "text"), (f"{server:>{inner + 2 - len(client)}}", "text")))
    else:
        lines.append(((margin, "text"), (cell(client, inner + 2), "text")))
        lines.append(((margin, "text"), (cell(server, inner + 2, right=True), "text")))
    before: float | None = None
    for step in steps(record):
        if before is not None and step.at_us is not None and step.at_us > before:
            lines.append(_rail(f"+{duration(step.at_us - before)}", inner))
        elif len(lines) > 3:
            lines.append(_rail("", inner))
        lines.append(_arrow(step, inner))
        if step.detail:
            lines.append(_rail("", inner, f"  {step.detail}"))
        if step.at_us is not None:
            before = step.at_us
    return lines


def _rail(time: str, inner: int, text: str = "") -> Line:
    return ((f"{time:>{_TIME_CELLS}} ", "dim"), ("│", "dim"), (cell(text, inner), "dim"), ("│", "dim"))


def _arrow(step: Step, inner: int) -> Line:
    at = duration(step.at_us) if step.at_us is not None else ""
    time = (f"{at:>{_TIME_CELLS}} ", "strong")
    label = cut(step.label, inner - 6)
    rest = inner - len(label) - 6
    if step.direction == "note":
        return (time, ("│", "dim"), (cell(f"  {label}", inner), step.style), ("│", "dim"))
    if step.direction == "left":
        return (time, ("│", "dim"), (f"◀─{'─' * rest}─ {label} ─", step.style), ("┤", "dim"))
    head = "╳ " if step.direction == "lost" else "─▶"
    return (time, ("├", "dim"), (f"─ {label} {'─' * (rest + 1)}{head}", step.style), ("│", "dim"))
