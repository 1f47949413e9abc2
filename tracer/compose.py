"""Records of a batch, one object a handshake: made only where somebody reads them one by one (JSON lines, text)."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer import community_id as cid
from tracer import payload as payload_kinds
from tracer import signature
from tracer.decode import Batch
from tracer.drain import Events, SynPayload
from tracer.protocol import TracedInterface
from tracer.records import (
    SCHEMA,
    DnsInfo,
    Endpoint,
    Handshake,
    HttpInfo,
    Icmp,
    Negotiated,
    PayloadInfo,
    Segment,
    Signature,
    SynAck,
    Tfo,
    Timing,
    TlsInfo,
)
from tracer.tfo import cookies
from tracer.vocabulary import Group, HandshakeResult, Has, Outcome, Request, SettleReason, Vantage, word

_IPV4_PREFIX = bytes(10) + b"\xff\xff"

_RESULT = [word(value) for value in HandshakeResult]
_REASON = [word(value).removeprefix("by_") for value in SettleReason]
_REQUEST = [word(value) for value in Request]
_OUTCOME: list[str | None] = [None if value is Outcome.UNKNOWN else word(value) for value in Outcome]
_GROUP = [value.word for value in Group]
_VANTAGE = [word(value) for value in Vantage]

_SEGMENT, _MSS, _WSCALE, _SACK, _STAMPS, _TFO, _MPTCP, _MD5, _AO = (
    int(flag)
    for flag in (
        Has.SEGMENT, Has.MSS, Has.WSCALE, Has.SACK, Has.TIMESTAMPS, Has.TFO, Has.MPTCP, Has.MD5, Has.AO,
    )
)  # fmt: skip

_AE, _CWR, _ECE = 0x100, 0x80, 0x40
_ECN_FLAGS = _AE | _CWR | _ECE
# AccECN: what a SYN-ACK says of the ECN bits that its SYN arrived with (RFC 9768, table 2)
_ACCECN_ANSWERS = frozenset({_CWR, _CWR | _ECE, _AE, _AE | _CWR})
_ECN_ANSWERS = frozenset({_ECE, _AE | _ECE})


def syn_ecn(tcp_flags: int) -> str:
    """What a SYN asks for: none, ecn (RFC 3168) or accecn (RFC 9768)."""
    asked = tcp_flags & _ECN_FLAGS
    if asked == _ECN_FLAGS:
        return "accecn"
    return "ecn" if asked == _CWR | _ECE else "none"


def synack_ecn(tcp_flags: int) -> str:
    """What a SYN-ACK grants, taken alone."""
    granted = tcp_flags & _ECN_FLAGS
    if granted in _ACCECN_ANSWERS:
        return "accecn"
    return "ecn" if granted in _ECN_ANSWERS else "none"


def negotiated_ecn(asked: str, granted: str) -> str:
    """What both ends will use: AccECN only if both speak it, classic ECN if the client offered either."""
    if asked == "none" or granted == "none":
        return "none"
    if granted == "accecn":
        return "accecn" if asked == "accecn" else "none"
    return "ecn"


@lru_cache(maxsize=65536)
def ip_text(address: bytes) -> str:
    """An address of 16 bytes as people write it, IPv4 where it is mapped."""
    if address.startswith(_IPV4_PREFIX):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return str(ipaddress.IPv6Address(address))


@dataclass(slots=True)
class Composer:
    """Makes records. `offset_ns` (CLOCK_REALTIME - CLOCK_MONOTONIC) and `interfaces` are kept current by the owner."""

    interfaces: Mapping[int, TracedInterface]
    show_cookies: bool = False
    offset_ns: int = 0
    hook: str | None = None  # instead of the interface's own: replay
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    _cookie_ids: dict[bytes, str] = field(default_factory=dict)

    def cookie_id(self, cookie: bytes) -> str:
        """8 hex digits under a key of this run: equal cookies look equal, and nothing leads back to them."""
        known = self._cookie_ids.get(cookie)
        if known is None:
            if len(self._cookie_ids) >= 65536:
                self._cookie_ids.clear()
            known = hashlib.blake2b(cookie, digest_size=4, key=self._key).hexdigest()
            self._cookie_ids[cookie] = known
        return known

    def compose(self, batch: Batch) -> Iterator[Handshake]:
        """One record a handshake, in the batch's order."""
        if not len(batch):
            return iter(())
        return map(self._record, *self._columns(batch))

    def _columns(self, batch: Batch) -> list[Sequence[Any]]:
        """The batch as Python lists, a column each: one conversion a column is what makes records cheap."""
        events, verdicts, durations = batch.events, batch.verdicts, batch.durations
        syn_layouts = _layouts(events["syn"])
        payloads = batch.payloads
        ids, times = events["id"].tolist(), events["syn_ns"].tolist()
        found: list[SynPayload | None] = (
            [payloads.get(key) for key in zip(ids, times, strict=True)] if payloads else [None] * len(ids)
        )
        return [
            self._times(events), ids, events["ifindex"].tolist(), events["vlan"].tolist(), batch.vantage.tolist(),
            _rows(events["client"]), _rows(events["server"]),
            events["client_port"].tolist(), events["server_port"].tolist(), events["family"].tolist(),
            self._timings(batch), _numbers(events["syn"]), syn_layouts, _numbers(events["synack"]),
            _layouts(events["synack"]), _cookie_rows(events["syn"]), _cookie_rows(events["synack"]),
            verdicts.request.tolist(), verdicts.outcome.tolist(), verdicts.group.tolist(),
            verdicts.acked_payload_len.tolist(), _nullable(durations.rtt_saved_us), _nullable(durations.delay_us),
            found,
        ]  # fmt: skip

    def _times(self, events: Events) -> list[str]:
        stamps = (events["syn_ns"].astype(np.int64) + self.offset_ns).astype("datetime64[ns]")
        texts: list[str] = np.datetime_as_string(stamps).tolist()
        return [text + "Z" for text in texts]

    def _timings(self, batch: Batch) -> list[Timing]:
        events, durations = batch.events, batch.durations
        return [
            Timing(
                _RESULT[result], _REASON[reason], syns, synacks, late, synack_us, ack_us, rtt_us, response_us,
                Icmp(icmp_type, icmp_code) if result == HandshakeResult.UNREACHABLE else None,
            )
            for result, reason, syns, synacks, late, icmp_type, icmp_code, synack_us, ack_us, rtt_us, response_us
            in zip(
                *(
                    events[name].tolist()
                    for name in ("result", "reason", "syn_count", "synack_count", "late_syns", "icmp_type", "icmp_code")
                ),
                _nullable(durations.synack_delay_us),
                _nullable(durations.ack_delay_us),
                _nullable(durations.rtt_us),
                _nullable(durations.first_response_us),
                strict=True,
            )
        ]  # fmt: skip

    def _record(
        self, ts: str, id_: int, ifindex: int, vlan: list[int], vantage: int, client: bytes, server: bytes,
        client_port: int, server_port: int, family: int, timing: Timing, syn: tuple[int, ...],
        syn_layout: signature.OptionLayout, synack: tuple[int, ...], synack_layout: signature.OptionLayout,
        cookie: bytes, synack_cookie: bytes, request: int, outcome: int, group: int, acked: int,
        saved_us: float | None, delay_us: float | None, payload: SynPayload | None,
    ) -> Handshake:  # fmt: skip
        interface = self.interfaces.get(ifindex)
        answered = synack[_HAS] & _SEGMENT
        info, tls, http, dns = _payload_infos(payload, syn[_PAYLOAD_LEN], server_port)
        return Handshake(
            SCHEMA,
            ts,
            f"{id_:016x}",
            interface.name if interface is not None else f"if{ifindex}",
            self.hook or (interface.hook if interface is not None else "unknown"),
            tuple(vid for vid in vlan if vid),
            _VANTAGE[vantage],
            cid.community_id(client, server, client_port, server_port),
            Endpoint(ip_text(client), client_port),
            Endpoint(ip_text(server), server_port),
            timing,
            Segment(*_segment(syn, syn_layout, syn_ecn(syn[_FLAGS]))),
            SynAck(*(*_segment(synack, synack_layout, synack_ecn(synack[_FLAGS])), acked)) if answered else None,
            _negotiated(syn, synack) if answered else None,
            self._tfo(syn, synack, cookie, synack_cookie, request, outcome, group, saved_us, delay_us),
            info,
            tls,
            http,
            dns,
            Signature(_p0f(syn, syn_layout, family)),
        )

    def _tfo(
        self, syn: tuple[int, ...], synack: tuple[int, ...], cookie: bytes, synack_cookie: bytes, request: int,
        outcome: int, group: int, saved_us: float | None, delay_us: float | None,
    ) -> Tfo:  # fmt: skip
        kind, length, id_, text = self._option(syn, cookie)
        back_kind, back_length, back_id, back_text = self._option(synack, synack_cookie)
        return Tfo(
            _REQUEST[request], _OUTCOME[outcome], None if outcome == Outcome.UNKNOWN else _GROUP[group],
            kind, length, id_, text, back_kind, back_length, back_id, back_text,
            None, None, None, saved_us, delay_us,
        )  # fmt: skip

    def _option(self, segment: tuple[int, ...], cookie: bytes) -> tuple[int | None, int | None, str | None, str | None]:
        if not segment[_HAS] & _TFO:
            return None, None, None, None
        if not cookie:
            return segment[_TFO_KIND], 0, None, None
        return (
            segment[_TFO_KIND], len(cookie), self.cookie_id(cookie), cookie.hex() if self.show_cookies else None,
        )  # fmt: skip


# members of struct segment_facts that records need, and their places in the tuples of _numbers()
_FACTS = (
    "seq", "payload_len", "mss", "wscale", "window", "ts_val", "ts_ecr", "ttl", "has", "tcp_flags", "tfo_kind", "ack",
    "ip_header_extra", "quirks", "tos",
)  # fmt: skip
(
    _SEQ, _PAYLOAD_LEN, _MSS_VALUE, _WSCALE_VALUE, _WINDOW, _TS_VAL, _TS_ECR, _TTL, _HAS, _FLAGS, _TFO_KIND, _ACK,
    _IP_EXTRA, _QUIRKS, _TOS,
) = range(len(_FACTS))  # fmt: skip


def _numbers(segment: Events) -> list[tuple[int, ...]]:
    return list(zip(*(segment[name].tolist() for name in _FACTS), strict=True))


def _rows(array: NDArray[np.uint8]) -> list[bytes]:
    """[n, m] bytes as n bytes objects."""
    width = array.shape[1]
    data = np.ascontiguousarray(array).tobytes()
    return [data[at : at + width] for at in range(0, len(data), width)]


def _nullable(column: NDArray[np.float64]) -> list[float | None]:
    """NaN as None; a tenth of a nanosecond is more than any clock here tells."""
    rounded = np.round(column, 3)
    values: list[float | None] = rounded.tolist()
    missing = np.flatnonzero(np.isnan(column))
    for row in missing.tolist():
        values[row] = None
    return values


def _layouts(segment: Events) -> list[signature.OptionLayout]:
    """Option layouts, with what differs from handshake to handshake (timestamps, cookies) blanked out, so cached."""
    options = segment["options"].copy()
    columns = np.arange(options.shape[1])
    for offset, length in (
        (segment["ts_offset"].astype(np.intp), 8),
        (segment["tfo_offset"].astype(np.intp), segment["cookie_len"].astype(np.intp)[:, None]),
    ):
        distance = columns - offset[:, None]
        options[(distance >= 0) & (distance < length)] = 0
    lengths = segment["options_len"].tolist()
    return [signature.option_layout(row[:length]) for row, length in zip(_rows(options), lengths, strict=True)]


def _cookie_rows(segment: Events) -> list[bytes]:
    lengths = segment["cookie_len"].tolist()
    if not any(lengths):
        return [b""] * len(lengths)
    return [row[:length] for row, length in zip(_rows(cookies(segment)), lengths, strict=True)]


def _segment(numbers: tuple[int, ...], layout: signature.OptionLayout, ecn: str) -> tuple[Any, ...]:
    has = numbers[_HAS]
    stamped = has & _STAMPS
    return (
        numbers[_SEQ],
        numbers[_PAYLOAD_LEN],
        numbers[_MSS_VALUE] if has & _MSS else None,
        numbers[_WSCALE_VALUE] if has & _WSCALE else None,
        numbers[_WINDOW],
        has & _SACK != 0,
        numbers[_TS_VAL] if stamped else None,
        numbers[_TS_ECR] if stamped else None,
        numbers[_TTL],
        signature.hops(numbers[_TTL]),
        ecn,
        layout.mptcp,
        has & _MD5 != 0,
        has & _AO != 0,
        layout.names,
    )


def _negotiated(syn: tuple[int, ...], synack: tuple[int, ...]) -> Negotiated:
    both = syn[_HAS] & synack[_HAS]
    return Negotiated(
        both & _WSCALE != 0,
        both & _SACK != 0,
        both & _STAMPS != 0,
        negotiated_ecn(syn_ecn(syn[_FLAGS]), synack_ecn(synack[_FLAGS])),
        both & _MPTCP != 0,
    )


def _p0f(syn: tuple[int, ...], layout: signature.OptionLayout, family: int) -> str:
    stamped = syn[_HAS] & _STAMPS
    return signature.p0f(
        layout, version=family, ttl=syn[_TTL], ip_header_extra=syn[_IP_EXTRA], window=syn[_WINDOW],
        quirks=syn[_QUIRKS], tcp_flags=syn[_FLAGS], seq=syn[_SEQ], ack=syn[_ACK], payload_len=syn[_PAYLOAD_LEN],
        tos=syn[_TOS], ts_val=syn[_TS_VAL] if stamped else None, ts_ecr=syn[_TS_ECR] if stamped else None,
    )  # fmt: skip


def _payload_infos(
    payload: SynPayload | None, length: int, server_port: int
) -> tuple[PayloadInfo | None, TlsInfo | None, HttpInfo | None, DnsInfo | None]:
    if not length:
        return None, None, None, None
    if payload is None:
        return PayloadInfo(None, False, None), None, None, None
    kind = payload_kinds.classify(payload.data, payload.wire_len, server_port)
    return (
        PayloadInfo(kind.protocol.value, True, kind.truncated),
        TlsInfo(kind.tls.sni, kind.tls.alpn, kind.tls.ech) if kind.tls is not None else None,
        HttpInfo(kind.http.method, kind.http.host) if kind.http is not None else None,
        DnsInfo(kind.dns.name, kind.dns.type) if kind.dns is not None else None,
    )
