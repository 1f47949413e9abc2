"""Makes the records of a batch, one object a handshake, only where somebody reads each (JSON lines, text)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, ClassVar, cast

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from tracer.dissect import signature
from tracer.dissect.payload import Payload
from tracer.handshake.batch import Batch
from tracer.handshake.community_id import community_ids
from tracer.handshake.ecn import asked_no_more, negotiated_ecn, segment_ecn
from tracer.handshake.events import Events, byte_rows, has, nullable
from tracer.handshake.life import NOT_KNOWN, misfits, request_acked
from tracer.handshake.option_bytes import masked
from tracer.handshake.outcome import cookie_rows, first_answers, first_cookie_rows
from tracer.handshake.owners import processes
from tracer.handshake.payloads import payload_rows
from tracer.handshake.rows import Place
from tracer.handshake.warnings import warning_words, warnings
from tracer.handshake.words import words
from tracer.ipc.event_header import constant, struct
from tracer.ipc.layout import to_dtype
from tracer.ipc.traced import TracedInterface
from tracer.records.drop import Drop
from tracer.records.ends import Endpoint, Listener, Nat, NatEnd
from tracer.records.record import (
    SCHEMA,
    DnsInfo,
    Handshake,
    HttpInfo,
    Negotiated,
    PayloadInfo,
    Segment,
    Signature,
    SynAck,
    Tfo,
    Timing,
    TlsInfo,
)
from tracer.records.refusal import Icmp, Misfits, Reset
from tracer.vocabulary.addresses import ip_text
from tracer.vocabulary.vocabulary import RESET_FROM_WORDS, UNSENT_HOOK, HandshakeResult, Has

# how many records exist at a time: each takes some kilobytes
PART_MAX = 1000
COOKIE_IDS_KEPT = 8192


UNSENT = Place(None, UNSENT_HOOK, ())
_OPTION = ("kind", "cookie_len", "cookie_id", "cookie")  # a record's fields for the option
_NO_OPTION = (None, None, None, None)

_SEGMENT, _MSS, _WSCALE, _SACK, _STAMPS, _TFO, _MPTCP, _MD5, _AO = (
    int(flag)
    for flag in (
        Has.SEGMENT, Has.MSS, Has.WSCALE, Has.SACK, Has.TIMESTAMPS, Has.TFO, Has.MPTCP, Has.MD5, Has.AO,
    )
)  # fmt: skip


@dataclass(slots=True)
class Composer:
    """Makes records. The owner keeps `offset_ns` (CLOCK_REALTIME - CLOCK_MONOTONIC) and `interfaces` up to date."""

    columns_tell_all: ClassVar[bool] = True  # records are made of a batch and this object's state only

    interfaces: Mapping[int, TracedInterface]
    show_cookies: bool = False
    offset_ns: int = 0
    hook: str | None = None  # replaces the interface's own, in a replay
    cgroups: Mapping[int, str | None] = field(default_factory=dict)  # names by number, which the owner keeps up to date
    # by the numbers in columns; the owner adds to them
    drops: Sequence[Drop | None] = (None,)
    reset_reasons: Sequence[str | None] = (None,)
    listeners: Sequence[Listener | None] = (None,)
    changes: Sequence[tuple[str, ...] | None] = (None,)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    _cookie_ids: dict[bytes, str] = field(default_factory=dict)

    def cookie_id(self, cookie: bytes) -> str:
        """8 hex digits under a key of this run: equal for equal cookies, and nothing leads back to a cookie."""
        known = self._cookie_ids.get(cookie)
        if known is None:
            if len(self._cookie_ids) >= COOKIE_IDS_KEPT:
                self._cookie_ids.clear()
            known = hashlib.blake2b(cookie, digest_size=4, key=self._key).hexdigest()
            self._cookie_ids[cookie] = known
        return known

    def covered(self, cookie: bytes) -> bytes:
        """What a capture has in a cookie's place: as long, equal for equal cookies; begins with its `cookie_id`."""
        begin = bytes.fromhex(self.cookie_id(cookie))[: len(cookie)]
        return begin + hashlib.blake2b(cookie, digest_size=len(cookie), key=self._key).digest()[len(begin) :]

    def compose(self, batch: Batch) -> Iterator[Handshake]:
        """One record a handshake, in the batch's order; only some of them exist at a time."""
        return chain.from_iterable(
            self._part(batch.rows(start, start + PART_MAX)) for start in range(0, len(batch), PART_MAX)
        )

    def _part(self, batch: Batch) -> Iterator[Handshake]:
        """Convert whole columns to Python lists, which makes records cheap."""
        events = batch.events
        family = events["family"]
        syn_rows, synack_rows = template_keys(events["syn"], family), template_keys(events["synack"], family)
        syn_templates, synack_templates = (
            [_template(row, Segment) for row in syn_rows],
            [_template(row, SynAck) for row in synack_rows],
        )
        clients, servers = byte_rows(events["client"]), byte_rows(events["server"])
        client_ports, server_ports = events["client_port"].tolist(), events["server_port"].tolist()
        interfaces = events["ifindex"].tolist()
        names = {index: self.interface(index) for index in set(interfaces)}
        client_processes, server_processes = processes(batch, self.cgroups)
        return map(
            _record,
            self.times(events),
            events["id"].tolist(),
            [names[index] for index in interfaces],
            _vlans(events),
            words(batch, "vantage"),
            community_ids(events["client"], events["server"], events["client_port"], events["server_port"]),
            map(Endpoint, map(ip_text, clients), client_ports, client_processes),
            map(Endpoint, map(ip_text, servers), server_ports, server_processes),
            self._timings(batch),
            _segments(events["syn"], syn_templates),
            _synacks(events["synack"], synack_templates, batch.verdicts.acked_payload_len.tolist()),
            map(
                _negotiated,
                syn_templates,
                synack_templates,
                asked_no_more(events, batch.verdicts.answered_syn).tolist(),
            ),
            self._tfos(batch, syn_templates, synack_templates),
            _payload_infos(batch),
            map(_p0f, syn_rows),
            map(warning_words, self.warnings(events)),
            nats(batch),
            map(self.changes.__getitem__, batch.causes.changed.tolist()),
        )

    def interface(self, index: int) -> Place:
        """What is said of an interface."""
        if not index:
            return UNSENT
        interface = self.interfaces.get(index)
        if interface is None:
            return Place(f"if{index}", self.hook or "unknown", ())
        return Place(interface.name, self.hook or interface.hook, interface.through, interface.mtu)

    def warnings(self, events: Events) -> list[int]:
        """A mask of what stands in `warnings`."""
        found: list[int] = warnings(events, lambda index: self.interface(index).mtu).tolist()
        return found

    def times(self, events: Events) -> list[str]:
        """`ts` of each record."""
        stamps = (events["syn_ns"].astype(np.int64) + self.offset_ns).astype("datetime64[ns]")
        texts: list[str] = np.datetime_as_string(stamps, timezone="UTC").tolist()
        return texts

    def _timings(self, batch: Batch) -> Iterator[Timing]:
        """Columns have counts and durations under the record's names; this makes the others."""
        events, durations = batch.events, batch.durations
        made: dict[str, Iterable[Any]] = {
            "result": words(batch, "handshake.result"),
            "settled_by": words(batch, "handshake.settled_by"),
            "icmp": _icmps(events),
            "after": words(batch, "handshake.after"),
            "answered_syn": [number or None for number in batch.verdicts.answered_syn.tolist()],
            "answered_ecn": words(batch, "handshake.answered_ecn"),
            "reset": self.resets(batch),
            "drop": [self.drops[number] for number in batch.causes.drop.tolist()],
            "listener": [self.listeners[number] for number in batch.causes.listener.tolist()],
            "misfits": _misfits(events),
            "resumed": words(batch, "handshake.resumed"),
            **{name: words(batch, f"handshake.{name}") for name in ("cause", "cause_confidence", "cause_at")},
            "request_acked": [_FLAGS[number] for number in request_acked(events).tolist()],
        }
        for name in Timing.__struct_fields__:
            if name not in made:
                made[name] = nullable(getattr(durations, name)) if hasattr(durations, name) else events[name].tolist()
        return map(Timing, *(made[name] for name in Timing.__struct_fields__))

    def resets(self, batch: Batch) -> list[Reset | None]:
        """`handshake.reset` of each record."""
        events = batch.events
        found: list[Reset | None] = [None] * len(events)
        rows = np.flatnonzero(events["reset_from"])
        for row, after_us, from_, ttl, reason in zip(
            rows.tolist(), nullable(batch.durations.reset_after_us[rows]), events["reset_from"][rows].tolist(),
            events["reset_ttl"][rows].tolist(), batch.causes.reset_reason[rows].tolist(), strict=True,
        ):  # fmt: skip
            found[row] = Reset(
                RESET_FROM_WORDS[from_] or "", after_us, ttl, signature.hops(ttl), self.reset_reasons[reason]
            )
        return found

    def _tfos(self, batch: Batch, syn_templates: list[_Template], synack_templates: list[_Template]) -> Iterator[Tfo]:
        sent_kinds, returned_kinds = ([one.tfo_kind for one in found] for found in (syn_templates, synack_templates))
        answer = first_answers(batch.events)
        for row in answer.others.tolist():
            returned_kinds[row] = int(answer.tfo_kind[row]) if answer.has[row] & _TFO else None
        sent = [*map(self._option, sent_kinds, cookie_rows(batch.events["syn"]))]
        returned = [*map(self._option, returned_kinds, first_cookie_rows(batch.events))]
        made: dict[str, Iterable[Any]] = {
            **{name: [one[at] for one in sent] for at, name in enumerate(_OPTION)},
            **{f"synack_{name}": [one[at] for one in returned] for at, name in enumerate(_OPTION)},
            "rtt_saved_us": nullable(batch.durations.rtt_saved_us),
            "delay_us": nullable(batch.durations.delay_us),
        }
        return map(
            Tfo, *(made[name] if name in made else words(batch, f"tfo.{name}") for name in Tfo.__struct_fields__)
        )

    def _option(self, kind: int | None, cookie: bytes) -> tuple[int | None, int | None, str | None, str | None]:
        if kind is None:
            return _NO_OPTION
        if not cookie:
            return kind, 0, None, None
        return kind, len(cookie), self.cookie_id(cookie), cookie.hex() if self.show_cookies else None


def _record(
    ts: str, id_: int, place: Place, vlan: tuple[int, ...], vantage: str, community_id: str,
    client: Endpoint, server: Endpoint, timing: Timing, syn: Segment, synack: SynAck | None,
    negotiated: Negotiated | None, tfo: Tfo, payload: _Payload, p0f: Signature, warned: tuple[str, ...],
    nat: Nat | None, changed: tuple[str, ...] | None,
) -> Handshake:  # fmt: skip
    info, tls, http, dns = payload
    return Handshake(
        SCHEMA, ts, f"{id_:016x}", place.interface, place.hook, vlan, vantage, community_id, client, server, timing,
        syn, synack, negotiated, tfo, info, tls, http, dns, p0f, place.through, warned, nat, changed,
    )  # fmt: skip


# --- segments ---

# These differ from handshake to handshake. Of the others that do, p0f asks only whether they are 0, which is all that a
# template knows of them; where a record has one, the whole number belongs to the key.
_NUMBERS = ("seq", "payload_len", "ts_val", "ts_ecr")
_TOLD_FROM_0 = (*_NUMBERS, *({"ack"} - set(Segment.__struct_fields__)))
# These follow from the option bytes, in which the cookie is masked.
_OF_OPTIONS = ("options", "ts_offset", "tfo_offset", "cookie_len")
_FACTS = to_dtype(struct("segment_facts"))
_COPIED = [name for name in _FACTS.names or () if name not in _TOLD_FROM_0 + _OF_OPTIONS]
# Everything else in a segment, which few hosts vary, as one row of bytes: the key under which the template is cached.
_TEMPLATE_KEY = np.dtype(
    [("options", "u1", (constant("TCP_OPTIONS_MAX"),)), ("family", "u1")]
    + [(name, _FACTS[name]) for name in _COPIED]
    + [(name, "u1") for name in _TOLD_FROM_0]
)


@dataclass(frozen=True, slots=True)
class _Template:
    """A segment's record, which lacks only the numbers."""

    has: int
    is_there: bool
    tfo_kind: int | None
    record: Segment


def template_keys(segment: Events, family: NDArray[np.uint8]) -> list[bytes]:
    """The key of each segment's template, one bytes object a row."""
    rows = np.zeros(len(segment), _TEMPLATE_KEY)
    rows["options"] = masked(segment).view(np.uint8)
    rows["family"] = family
    for name in _COPIED:
        rows[name] = segment[name]
    for name in _TOLD_FROM_0:
        rows[name] = segment[name] != 0
    return byte_rows(rows.view(np.uint8).reshape(len(segment), _TEMPLATE_KEY.itemsize))


@lru_cache(maxsize=2048)
def _template(row: bytes, kind: type[Segment]) -> _Template:
    values = _template_values(row)
    has, ttl = values["has"], values["ttl"]
    layout = signature.option_layout(values["options"])
    fields = {
        "mss": values["mss"] if has & _MSS else None,
        "wscale": values["wscale"] if has & _WSCALE else None,
        "sack_permitted": has & _SACK != 0,
        "ts_val": None,
        "ts_ecr": None,
        "hops": signature.hops(ttl),
        "ecn": segment_ecn(values["tcp_flags"]),
        "mptcp": layout.mptcp,
        "md5": has & _MD5 != 0,
        "ao": has & _AO != 0,
        "options": layout.names,
    }
    # the others stay as the kernel programs send them
    given = fields | {name: values[name] for name in Segment.__struct_fields__ if name not in fields}
    if kind is SynAck:
        given["acked_payload_len"] = 0
    return _Template(has, has & _SEGMENT != 0, values["tfo_kind"] if has & _TFO else None, kind(**given))


def _template_values(row: bytes) -> dict[str, Any]:
    names = _TEMPLATE_KEY.names
    assert names is not None
    values = dict(zip(names, np.frombuffer(row, _TEMPLATE_KEY)[0].tolist(), strict=True))
    values["options"] = bytes(values["options"][: values["options_len"]])
    return values


@lru_cache(maxsize=2048)
def _p0f(row: bytes) -> Signature:
    values = _template_values(row)
    stamped = values["has"] & _STAMPS
    text = signature.p0f(
        signature.option_layout(values["options"]), version=values["family"], ttl=values["ttl"],
        ip_header_extra=values["ip_header_extra"], window=values["window"], quirks=values["quirks"],
        tcp_flags=values["tcp_flags"], seq=values["seq"], ack=values["ack"], payload_len=values["payload_len"],
        tos=values["tos"], ts_val=values["ts_val"] if stamped else None, ts_ecr=values["ts_ecr"] if stamped else None,
    )  # fmt: skip
    return Signature(text)


def _segments(segment: Events, templates: list[_Template]) -> Iterator[Segment]:
    for template, (seq, length, ts_val, ts_ecr) in zip(templates, _numbers(segment), strict=True):
        yield replace(template.record, seq=seq, payload_len=length, ts_val=ts_val, ts_ecr=ts_ecr)


def _synacks(segment: Events, templates: list[_Template], acked: list[int]) -> Iterator[SynAck | None]:
    for template, (seq, length, ts_val, ts_ecr), acked_len in zip(templates, _numbers(segment), acked, strict=True):
        if not template.is_there:
            yield None
            continue
        record = cast(SynAck, template.record)
        yield replace(record, seq=seq, payload_len=length, ts_val=ts_val, ts_ecr=ts_ecr, acked_payload_len=acked_len)


def _numbers(segment: Events) -> Iterator[tuple[int, int, int | None, int | None]]:
    """The numbers that a template lacks."""
    seq, length, ts_val, ts_ecr = (segment[name].tolist() for name in ("seq", "payload_len", "ts_val", "ts_ecr"))
    for row in np.flatnonzero(~has(segment["has"], Has.TIMESTAMPS)).tolist():
        ts_val[row] = ts_ecr[row] = None
    return zip(seq, length, ts_val, ts_ecr, strict=True)


def _negotiated(syn: _Template, synack: _Template, asked_no_more: bool) -> Negotiated | None:
    if not synack.is_there:
        return None
    return _both(syn.has & synack.has, None if asked_no_more else syn.record.ecn, synack.record.ecn)


@lru_cache(maxsize=1024)
def _both(has: int, asked: str | None, granted: str) -> Negotiated:
    ecn = negotiated_ecn(asked, granted) if asked is not None else None
    return Negotiated(has & _WSCALE != 0, has & _SACK != 0, has & _STAMPS != 0, ecn, has & _MPTCP != 0)


# --- the rest ---


def _vlans(events: Events) -> list[tuple[int, ...]]:
    vlans = events["vlan"]
    if not vlans.any():
        return [()] * len(events)
    return [tuple(vid for vid in pair if vid) for pair in vlans.tolist()]


def _icmps(events: Events) -> list[Icmp | None]:
    found: list[Icmp | None] = [None] * len(events)
    for row in np.flatnonzero(events["result"] == HandshakeResult.UNREACHABLE).tolist():
        sender = events["icmp_from"][row].tobytes()
        found[row] = Icmp(
            int(events["icmp_type"][row]), int(events["icmp_code"][row]), ip_text(sender) if any(sender) else None
        )
    return found


_FLAGS = {0: False, 1: True, NOT_KNOWN: None}


def _misfits(events: Events) -> list[Misfits | None]:
    found: list[Misfits | None] = [None] * len(events)
    for row in misfits(events).tolist():
        found[row] = Misfits(*(int(events[name][row]) for name in ("misfit_rsts", "misfit_synacks", "misfit_icmps")))
    return found


def nats(batch: Batch) -> list[Nat | None]:
    """`nat` of each record."""
    twins = batch.causes.twins
    found: list[Nat | None] = [None] * len(twins)
    rows = np.flatnonzero(twins["id"])
    if not len(rows):
        return found
    some = twins[rows]
    clients, servers = (
        map(NatEnd, map(ip_text, byte_rows(some[end])), some[f"{end}_port"].tolist()) for end in ("client", "server")
    )
    for row, client, server, id_ in zip(rows.tolist(), clients, servers, some["id"].tolist(), strict=True):
        found[row] = Nat(client, server, f"{id_:016x}")
    return found


_Payload = tuple[PayloadInfo | None, TlsInfo | None, HttpInfo | None, DnsInfo | None]
_NO_PAYLOAD: _Payload = (None, None, None, None)
_NOT_CAPTURED: _Payload = (PayloadInfo(None, False, None), None, None, None)


def _payload_infos(batch: Batch) -> list[_Payload]:
    return [
        _NO_PAYLOAD if one is None else _NOT_CAPTURED if one is False else _payload_info(one)
        for one in payload_rows(batch)
    ]


def _payload_info(payload: Payload) -> _Payload:
    tls, http, dns = payload.tls, payload.http, payload.dns
    return (
        PayloadInfo(payload.protocol.value, True, payload.truncated),
        TlsInfo(tls.sni, tls.alpn, tls.ech) if tls is not None else None,
        HttpInfo(http.method, http.host) if http is not None else None,
        DnsInfo(dns.name, dns.type) if dns is not None else None,
    )
