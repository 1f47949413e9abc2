"""What the data of a SYN is: a TLS ClientHello, an HTTP request, a DNS query or something else.

All input is untrusted: none makes classify() raise, follow pointers or take more than a small constant time per byte.
No payload byte leaves this module except the names in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tracer.dissect.dns import Dns, parse_dns
from tracer.dissect.http import Http, parse_http
from tracer.dissect.shapes import Shapes
from tracer.dissect.tls import RECORD_TYPE_HANDSHAKE, Tls, may_have_ech, parse_tls, rows_with_ech, tls_of

__all__ = ["Dns", "Http", "Payload", "Protocol", "Tls", "classify", "classify_all"]

KNOWN = 4096
ALIKE = 16  # messages of one length: with fewer numpy's calls cost more than they save
TOGETHER = 256  # so many fit the processor's cache


class Protocol(Enum):
    """`payload.protocol` of a handshake record."""

    TLS = "tls"
    HTTP = "http"
    DNS = "dns"
    OTHER = "other"


class Payload(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """The kind of a SYN's data.

    `truncated`: we do not have the whole message, because it continues after the SYN or because the capture cut it.
    For `other` only the latter is known. Of tls, http and dns, at most the one that `protocol` names is not None; `dns`
    is None too if the query is cut before the end of its question.
    """

    protocol: Protocol
    truncated: bool
    tls: Tls | None = None
    http: Http | None = None
    dns: Dns | None = None


def classify(data: bytes, wire_len: int, server_port: int | None = None) -> Payload:
    """Say what `data` is, the first bytes of a SYN's payload of `wire_len` bytes.

    `server_port` only lowers the threshold for DNS; the other protocols are recognised on any port. Bytes beyond
    `wire_len` are the link's padding and ignored. Never raises. Equal results are mostly the same object.
    """
    if len(data) > wire_len:
        data = data[: max(wire_len, 0)]
    if data and data[0] == RECORD_TYPE_HANDSHAKE:
        known = _hellos.find(data)
        if known is not None and not may_have_ech(data):
            return known
        hello = parse_tls(data)
        if hello is not None:
            said, jumped = hello
            found = _tls(*said)
            if jumped:
                _hellos.add(data, jumped, found)
            return found
    request = parse_http(data)
    if request is not None:
        return _one(Payload(Protocol.HTTP, request[1], http=request[0]))
    query = parse_dns(data, server_port)
    if query is not None:
        return _one(Payload(Protocol.DNS, query[1], dns=query[0]))
    return _one(Payload(Protocol.OTHER, len(data) < wire_len))


def classify_all(
    sizes: NDArray[np.integer[Any]],
    wire_lens: NDArray[np.integer[Any]],
    server_ports: NDArray[np.integer[Any]],
    read: Callable[[NDArray[np.intp]], list[bytes]],
) -> tuple[NDArray[np.intp], list[Payload]]:
    """classify() of many messages: a list of kinds, and each one's place there. `read` gives some of the messages.

    ClientHellos of one length that say what earlier ones said are recognised many at a time.
    """
    places = np.full(len(sizes), -1, np.intp)
    earlier, order = _hellos.values, np.argsort(sizes, kind="stable")
    for alike in np.split(order, 1 + np.flatnonzero(np.diff(sizes[order]))):
        for at in range(0, len(alike), TOGETHER):
            rows = alike[at : at + TOGETHER]
            if len(rows) >= ALIKE:
                places[rows] = _known(read(rows))
    places[sizes > wire_lens] = -1
    rest, known = np.flatnonzero(places < 0), np.flatnonzero(places >= 0)
    # whoever looks at each kind, as a filter does, must not look at all that were ever seen
    used = np.flatnonzero(np.bincount(places[known], minlength=len(earlier)))
    numbers = np.empty(len(earlier), np.intp)
    numbers[used] = np.arange(len(used))
    places[known] = numbers[places[known]]
    table = [earlier[number] for number in used.tolist()]
    kinds = [*map(classify, read(rest), wire_lens[rest].tolist(), server_ports[rest].tolist())]
    # classify() mostly returns one object for equal payloads
    _, first, which = np.unique(np.fromiter(map(id, kinds), np.uint64), return_index=True, return_inverse=True)
    places[rest] = len(table) + which
    return places, [*table, *(kinds[row] for row in first.tolist())]


def _known(messages: Sequence[bytes]) -> NDArray[np.intp]:
    """Which earlier ClientHello each is like; they have one length."""
    rows = np.frombuffer(b"".join(messages), np.uint8).reshape(len(messages), -1)
    found = _hellos.find_all(rows)
    found[rows_with_ech(rows)] = -1
    return found


# requests repeat: use one object for all equal ones seen lately

_hellos: Shapes[Payload] = Shapes()


@lru_cache(maxsize=KNOWN)
def _tls(sni: bytes | None, alpn: tuple[str, ...] | None, ech: bool, cut: bool) -> Payload:
    return Payload(Protocol.TLS, cut, tls=tls_of(sni, alpn, ech))


@lru_cache(maxsize=KNOWN)
def _one(payload: Payload) -> Payload:
    return payload
