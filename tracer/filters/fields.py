"""Every field of a handshake record by its dotted name: read from one record, or from many rows as a column.

The fields are those of tracer/records. Filters and lists use them. A column is an array of numbers (float64 or int64,
NaN = unknown) or `Coded`, for everything else. It must agree with the record to the last digit, which tests check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from operator import itemgetter
from typing import Any

import numpy as np
from msgspec import inspect
from numpy.typing import NDArray

from tracer.dissect import signature
from tracer.dissect.payload import Payload
from tracer.handshake.durations import Durations
from tracer.handshake.ecn import asked_no_more, negotiated_ecn, segment_ecn
from tracer.handshake.events import F64, Bool, Events, byte_rows, has
from tracer.handshake.life import NOT_KNOWN, misfits, request_acked
from tracer.handshake.option_bytes import layout_keys, masked
from tracer.handshake.outcome import FirstAnswers, first_answers
from tracer.handshake.owners import processes
from tracer.handshake.rows import Coded, Rows
from tracer.handshake.warnings import warning_words, warnings
from tracer.handshake.words import WORDS
from tracer.ipc.event_header import struct
from tracer.records.ends import Process
from tracer.records.record import Handshake
from tracer.records.types import IP_FORMS
from tracer.vocabulary.addresses import ip_text
from tracer.vocabulary.vocabulary import HandshakeResult, Has, known

Column = NDArray[np.generic] | Coded


class Kind(Enum):
    """What a field's values are, which decides what they can be compared with."""

    NUMBER = "a number"
    DURATION = "a duration"  # microseconds
    FLAG = "true or false"
    WORD = "a word"  # of a vocabulary
    TEXT = "text"
    ADDRESS = "an address"
    LIST = "a list"  # of texts or numbers


@dataclass(frozen=True, slots=True)
class Field:
    """`of` reads a record, None = unknown; `column` reads rows. `words`: the vocabulary, if there is one.

    `says` is the schema's description; some fields have none.
    """

    name: str
    kind: Kind
    of: Callable[[Handshake], Any]
    column: Callable[[Rows], Column]
    words: tuple[str, ...] = ()
    says: str = ""


# --- reading a record ---


def _path(*steps: str) -> Callable[[Handshake], Any]:
    """A field by its attributes, the outermost first."""

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
    """A column of one hashable value a row; equal ones are stored once."""
    places: dict[Any, int] = {}
    codes = [places.setdefault(value, len(places)) for value in values]
    return Coded(list(places), np.array(codes, np.min_scalar_type(len(places))))


def _where(known: Bool, numbers: NDArray[Any]) -> F64:
    return np.where(known, numbers.astype(np.float64), np.nan)


def _answered(rows: Rows) -> Bool:
    return has(rows.events["synack"]["has"], Has.SEGMENT)


def _event(name: str) -> Callable[[Rows], Column]:
    return lambda rows: rows.events[name].astype(np.float64)


def _icmp(name: str) -> Callable[[Rows], Column]:
    return lambda rows: _where(rows.events["result"] == HandshakeResult.UNREACHABLE, rows.events[name])


def _misfit(name: str) -> Callable[[Rows], Column]:
    def column(rows: Rows) -> Column:
        found = np.full(len(rows), np.nan)
        some = misfits(rows.events)
        found[some] = rows.events[name][some]
        return found

    return column


def _request_acked(rows: Rows) -> Column:
    found = request_acked(rows.events)
    return _where(found != NOT_KNOWN, found)


def _duration(name: str) -> Callable[[Rows], Column]:
    # as records round them
    return lambda rows: np.round(getattr(rows.durations, name), 3)


def _words(values: Sequence[str | None], codes: Callable[[Rows], NDArray[Any]]) -> Callable[[Rows], Column]:
    return lambda rows: Coded(values, codes(rows).astype(np.uint8))


def _from_record(of: Callable[[Handshake], Any]) -> Callable[[Rows], Column]:
    return lambda rows: coded(of(record) for record in rows.names.compose(rows.batch))


def _segment(segment: str, read: Callable[[Events], NDArray[Any]], flag: Has = Has.SEGMENT) -> Callable[[Rows], Column]:
    return lambda rows: _where(has(rows.events[segment]["has"], flag), read(rows.events[segment]))


def _first_answer(read: Callable[[FirstAnswers], NDArray[Any]]) -> Callable[[Rows], Column]:
    def column(rows: Rows) -> Column:
        answer = first_answers(rows.events)
        return _where(has(answer.has, Has.TFO), read(answer))

    return column


def _carries(segment: str, flag: Has) -> Callable[[Rows], Column]:
    return _segment(segment, lambda facts: has(facts["has"], flag))


def _reset(read: Callable[[Events], NDArray[Any]]) -> Callable[[Rows], Column]:
    return lambda rows: _where(rows.events["reset_from"] != 0, read(rows.events))


_HOPS = np.array([signature.hops(ttl) for ttl in range(256)], np.float64)


def _segment_ecn(segment: str) -> Callable[[Rows], Column]:
    def column(rows: Rows) -> Column:
        facts = rows.events[segment]
        return _by_number(facts["tcp_flags"], segment_ecn, has(facts["has"], Has.SEGMENT))

    return column


def _negotiated_ecn(rows: Rows) -> Column:
    asked, granted = (rows.events[segment]["tcp_flags"].astype(np.uint32) for segment in ("syn", "synack"))
    return _by_number(
        asked << 16 | granted,
        lambda both: negotiated_ecn(segment_ecn(both >> 16), segment_ecn(both & 0xFFFF)),
        _answered(rows) & ~asked_no_more(rows.events, rows.verdicts.answered_syn),
    )


def _both(flag: Has) -> Callable[[Rows], Column]:
    return lambda rows: _where(_answered(rows), has(rows.events["syn"]["has"] & rows.events["synack"]["has"], flag))


def _layout(segment: str, read: Callable[[signature.OptionLayout], Any]) -> Callable[[Rows], Column]:
    def column(rows: Rows) -> Column:
        facts = rows.events[segment]
        keys = coded(layout_keys(masked(facts), facts["options_len"]))
        values = [read(signature.option_layout(key)) for key in keys.values]
        return Coded([*values, None], np.where(has(facts["has"], Has.SEGMENT), keys.codes, len(values)))

    return column


def _address(end: str) -> Callable[[Rows], Column]:
    def column(rows: Rows) -> Column:
        found = coded(byte_rows(rows.events[end]))
        return Coded([ip_text(address) for address in found.values], found.codes)

    return column


def _by_number(numbers: NDArray[Any], name: Callable[[int], Any], known: Bool | None = None) -> Coded:
    """A name for each number where it is known."""
    values, codes = np.unique(numbers, return_inverse=True)
    codes = codes.astype(np.min_scalar_type(len(values)))
    names = [name(value) for value in values.tolist()]
    return Coded(names, codes) if known is None else Coded([*names, None], np.where(known, codes, len(names)))


def _vlan(rows: Rows) -> Column:
    tags = rows.events["vlan"].astype(np.int64)
    return _by_number(
        tags[:, 0] << 16 | tags[:, 1], lambda both: tuple(vid for vid in (both >> 16, both & 0xFFFF) if vid)
    )


def _warnings(rows: Rows) -> Column:
    return _by_number(warnings(rows.events, lambda index: rows.names.interface(index).mtu), warning_words)


def _ts(rows: Rows) -> Column:
    stamps = (rows.events["syn_ns"].astype(np.int64) + rows.offset_ns).astype("datetime64[ns]")
    return Coded([f"{text}Z" for text in np.datetime_as_string(stamps).tolist()], np.arange(len(rows)))


def _id(rows: Rows) -> Column:
    return Coded([f"{id_:016x}" for id_ in rows.events["id"].tolist()], np.arange(len(rows)))


def _payload_values(rows: Rows, read: Callable[[Payload], Any]) -> list[Any]:
    # copy a list that still grows: rows do not refer to entries that come later
    return [None if payload is None else read(payload) for payload in list(rows.payloads)]


def _of_payload(read: Callable[[Payload], Any]) -> Callable[[Rows], Column]:
    return lambda rows: Coded(_payload_values(rows, read), rows.payload.copy())  # a copy, not a view of a larger array


def _flag_of_payload(read: Callable[[Payload], bool | None]) -> Callable[[Rows], Column]:
    return lambda rows: np.array(_payload_values(rows, read), np.float64)[rows.payload]  # None becomes NaN


def process_rows(rows: Rows, end: str) -> list[Process | None]:
    """The process behind one end ("client" or "server") of each row."""
    clients, servers = processes(rows.batch, rows.names.cgroups)
    return clients if end == "client" else servers


def _process_number(end: str, name: str) -> Callable[[Rows], Column]:
    return lambda rows: np.array([getattr(one, name, None) for one in process_rows(rows, end)], np.float64)


def _process_text(end: str, name: str) -> Callable[[Rows], Column]:
    return lambda rows: coded(getattr(one, name, None) for one in process_rows(rows, end))


def _or_null(of_rows: Callable[[Rows], Column], of: Callable[[Handshake], Any]) -> Callable[[Rows], Column]:
    """The column of a field that is null in older recordings, whose rows cannot say so."""
    of_records = _from_record(of)
    return lambda rows: of_rows(rows) if rows.names.columns_tell_all else of_records(rows)


# --- the fields ---


# How rows become columns. What neither this nor `_default` has is read from composed records, which is slow.
_COLUMNS: dict[str, Callable[[Rows], Column]] = {
    **{name: _words(*one) for name, one in WORDS.items()},
    "ts": _ts,
    "id": _id,
    "interface": lambda rows: _by_number(rows.events["ifindex"], lambda index: rows.names.interface(index).interface),
    "hook": lambda rows: _by_number(rows.events["ifindex"], lambda index: rows.names.interface(index).hook),
    "through": lambda rows: _by_number(rows.events["ifindex"], lambda index: rows.names.interface(index).through),
    "warnings": _or_null(_warnings, _path("warnings")),
    "changed_on_host": _or_null(
        lambda rows: _by_number(rows.causes.changed, rows.names.changes.__getitem__), _path("changed_on_host")
    ),
    "vlan": _vlan,
    "handshake.icmp.type": _icmp("icmp_type"),
    "handshake.icmp.code": _icmp("icmp_code"),
    "handshake.answered_syn": lambda rows: _where(rows.verdicts.answered_syn != 0, rows.verdicts.answered_syn),
    "handshake.request_acked": _or_null(_request_acked, _path("handshake", "request_acked")),
    "handshake.reset.after_us": _duration("reset_after_us"),
    "handshake.reset.ttl": _reset(itemgetter("reset_ttl")),
    "handshake.reset.hops": _reset(lambda events: _HOPS[events["reset_ttl"]]),
    "handshake.misfits.rst": _misfit("misfit_rsts"),
    "handshake.misfits.synack": _misfit("misfit_synacks"),
    "handshake.misfits.icmp": _misfit("misfit_icmps"),
    "synack.acked_payload_len": lambda rows: _where(_answered(rows), rows.verdicts.acked_payload_len),
    "negotiated.wscale": _both(Has.WSCALE),
    "negotiated.sack": _both(Has.SACK),
    "negotiated.timestamps": _both(Has.TIMESTAMPS),
    "negotiated.mptcp": _both(Has.MPTCP),
    "negotiated.ecn": _negotiated_ecn,
    "tfo.kind": _segment("syn", itemgetter("tfo_kind"), Has.TFO),
    "tfo.cookie_len": _segment("syn", itemgetter("cookie_len"), Has.TFO),
    "tfo.synack_kind": _first_answer(lambda answer: answer.tfo_kind),
    "tfo.synack_cookie_len": _first_answer(lambda answer: answer.cookie_len),
    "payload.protocol": _of_payload(lambda payload: payload.protocol.value),
    "payload.captured": lambda rows: _where(rows.events["syn"]["payload_len"] > 0, rows.payload > 0),
    "payload.truncated": _flag_of_payload(lambda payload: payload.truncated),
    "tls.sni": _of_payload(lambda payload: payload.tls and payload.tls.sni),
    "tls.alpn": _of_payload(lambda payload: payload.tls and payload.tls.alpn),
    "tls.ech": _flag_of_payload(lambda payload: payload.tls.ech if payload.tls else None),
    "http.method": _of_payload(lambda payload: payload.http and payload.http.method),
    "http.host": _of_payload(lambda payload: payload.http and payload.http.host),
    "dns.name": _of_payload(lambda payload: payload.dns and payload.dns.name),
    "dns.type": _of_payload(lambda payload: payload.dns and payload.dns.type),
}
for _end in ("client", "server"):
    _COLUMNS |= {
        f"{_end}.ip": _address(_end),
        f"{_end}.port": _event(f"{_end}_port"),
        f"{_end}.process.pid": _process_number(_end, "pid"),
        f"{_end}.process.uid": _process_number(_end, "uid"),
        f"{_end}.process.name": _process_text(_end, "name"),
        f"{_end}.process.cgroup": _process_text(_end, "cgroup"),
    }
for _end in ("syn", "synack"):
    _COLUMNS |= {
        f"{_end}.mss": _segment(_end, itemgetter("mss"), Has.MSS),
        f"{_end}.wscale": _segment(_end, itemgetter("wscale"), Has.WSCALE),
        f"{_end}.sack_permitted": _carries(_end, Has.SACK),
        f"{_end}.ts_val": _segment(_end, itemgetter("ts_val"), Has.TIMESTAMPS),
        f"{_end}.ts_ecr": _segment(_end, itemgetter("ts_ecr"), Has.TIMESTAMPS),
        f"{_end}.hops": _segment(_end, lambda facts: _HOPS[facts["ttl"]]),
        f"{_end}.ecn": _segment_ecn(_end),
        f"{_end}.md5": _carries(_end, Has.MD5),
        f"{_end}.ao": _carries(_end, Has.AO),
        f"{_end}.mptcp": _layout(_end, lambda layout: layout.mptcp),
        f"{_end}.options": _layout(_end, lambda layout: layout.names),
    }


_OPEN = ("syn.mptcp", "synack.mptcp")  # vocabularies that later standards may extend
_EVENT = struct("handshake_event")
_DURATIONS = frozenset(one.name for one in fields(Durations))


def _default(name: str, of: Callable[[Handshake], Any], kind: Kind, may_be_null: bool) -> Callable[[Rows], Column]:
    """The rows' column of the record's own name, or the field of composed records."""
    of_rows = _of_rows(name, kind)
    if of_rows is None:
        return _from_record(of)
    return _or_null(of_rows, of) if may_be_null else of_rows


def _of_rows(name: str, kind: Kind) -> Callable[[Rows], Column] | None:
    """A number that all rows have under the record's own name."""
    parent, _, own = name.rpartition(".")
    if kind is Kind.DURATION and own in _DURATIONS:
        return _duration(own)  # NaN if unknown, in rows of a replay too
    if kind is Kind.NUMBER:
        if parent == "handshake" and own in _EVENT:
            return _event(own)
        if parent in ("syn", "synack") and own in _EVENT.nested(parent):
            return _segment(parent, itemgetter(own))
    return None


def _leaves(
    kind: inspect.StructType, prefix: str = "", steps: tuple[str, ...] = ()
) -> Iterator[tuple[str, Callable[[Handshake], Any], inspect.Type]]:
    """Name, reader and type of every field that is not a struct; the name is that in JSON."""
    for one in kind.fields:
        inner, path = _plain(one.type)[0], (*steps, one.name)
        if isinstance(inner, inspect.StructType):
            yield from _leaves(inner, f"{prefix}{one.encode_name}.", path)
        elif prefix or one.name != "schema":
            yield f"{prefix}{one.encode_name}", _path(*path), one.type


def _plain(type_: inspect.Type) -> tuple[inspect.Type, dict[str, Any], bool]:
    """A type without its metadata, the metadata's schema, and whether null is allowed."""
    if isinstance(type_, inspect.Metadata):
        found, schema, may_be_null = _plain(type_.type)
        return found, {**schema, **(type_.extra_json_schema or {})}, may_be_null
    if isinstance(type_, inspect.UnionType):
        (known_type,) = (one for one in type_.types if not isinstance(one, inspect.NoneType))
        return *_plain(known_type)[:2], True
    return type_, {}, False


def _kind(name: str, type_: inspect.Type, schema: dict[str, Any]) -> Kind:
    if isinstance(type_, inspect.BoolType):
        return Kind.FLAG
    if isinstance(type_, inspect.IntType | inspect.FloatType):
        return Kind.DURATION if name.endswith("_us") else Kind.NUMBER
    if isinstance(type_, inspect.VarTupleType):
        return Kind.LIST
    if schema.get("anyOf") == IP_FORMS:
        return Kind.ADDRESS
    return Kind.WORD if "enum" in schema and name not in _OPEN else Kind.TEXT


def _fields() -> Iterator[Field]:
    record = inspect.type_info(Handshake)
    assert isinstance(record, inspect.StructType)
    for name, of, of_record in _leaves(record):
        type_, schema, may_be_null = _plain(of_record)
        kind = _kind(name, type_, schema)
        words = tuple(known(schema["enum"])) if kind is Kind.WORD else ()
        column = _COLUMNS.get(name) or _default(name, of, kind, may_be_null)
        yield Field(name, kind, of, column, words, schema.get("description", ""))


FIELDS: dict[str, Field] = {field.name: field for field in _fields()}
