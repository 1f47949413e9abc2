"""What a line says of a handshake behind its verdict: who refused it, what was sent again, what the SYN asked for."""

from __future__ import annotations

from tracer.records.fate import evidence, failed, was_cut_short
from tracer.records.life import after, misfits, verdict_words
from tracer.records.record import Handshake, Timing
from tracer.records.server_name import server_name
from tracer.vocabulary.causes import short_cause
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.meanings import SETTLED
from tracer.vocabulary.numbers import duration
from tracer.vocabulary.printable import plural, printable

_SAME = ("rejected", "no_answer")  # outcomes that say what the result says


def notes(record: Handshake) -> list[str]:
    """A few words each, safe to print; the name that the SYN asks for comes last."""
    return [*happened(record), *tried(record), *asked(record)]


def happened(record: Handshake) -> list[str]:
    """What else happened, and who says so."""
    timing, tfo = record.handshake, record.tfo
    found = []
    if record.interface is None:
        found.append("no interface saw it")
    ended = after(timing)
    # evidence() tells of a reset with its time
    if ended and not (timing.reset is not None and ended.endswith("reset by server")):
        found.append(ended)
    if was_cut_short(timing):
        found.append(SETTLED[timing.settled_by])
    found += evidence(record)
    if timing.misfits is not None:
        found.append(misfits(timing.misfits))
    if timing.cause is not None and tfo.cause is not None:
        why = short_cause(tfo.cause, tfo.cause_confidence).removeprefix("cause ")
        found.append(printable(f"Fast Open: {why}"))
    if timing.syn_count > 1 or timing.synack_count > 1:
        found.append(_sent_again(timing))
    if (timing.synack_isns or 0) > 1:
        found.append(f"{timing.synack_isns} different SYN-ACKs")
    if timing.resumed is not None:
        found.append(f"went on after {in_words(printable(timing.resumed))}")
    if record.through:
        found.append(f"through {', '.join(map(printable, record.through))}")
    if record.vlan:
        found.append(f"VLAN {'.'.join(map(str, record.vlan))}")
    return found


def tried(record: Handshake) -> list[str]:
    """What Fast Open did in a handshake that failed: its line leads with the failure."""
    if not failed(record.handshake) or record.tfo.outcome == "not_attempted":
        return []
    return ["TFO tried" if record.tfo.outcome in _SAME else verdict_words(record)]


def asked(record: Handshake) -> list[str]:
    """How much of the SYN's data was taken if not all or nothing, and what that data asks for."""
    found = []
    acked = record.synack.acked_payload_len if record.synack is not None else 0
    if 0 < acked < record.syn.payload_len:
        found.append(f"{acked} of {record.syn.payload_len} B acked")
    if record.payload is not None and record.payload.truncated:
        what = {"tls": "ClientHello", "http": "HTTP request", "dns": "DNS query"}.get(record.payload.protocol or "")
        found.append(f"{what or 'data'} truncated")
    name = server_name(record)
    if name:
        found.append(f"SNI {name}")
    if record.http is not None and record.http.host:
        found.append(f"{printable(record.http.method)} {printable(record.http.host)}")
    if record.dns is not None:
        found.append(f"DNS {printable(record.dns.name)} {printable(record.dns.type)}")
    return found


def _sent_again(timing: Timing) -> str:
    """How many were sent, and how long connect() took: "2 SYNs, connected after 1.02 s"."""
    parts = [
        f"{number} {plural(number, name)}"
        for number, name in ((timing.syn_count, "SYN"), (timing.synack_count, "SYN-ACK"))
        if number > 1
    ]
    if timing.connect_us is not None:
        parts.append(f"connected after {duration(timing.connect_us)}")
    return ", ".join(parts)
