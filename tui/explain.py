"""One handshake in words: verdict, cause, timing, options and what was negotiated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracer.dissect import options as tcp_options
from tracer.dissect.options import OptionDetail
from tracer.records import fate, life
from tracer.records.record import Handshake, Segment
from tracer.records.server_name import server_name
from tracer.vocabulary.causes import WARNINGS
from tracer.vocabulary.changes import change_words
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.local_time import local, zone
from tracer.vocabulary.meanings import AFTERS, REQUESTS, SETTLED
from tracer.vocabulary.printable import times
from tracer.words.handshake import verdict
from tui.format import duration, signed_duration
from tui.lines import Line, cell, safe, wrap


@dataclass(frozen=True, slots=True)
class Options:
    """The options of both segments as they were on the wire."""

    syn: Sequence[OptionDetail]
    synack: Sequence[OptionDetail]


def verdict_lines(record: Handshake, cells: int) -> list[Line]:
    """What became of the handshake where it failed, the verdict on Fast Open, what they mean, and the causes."""
    lines: list[Line] = []
    for text, style in verdict(record):
        # a verdict stands in one line, as its sign does in lists
        lines += wrap(safe(text), cells, style) if style in ("text", "strong") else [((safe(text), style),)]
    return lines


def fact_lines(record: Handshake, cells: int) -> list[Line]:
    """Who, what and when, as names and values."""
    timing, tfo = record.handshake, record.tfo
    facts: list[tuple[str, str]] = [
        ("result", f"{life.result(timing)}, {SETTLED.get(timing.settled_by, timing.settled_by)}"),
        ("request", REQUESTS.get(tfo.request, tfo.request)),
        ("RTT", duration(timing.rtt_us)),
        ("first response", f"{duration(timing.first_response_us)} after the first SYN"
         if timing.first_response_us is not None else "none seen"),
        ("saved", _saved(record)),
    ]  # fmt: skip
    if timing.syn_count > 1 or timing.synack_count > 1 or timing.late_syns:
        late = f", {timing.late_syns} late" if timing.late_syns else ""
        facts.append(("sent", f"{timing.syn_count} SYNs{late}, {timing.synack_count} SYN-ACKs"))
    facts.extend(_life(record))
    facts.extend(_evidence(record))
    facts.extend(_cookies(record))
    facts.extend(_payload(record))
    where = (
        f"{safe(record.interface)} by {safe(record.hook)}"
        if record.interface is not None
        else "by no interface: the kernel dropped the SYN before"
    )
    facts.append(("seen", f"{where}, as {record.vantage}"
                  + (f", VLAN {'.'.join(map(str, record.vlan))}" if record.vlan else "")
                  + (f", through {', '.join(map(safe, record.through))}" if record.through else "")))  # fmt: skip
    facts.append(("time", f"{local(record.ts).replace('T', ' ')} {zone(record.ts)}"))
    for end, name in ((record.client, "client"), (record.server, "server")):
        if end.process is not None:
            where = f", in {safe(end.process.cgroup)}" if end.process.cgroup is not None else ""
            facts.append(
                (f"{name} is", f"{safe(end.process.name)} (pid {end.process.pid}, uid {end.process.uid}{where})")
            )
    facts += [("id", record.id), ("community id", record.community_id), ("p0f", safe(record.signature.p0f))]
    lines: list[Line] = []
    for name, text in facts:
        wrapped = wrap(text, cells - 16)
        lines.append(((cell(name, 15) + " ", "dim"), *wrapped[0]))
        lines.extend(((" " * 16, "text"), *more) for more in wrapped[1:])
    return lines


def _saved(record: Handshake) -> str:
    saved, cost = record.tfo.rtt_saved_us, record.tfo.delay_us
    if record.tfo.outcome == "not_attempted":
        return "nothing: Fast Open was not tried"
    parts = []
    if saved:
        parts.append(f"{signed_duration(saved)}, one round trip")
    elif saved == 0:
        parts.append("nothing")
    else:
        parts.append("unknown")
    if cost:
        parts.append(f"the fallback cost {duration(cost)}")
    return "; ".join(parts)


def _life(record: Handshake) -> list[tuple[str, str]]:
    """How it went on, and what did not fit; nothing of a handshake that was simply answered."""
    timing = record.handshake
    facts: list[tuple[str, str]] = []
    if timing.after not in (None, "response"):
        facts.append(("afterwards", AFTERS.get(timing.after, in_words(safe(timing.after)))))
    if timing.reset is not None:
        reset = timing.reset
        why = f", {safe(reset.reason)}" if reset.reason is not None else ""
        facts.append(
            ("reset", f"by the {safe(reset.from_)}, {duration(reset.after_us)} after the first SYN, "
             f"TTL {reset.ttl} ({reset.hops} hops){why}")
        )  # fmt: skip
    if timing.request_repeats:
        acked = {True: ", it was acked", False: ", it was never acked", None: ""}[timing.request_acked]
        facts.append(("first data", f"sent again {times(timing.request_repeats)}{acked}"))
    if (timing.synack_isns or 0) > 1:
        facts.append(
            (
                "SYN-ACKs",
                f"{timing.synack_isns} different numbers: as many hosts answered, or one with SYN cookies",
            )
        )
    if timing.misfits is not None:
        facts.append(("ignored", life.misfits(timing.misfits)))
    if timing.copies:
        facts.append(("copies", f"{timing.copies} mirrored, not counted as retransmissions"))
    if timing.resumed is not None:
        facts.append(("resumed", f"an earlier record of this id says {in_words(safe(timing.resumed))}, yet it went on"))
    return facts


def _evidence(record: Handshake) -> list[tuple[str, str]]:
    """What the kernel, its queues, and others said of it."""
    timing = record.handshake
    facts: list[tuple[str, str]] = []
    if timing.drop is not None:
        facts.append(("kernel", safe(life.drop_words(timing.drop))))
    if timing.listener is not None:
        facts.append(("listener", safe(fate.listener_words(timing, timing.listener))))
    if timing.icmp is not None:
        facts.append(("ICMP error", safe(fate.icmp_words(timing.icmp, record.client.ip).removeprefix("ICMP: "))))
    if record.nat is not None:
        facts.append(("other side", safe(fate.nat_words(record.nat))))
    if record.changed_on_host is not None:
        changed = "; ".join(map(change_words, record.changed_on_host)) or "nothing: what both sides saw was the same"
        facts.append(("changed here", safe(changed)))
    facts += [("warning", safe(WARNINGS.get(one) or in_words(one))) for one in record.warnings]
    return facts


def _cookies(record: Handshake) -> list[tuple[str, str]]:
    tfo = record.tfo
    facts: list[tuple[str, str]] = []
    if tfo.cookie_len:
        shown = tfo.cookie or f"id {tfo.cookie_id}"
        check = f", {in_words(tfo.cookie_check)}" if tfo.cookie_check else ""
        facts.append(("cookie sent", f"{tfo.cookie_len} bytes, {shown}{check}"))
    if tfo.synack_cookie_len:
        same = ", the same" if tfo.cookie_id is not None and tfo.cookie_id == tfo.synack_cookie_id else ""
        facts.append(
            ("cookie back", f"{tfo.synack_cookie_len} bytes, {tfo.synack_cookie or f'id {tfo.synack_cookie_id}'}{same}")
        )
    return facts


def _payload(record: Handshake) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if record.payload is not None:
        protocol = record.payload.protocol or "not captured"
        cut = ", continues after the SYN" if record.payload.truncated else ""
        facts.append(
            ("SYN data", f"{record.syn.payload_len} bytes, {protocol.upper() if len(protocol) < 5 else protocol}{cut}")
        )
    if record.tls is not None:
        facts.append(
            (
                "SNI",
                safe(server_name(record)) or "none" + (", encrypted hello" if record.tls.ech else ""),
            )
        )
        if record.tls.alpn:
            facts.append(("ALPN", " ".join(safe(name) for name in record.tls.alpn)))
    if record.http is not None:
        facts.append(("HTTP", f"{safe(record.http.method)} {safe(record.http.host or '')}".rstrip()))
    if record.dns is not None:
        facts.append(("DNS", f"{safe(record.dns.name)} {safe(record.dns.type)}"))
    return facts


def option_lines(title: str, segment: Segment | None, details: Sequence[OptionDetail], cells: int) -> list[Line]:
    """Every option of a segment with its meaning, and a line about the header."""
    if segment is None:
        return [((f"{title}: not seen", "dim"),)]
    lines: list[Line] = [((title, "title"),)]
    for detail in details:
        if detail.name in ("nop", "eol"):
            style = "dim"
        else:
            style = "tfo" if detail.name.startswith("tfo") else "text"
        kind = f"{detail.kind:>4}  "
        wrapped = wrap(safe(detail.text), cells - 6, style)
        lines.append(((kind, "dim"), *wrapped[0]))
        lines.extend(((" " * 6, "text"), *more) for more in wrapped[1:])
    lines.append(
        (
            ("      ", "text"),
            (f"window {segment.window} unscaled, TTL {segment.ttl} ({segment.hops} hops), ECN {segment.ecn}", "dim"),
        )
    )
    return lines


_NEGOTIATED = (
    ("window scaling", "wscale"), ("SACK", "sack"), ("timestamps", "timestamps"), ("multipath", "mptcp"),
)  # fmt: skip


def negotiated_lines(record: Handshake, cells: int) -> list[Line]:
    """What both ends agreed on, and what not."""
    agreed = record.negotiated
    if agreed is None:
        return [(("nothing was negotiated: no SYN-ACK seen", "dim"),)]
    yes = [words for words, name in _NEGOTIATED if getattr(agreed, name)]
    no = [words for words, name in _NEGOTIATED if not getattr(agreed, name)]
    if agreed.ecn is not None:  # else nobody was asked
        (yes if agreed.ecn != "none" else no).append("ECN" if agreed.ecn == "none" else f"ECN ({agreed.ecn})")
    lines = wrap(f"agreed: {', '.join(yes) or 'nothing'}", cells)
    return [*lines, *wrap(f"not agreed: {', '.join(no) or 'nothing'}", cells, "dim")]


def options_of(record: Handshake) -> Options:
    """Rebuild the options from a record, for rows without the bytes: sizes of unknown kinds are lost."""
    return Options(
        _rebuilt(record.syn, record.tfo.cookie_len),
        _rebuilt(record.synack, record.tfo.synack_cookie_len) if record.synack is not None else (),
    )


def _rebuilt(segment: Segment, cookie_len: int | None) -> Sequence[OptionDetail]:
    kinds = {name: kind for kind, name in tcp_options.NAMES.items()}
    details: list[OptionDetail] = []
    for name in segment.options:
        value = _value(name, segment, cookie_len)
        if value is None:
            kind = int(name[5:]) if name.startswith("kind_") and name[5:].isdigit() else kinds.get(name, 0)
            details.append(OptionDetail(kind, name, 0, name.replace("_", " ")))
        else:
            details.extend(tcp_options.describe(value))
    return details


def _value(name: str, segment: Segment, cookie_len: int | None) -> bytes | None:
    """The bytes of an option, if the record has its value."""
    if name in ("nop", "eol"):
        return bytes([tcp_options.NOP if name == "nop" else tcp_options.EOL])
    if name == "mss" and segment.mss is not None:
        return bytes([tcp_options.MSS, 4]) + segment.mss.to_bytes(2, "big")
    if name == "wscale" and segment.wscale is not None:
        return bytes([tcp_options.WSCALE, 3, segment.wscale & 0xFF])
    if name == "sack_permitted":
        return bytes([tcp_options.SACK_PERMITTED, 2])
    if name == "timestamps" and segment.ts_val is not None:
        stamps = segment.ts_val.to_bytes(4, "big") + (segment.ts_ecr or 0).to_bytes(4, "big")
        return bytes([tcp_options.TIMESTAMPS, 10]) + stamps
    if name == "tfo" and cookie_len is not None:
        return bytes([tcp_options.TFO, 2 + cookie_len]) + bytes(cookie_len)
    if name == tcp_options.TFO_EXPERIMENTAL and cookie_len is not None:
        return bytes([254, 4 + cookie_len]) + tcp_options.TFO_MAGIC.to_bytes(2, "big") + bytes(cookie_len)
    return None
