"""The columns that a list of handshakes can have, as data: title, width, the text of a record, the sort keys of rows.

Texts are safe for a terminal (vocabulary/printable.py): no control or direction characters. Whoever shows them escapes
markup. `-` means unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.filters.fields import FIELDS, Column, Field, Kind, coded, process_rows
from tracer.filters.shown import SHOWN, process_text
from tracer.handshake.rows import Coded, Rows
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.local_time import clock
from tracer.vocabulary.printable import printable

UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class ListColumn:
    """`width` is in terminal cells; the screen cuts longer texts. `field`: its name in filters, if any."""

    name: str
    title: str
    width: int
    right: bool  # aligned right, as numbers are
    text: Callable[[Handshake], str]
    keys: Callable[[Rows], Column]
    field: str | None
    says: str  # one sentence for help and the chooser


def milliseconds(duration_us: float | None) -> str:
    """A duration in ms with three decimals, or fewer for large ones."""
    if duration_us is None:
        return UNKNOWN
    value = duration_us / 1000
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}" if abs(value) < 10_000 else f"{value:.0f}"


def value_text(value: Any) -> str:
    """Any value of a record as text for people."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(value_text(one) for one in value) if value else UNKNOWN
    return printable(value) if isinstance(value, str) else str(value)


def words(value: str | None) -> str:
    """A word of the vocabulary without its underscores."""
    return UNKNOWN if value is None else in_words(printable(value))


def name_of(record: Handshake) -> str | None:
    """What the SYN's data asks for: SNI, HTTP host or DNS name."""
    if record.tls is not None and record.tls.sni:
        return record.tls.sni
    if record.http is not None and record.http.host:
        return record.http.host
    return record.dns.name if record.dns is not None else None


_TEXTS: dict[Kind, Callable[[Any], str]] = {Kind.DURATION: milliseconds, Kind.WORD: words}
_WIDTHS = {Kind.WORD: 16, Kind.TEXT: 28, Kind.ADDRESS: 21, Kind.LIST: 28}


def _field(name: str, title: str, width: int, field: str, says: str) -> ListColumn:
    found = FIELDS[field]
    text = _TEXTS.get(found.kind, value_text)
    right = found.kind in (Kind.NUMBER, Kind.DURATION)
    return ListColumn(name, title, width, right, lambda record: text(found.of(record)), found.column, field, says)


def _own_column(field: Field) -> ListColumn:
    """The column of a field that has none below, under the field's own name."""
    title = f"{field.name.removesuffix('_us')} ms" if field.kind is Kind.DURATION else field.name
    return _field(field.name, title, max(len(title), _WIDTHS.get(field.kind, 8)), field.name, field.says)


_MAPPED = np.frombuffer(b"\0" * 10 + b"\xff\xff", np.uint8)  # what an IPv4 address begins with
_IPV4_AT = len(_MAPPED)


def _as_bytes(keys: NDArray[np.generic]) -> NDArray[np.generic]:
    """The keys of IPv4 endpoints in the form of others."""
    if keys.dtype.kind == "S":
        return keys
    end = keys.astype(">u8").view(np.uint8).reshape(-1, 8)
    both = np.empty((len(keys), 18), np.uint8)
    both[:, :_IPV4_AT], both[:, _IPV4_AT:] = _MAPPED, end[:, 2:]
    return both.view("S18").reshape(-1)


def _end(end: str, title: str, says: str) -> ListColumn:
    def text(record: Handshake) -> str:
        found = record.client if end == "client" else record.server
        return endpoint_text(found.ip, found.port)

    def keys(rows: Rows) -> Column:
        # address and port in one string of bytes, which sorts as the numbers do; of IPv4 alone in one number
        ports = rows.events[f"{end}_port"].astype(">u2").view(np.uint8).reshape(-1, 2)
        both = np.ascontiguousarray(np.concatenate((rows.events[end], ports), axis=1))
        if (both[:, :_IPV4_AT] == _MAPPED).all():
            return both[:, _IPV4_AT - 2 :].copy().view(">u8").reshape(-1).astype(np.uint64)
        return both.view("S18").reshape(-1)

    return ListColumn(end, title, 21, False, text, keys, f"{end}.ip", says)


def _name_keys(rows: Rows) -> Column:
    sni, host, dns = (FIELDS[field].column(rows) for field in ("tls.sni", "http.host", "dns.name"))
    assert isinstance(sni, Coded)
    assert isinstance(host, Coded)
    assert isinstance(dns, Coded)
    values = [a or b or c for a, b, c in zip(sni.values, host.values, dns.values, strict=True)]
    return Coded(values, sni.codes)


def _shown(name: str, title: str, width: int, shown: str) -> ListColumn:
    """A column of a text that lists alone have."""
    found = SHOWN[shown]
    return ListColumn(name, title, width, False, lambda record: found.of(record) or UNKNOWN, found.column, None,
                      found.says)  # fmt: skip


def _process_of(record: Handshake) -> str:
    process = record.client.process or record.server.process
    return UNKNOWN if process is None else process_text(process)


def _process_keys(rows: Rows) -> Column:
    both = zip(process_rows(rows, "client"), process_rows(rows, "server"), strict=True)
    return coded(None if (one := client or server) is None else process_text(one) for client, server in both)


_ALL = [
    ListColumn(
        "time", "Time", 12, False, lambda record: clock(record.ts),
        lambda rows: rows.events["syn_ns"].astype(np.int64), "ts", "when the first SYN came",
    ),
    _field("interface", "Interface", 10, "interface", "where the first SYN was seen"),
    _field("vantage", "Seen at", 7, "vantage", "whose address is local to the traced namespace"),
    _end("client", "Client", "who sent the SYN"),
    _end("server", "Server", "who was asked"),
    _shown("result", "Result", 26, "result"),
    _shown("cause", "Cause", 41, "cause"),
    _shown("outcome", "Outcome", 43, "outcome"),
    _field("after", "Afterwards", 15, "handshake.after", "how it went on once it was established"),
    _field("request", "TFO asked", 23, "tfo.request", "what the first SYN asked for"),
    _field("group", "TFO", 8, "tfo.group", "what Fast Open did in one word: ok, degraded, failed"),
    _field("handshake_cause", "Why", 24, "handshake.cause", "why the handshake failed or took so long"),
    _field("cause_at", "Where", 9, "handshake.cause_at", "where that cause lies"),
    _field("drop_reason", "Kernel dropped", 20, "handshake.drop.reason", "why this host's kernel dropped a segment"),
    _field("drop_at", "Dropped at", 18, "handshake.drop.at", "the kernel's function that dropped it"),
    _field("rtt", "RTT ms", 6, "handshake.rtt_us", "round trip of the handshake"),
    _field("synack_delay", "SYN-ACK ms", 10, "handshake.synack_delay_us", "answered SYN to SYN-ACK"),
    _field("ack_delay", "ACK ms", 9, "handshake.ack_delay_us", "SYN-ACK to ACK"),
    _field("first_response", "Answer ms", 9, "handshake.first_response_us", "first SYN to the server's first byte"),
    _field("connect", "Connect ms", 10, "handshake.connect_us", "first SYN to the ACK that completed the handshake"),
    _field("first_request", "Request ms", 10, "handshake.first_request_us", "first SYN to the client's first data"),
    _field("saved", "Saved ms", 8, "tfo.rtt_saved_us", "round trip that Fast Open saved"),
    _field("delay", "Delay ms", 9, "tfo.delay_us", "first SYN to the SYN that was answered"),
    _field("syn_count", "SYNs", 4, "handshake.syn_count", "SYNs sent, the first included"),
    _field("payload_len", "Data", 5, "syn.payload_len", "bytes of data in the first SYN"),
    _field("acked", "Acked", 5, "synack.acked_payload_len", "bytes of it that the SYN-ACK acked"),
    _field("mss", "MSS", 5, "syn.mss", "largest segment the client takes, bytes"),
    _field("synack_mss", "S-MSS", 5, "synack.mss", "largest segment the server takes, bytes"),
    _field("wscale", "WS", 3, "syn.wscale", "the client's window scale"),
    _field("window", "Window", 6, "syn.window", "the SYN's window, bytes, unscaled"),
    _field("options", "SYN options", 44, "syn.options", "the SYN's options in their order"),
    _field("synack_options", "SYN-ACK options", 44, "synack.options", "the SYN-ACK's options in their order"),
    _field("ttl", "TTL", 3, "syn.ttl", "the SYN's TTL or hop limit as seen here"),
    _field("hops", "Hops", 4, "syn.hops", "routers the SYN most likely passed"),
    _field("ecn", "ECN", 6, "negotiated.ecn", "ECN that both ends speak"),
    _field("mptcp", "MPTCP", 10, "syn.mptcp", "Multipath TCP asked for"),
    ListColumn(
        "name", "Name", 28, False, lambda record: value_text(name_of(record)), _name_keys, None,
        "SNI, HTTP host or DNS name in the SYN's data",
    ),
    _field("protocol", "Data is", 7, "payload.protocol", "what the SYN's data is"),
    _field("sni", "SNI", 28, "tls.sni", "server name in the ClientHello"),
    _field("alpn", "ALPN", 12, "tls.alpn", "protocols offered in the ClientHello"),
    _field("http_host", "HTTP host", 28, "http.host", "host asked for in the SYN"),
    _field("dns_name", "DNS name", 28, "dns.name", "name asked for in the SYN"),
    _field("cookie_id", "Cookie", 8, "tfo.cookie_id", "stands for the cookie sent; equal ones look equal"),
    _field("synack_cookie_id", "Got", 8, "tfo.synack_cookie_id", "stands for the cookie that came back"),
    _field("vlan", "VLAN", 9, "vlan", "VLAN tags, the outer one first"),
    ListColumn(
        "id", "Id", 16, False, lambda record: record.id, lambda rows: rows.events["id"].astype(np.uint64), "id",
        "the same on every interface and host that sees this handshake",
    ),
    _field("community_id", "Community id", 30, "community_id", "as Zeek and Suricata have it"),
    _field("p0f", "p0f", 40, "signature.p0f", "the SYN's fingerprint"),
    ListColumn(
        "process", "Process", 18, False, _process_of, _process_keys, None,
        "who is behind the local end, where known; the client's where both are",
    ),
    _shown("client.process", "Client is", 20, "client.process"),
    _shown("server.process", "Server is", 20, "server.process"),
]  # fmt: skip


_SHOWN = {one.field for one in _ALL} | {
    f"{end}.{part}" for end in ("client", "server") for part in ("port", "process.name", "process.pid")
}
COLUMNS: dict[str, ListColumn] = {
    column.name: column for column in (*_ALL, *(_own_column(one) for one in FIELDS.values() if one.name not in _SHOWN))
}


_BY_FIELD = {one.field: one for one in COLUMNS.values() if one.name not in ("time", "client", "server")}


def field_column(field: str) -> ListColumn:
    """The column of a field of the record, which shows its value and nothing else."""
    return _BY_FIELD.get(field) or _own_column(FIELDS[field])


def sort_keys(rows: StoreRows, name: str) -> NDArray[np.generic]:
    """The keys by which rows are sorted: numbers (NaN = unknown), or strings of bytes for IPv6 endpoints.

    Texts and lists give their rank among the rows' values, without regard to case. KeyError if there is no such column.
    """
    column = COLUMNS[name]
    pieces = rows.collect(("column", name), column.keys)
    if not pieces:
        return np.zeros(0)
    if not any(isinstance(piece, Coded) for piece, _, _ in pieces):
        found = [piece[begin:end] for piece, begin, end in pieces]
        if any(piece.dtype.kind == "S" for piece in found):
            found = [_as_bytes(piece) for piece in found]
        return np.concatenate(found)
    values: set[Any] = set()
    for piece, _, _ in pieces:
        values.update(piece.values)
    values.discard(None)
    rank: dict[Any, float] = {value: float(at) for at, value in enumerate(sorted(values, key=_order))}
    rank[None] = np.nan
    return np.concatenate(
        [
            np.array([rank[value] for value in piece.values], np.float32)[piece.codes[begin:end]]
            for piece, begin, end in pieces
        ]
    )


def _order(value: Any) -> Any:
    return (value.casefold(), value) if isinstance(value, str) else value
