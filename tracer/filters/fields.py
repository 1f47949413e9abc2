"""Every field of a handshake record by its dotted name: read off one record, or off many rows as a column.

Filters and columns are made of these. The two ways to read must agree to the last digit; tests hold them together.
A column is an array of numbers (float64 or int64, NaN = not known) or `Coded`, for everything that is no number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.dissect import signature
from tracer.dissect.payload import Payload, Protocol
from tracer.handshake.ecn import negotiated_ecn, syn_ecn, synack_ecn
from tracer.handshake.events import F64, Bool, Events, has
from tracer.handshake.option_bytes import layout_keys, masked
from tracer.handshake.owners import processes
from tracer.handshake.part import Coded, Part
from tracer.records.record import Handshake, Process
from tracer.vocabulary.addresses import ip_text
from tracer.vocabulary.vocabulary import (
    CAUSE_WORDS,
    CONFIDENCE_WORDS,
    COOKIE_CHECK_WORDS,
    ECN_WORDS,
    GROUP_WORDS,
    OUTCOME_WORDS,
    REASON_WORDS,
    REQUEST_WORDS,
    RESULT_WORDS,
    VANTAGE_WORDS,
    Group,
    HandshakeResult,
    Has,
    Hook,
    Outcome,
    known,
)

Column = NDArray[np.generic] | Coded


class Kind(Enum):
    """What a field's values are, and so what they can be compared with."""

    NUMBER = "a number"
    DURATION = "a duration"  # microseconds
    FLAG = "true or false"
    WORD = "a word"  # of a vocabulary
    TEXT = "text"
    ADDRESS = "an address"
    LIST = "a list"  # of texts or numbers


@dataclass(frozen=True, slots=True)
class Field:
    """`of` reads a record, None = not known; `column` reads rows. `words`: the vocabulary, where there is one."""

    name: str
    kind: Kind
    of: Callable[[Handshake], Any]
    column: Callable[[Part], Column]
    words: tuple[str, ...] = ()


# --- reading a record ---


def _path(name: str) -> Callable[[Handshake], Any]:
    steps = name.split(".")

    def read(record: Handshake) -> Any:
        value: Any = record
        for step in steps:
            if value is None:
                return None
            value = getattr(value, step)
        return value

    return read


# --- reading rows ---


def coded(values: Iterable[Any]) -> Coded:
    """One value a row, hashable; equal ones are held once."""
    places: dict[Any, int] = {}
    codes = [places.setdefault(value, len(places)) for value in values]
    return Coded(list(places), np.array(codes, np.min_scalar_type(len(places))))


def _where(known: Bool, numbers: NDArray[Any]) -> F64:
    return np.where(known, numbers.astype(np.float64), np.nan)


def _answered(part: Part) -> Bool:
    return has(part.events["synack"]["has"], Has.SEGMENT)


def _event(name: str) -> Callable[[Part], Column]:
    return lambda part: part.events[name].astype(np.float64)


def _icmp(name: str) -> Callable[[Part], Column]:
    return lambda part: _where(part.events["result"] == HandshakeResult.UNREACHABLE, part.events[name])


def _duration(name: str) -> Callable[[Part], Column]:
    # as records round them
    return lambda part: np.round(getattr(part.durations, name), 3)


def _words(values: Sequence[str | None], codes: Callable[[Part], NDArray[Any]]) -> Callable[[Part], Column]:
    return lambda part: Coded(values, codes(part).astype(np.uint8))


def _from_record(of: Callable[[Handshake], Any]) -> Callable[[Part], Column]:
    return lambda part: coded(of(record) for record in part.names.records(part))


def _segment(segment: str, name: str, flag: Has = Has.SEGMENT) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        facts: Events = part.events[segment]
        return _where(has(facts["has"], flag), facts[name])

    return column


def _carries(segment: str, flag: Has) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        carried = part.events[segment]["has"]
        return _where(has(carried, Has.SEGMENT), has(carried, flag))

    return column


_HOPS = np.array([signature.hops(ttl) for ttl in range(256)], np.float64)


def _hops(segment: str) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        facts = part.events[segment]
        return _where(has(facts["has"], Has.SEGMENT), _HOPS[facts["ttl"]])

    return column


# the three ECN bits of the TCP flags, as a number 0..7
_ECN_SHIFT, _ECN_CODES = 6, 8
_SYN_ECN: list[str | None] = [syn_ecn(code << _ECN_SHIFT) for code in range(_ECN_CODES)]
_SYNACK_ECN: list[str | None] = [synack_ecn(code << _ECN_SHIFT) for code in range(_ECN_CODES)]
_BOTH_ECN: list[str | None] = [
    negotiated_ecn(syn_ecn(asked << _ECN_SHIFT), synack_ecn(granted << _ECN_SHIFT))
    for asked in range(_ECN_CODES)
    for granted in range(_ECN_CODES)
]


def _ecn_code(segment: Events) -> NDArray[np.intp]:
    return (segment["tcp_flags"].astype(np.intp) >> _ECN_SHIFT) & (_ECN_CODES - 1)


def _segment_ecn(segment: str, values: list[str | None]) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        facts = part.events[segment]
        known = has(facts["has"], Has.SEGMENT)
        return Coded([*values, None], np.where(known, _ecn_code(facts), len(values)))

    return column


def _negotiated_ecn(part: Part) -> Column:
    codes = _ecn_code(part.events["syn"]) * _ECN_CODES + _ecn_code(part.events["synack"])
    return Coded([*_BOTH_ECN, None], np.where(_answered(part), codes, len(_BOTH_ECN)))


def _both(flag: Has) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        both = part.events["syn"]["has"] & part.events["synack"]["has"]
        return _where(_answered(part), has(both, flag))

    return column


def _acked(part: Part) -> Column:
    return _where(_answered(part), part.verdicts.acked_payload_len)


def _cookie_len(segment: str) -> Callable[[Part], Column]:
    return _segment(segment, "cookie_len", Has.TFO)


def _layout(segment: str, read: Callable[[signature.OptionLayout], Any]) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        facts = part.events[segment]
        answered = has(facts["has"], Has.SEGMENT)
        keys = coded(layout_keys(masked(facts), facts["options_len"]))
        values = [read(signature.option_layout(key)) for key in keys.values]
        return Coded([*values, None], np.where(answered, keys.codes, len(values)))

    return column


def _address(end: str) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        raw = np.ascontiguousarray(part.events[end])
        data = raw.tobytes()
        width = raw.shape[1]
        found = coded(data[at : at + width] for at in range(0, len(data), width))
        return Coded([ip_text(address) for address in found.values], found.codes)

    return column


def _by_number(numbers: NDArray[Any], name: Callable[[int], Any]) -> Coded:
    values, codes = np.unique(numbers, return_inverse=True)
    return Coded([name(value) for value in values.tolist()], codes.astype(np.min_scalar_type(len(values))))


def _interface(part: Part) -> Column:
    return _by_number(part.events["ifindex"], lambda index: part.names.interface(index)[0])


def _hook(part: Part) -> Column:
    return _by_number(part.events["ifindex"], lambda index: part.names.interface(index)[1])


def _vlan(part: Part) -> Column:
    tags = part.events["vlan"].astype(np.int64)
    return _by_number(
        tags[:, 0] << 16 | tags[:, 1], lambda both: tuple(vid for vid in (both >> 16, both & 0xFFFF) if vid)
    )


def _ts(part: Part) -> Column:
    stamps = (part.events["syn_ns"].astype(np.int64) + part.offset_ns).astype("datetime64[ns]")
    return Coded([f"{text}Z" for text in np.datetime_as_string(stamps).tolist()], np.arange(len(part)))


def _id(part: Part) -> Column:
    return Coded([f"{id_:016x}" for id_ in part.events["id"].tolist()], np.arange(len(part)))


def _of_payload(read: Callable[[Payload], Any]) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        # a list that still grows: rows know no later places than those it has now
        values = [None if payload is None else read(payload) for payload in list(part.payloads)]
        return Coded(values, part.payload.copy())  # not a part of a larger array

    return column


def _flag_of_payload(read: Callable[[Payload], bool | None]) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        values = [None if payload is None else read(payload) for payload in list(part.payloads)]
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        return numbers[part.payload]

    return column


def _captured(part: Part) -> Column:
    return _where(part.events["syn"]["payload_len"] > 0, part.payload > 0)


def _group(part: Part) -> NDArray[Any]:
    return np.where(part.verdicts.outcome == Outcome.UNKNOWN, len(Group), part.verdicts.group)


def process_rows(part: Part, end: str) -> list[Process | None]:
    """The process behind one end ("client" or "server") of each row."""
    clients, servers = processes(part.batch, part.names.cgroups)
    return clients if end == "client" else servers


def _process_number(end: str, name: str) -> Callable[[Part], Column]:
    def column(part: Part) -> Column:
        found = process_rows(part, end)
        return np.array([np.nan if one is None else getattr(one, name) for one in found], np.float64)

    return column


def _process_text(end: str, name: str) -> Callable[[Part], Column]:
    return lambda part: coded(None if one is None else getattr(one, name) for one in process_rows(part, end))


# --- the table ---


def _segment_fields(segment: str, ecn: list[str | None]) -> list[tuple[str, Kind, Callable[[Part], Column]]]:
    return [
        ("seq", Kind.NUMBER, _segment(segment, "seq")),
        ("payload_len", Kind.NUMBER, _segment(segment, "payload_len")),
        ("mss", Kind.NUMBER, _segment(segment, "mss", Has.MSS)),
        ("wscale", Kind.NUMBER, _segment(segment, "wscale", Has.WSCALE)),
        ("window", Kind.NUMBER, _segment(segment, "window")),
        ("sack_permitted", Kind.FLAG, _carries(segment, Has.SACK)),
        ("ts_val", Kind.NUMBER, _segment(segment, "ts_val", Has.TIMESTAMPS)),
        ("ts_ecr", Kind.NUMBER, _segment(segment, "ts_ecr", Has.TIMESTAMPS)),
        ("ttl", Kind.NUMBER, _segment(segment, "ttl")),
        ("hops", Kind.NUMBER, _hops(segment)),
        ("ecn", Kind.WORD, _segment_ecn(segment, ecn)),
        ("md5", Kind.FLAG, _carries(segment, Has.MD5)),
        ("ao", Kind.FLAG, _carries(segment, Has.AO)),
    ]


def _fields() -> list[Field]:
    found: list[Field] = []

    def add(name: str, kind: Kind, column: Callable[[Part], Column], words: Iterable[str] = ()) -> None:
        found.append(Field(name, kind, _path(name), column, tuple(words)))

    def add_slow(name: str, kind: Kind) -> None:
        read = _path(name)
        found.append(Field(name, kind, read, _from_record(read)))

    add("ts", Kind.TEXT, _ts)
    add("id", Kind.TEXT, _id)
    add("interface", Kind.TEXT, _interface)
    add("hook", Kind.WORD, _hook, [*(hook.value for hook in Hook), "replay", "unknown"])
    add("vlan", Kind.LIST, _vlan)
    add("vantage", Kind.WORD, _words(VANTAGE_WORDS, lambda part: part.vantage), VANTAGE_WORDS)
    add_slow("community_id", Kind.TEXT)
    for end in ("client", "server"):
        add(f"{end}.ip", Kind.ADDRESS, _address(end))
        add(f"{end}.port", Kind.NUMBER, _event(f"{end}_port"))
        for name in ("pid", "uid"):
            add(f"{end}.process.{name}", Kind.NUMBER, _process_number(end, name))
        for name in ("name", "cgroup"):
            add(f"{end}.process.{name}", Kind.TEXT, _process_text(end, name))
    add("handshake.result", Kind.WORD, _words(RESULT_WORDS, lambda part: part.events["result"]), RESULT_WORDS[1:])
    add("handshake.settled_by", Kind.WORD, _words(REASON_WORDS, lambda part: part.events["reason"]), REASON_WORDS[1:])
    for name in ("syn_count", "synack_count", "late_syns", "challenge_acks"):
        add(f"handshake.{name}", Kind.NUMBER, _event(name))
    for name in ("synack_delay_us", "ack_delay_us", "rtt_us", "first_response_us"):
        add(f"handshake.{name}", Kind.DURATION, _duration(name))
    for name in ("type", "code"):
        add(f"handshake.icmp.{name}", Kind.NUMBER, _icmp(f"icmp_{name}"))
    for segment, ecn in (("syn", _SYN_ECN), ("synack", _SYNACK_ECN)):
        for name, kind, column in _segment_fields(segment, ecn):
            add(f"{segment}.{name}", kind, column, ECN_WORDS if name == "ecn" else ())
        add(f"{segment}.mptcp", Kind.TEXT, _layout(segment, lambda layout: layout.mptcp))
        add(f"{segment}.options", Kind.LIST, _layout(segment, lambda layout: layout.names))
    add("synack.acked_payload_len", Kind.NUMBER, _acked)
    for name, flag in (("wscale", Has.WSCALE), ("sack", Has.SACK), ("timestamps", Has.TIMESTAMPS)):
        add(f"negotiated.{name}", Kind.FLAG, _both(flag))
    add("negotiated.ecn", Kind.WORD, _negotiated_ecn, ECN_WORDS)
    add("negotiated.mptcp", Kind.FLAG, _both(Has.MPTCP))
    add("tfo.request", Kind.WORD, _words(REQUEST_WORDS, lambda part: part.verdicts.request), REQUEST_WORDS)
    add("tfo.outcome", Kind.WORD, _words(OUTCOME_WORDS, lambda part: part.verdicts.outcome), known(OUTCOME_WORDS))
    add("tfo.group", Kind.WORD, _words([*GROUP_WORDS, None], _group), GROUP_WORDS)
    for prefix, segment in (("", "syn"), ("synack_", "synack")):
        add(f"tfo.{prefix}kind", Kind.NUMBER, _segment(segment, "tfo_kind", Has.TFO))
        add(f"tfo.{prefix}cookie_len", Kind.NUMBER, _cookie_len(segment))
        add_slow(f"tfo.{prefix}cookie_id", Kind.TEXT)
        add_slow(f"tfo.{prefix}cookie", Kind.TEXT)
    add(
        "tfo.cookie_check",
        Kind.WORD,
        _words(COOKIE_CHECK_WORDS, lambda part: part.causes.cookie_check),
        known(COOKIE_CHECK_WORDS),
    )
    add("tfo.cause", Kind.WORD, _words(CAUSE_WORDS, lambda part: part.causes.cause), known(CAUSE_WORDS))
    add(
        "tfo.cause_confidence", Kind.WORD, _words(CONFIDENCE_WORDS, lambda part: part.causes.confidence),
        known(CONFIDENCE_WORDS),
    )  # fmt: skip
    add("tfo.rtt_saved_us", Kind.DURATION, _duration("rtt_saved_us"))
    add("tfo.delay_us", Kind.DURATION, _duration("delay_us"))
    protocols = [protocol.value for protocol in Protocol]
    add("payload.protocol", Kind.WORD, _of_payload(lambda payload: payload.protocol.value), protocols)
    add("payload.captured", Kind.FLAG, _captured)
    add("payload.truncated", Kind.FLAG, _flag_of_payload(lambda payload: payload.truncated))
    add("tls.sni", Kind.TEXT, _of_payload(lambda payload: payload.tls and payload.tls.sni))
    add("tls.alpn", Kind.LIST, _of_payload(lambda payload: payload.tls and payload.tls.alpn))
    add("tls.ech", Kind.FLAG, _flag_of_payload(lambda payload: payload.tls.ech if payload.tls else None))
    add("http.method", Kind.TEXT, _of_payload(lambda payload: payload.http and payload.http.method))
    add("http.host", Kind.TEXT, _of_payload(lambda payload: payload.http and payload.http.host))
    add("dns.name", Kind.TEXT, _of_payload(lambda payload: payload.dns and payload.dns.name))
    add("dns.type", Kind.TEXT, _of_payload(lambda payload: payload.dns and payload.dns.type))
    add_slow("signature.p0f", Kind.TEXT)
    return found


FIELDS: dict[str, Field] = {field.name: field for field in _fields()}
