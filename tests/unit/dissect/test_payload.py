"""classify(): no input makes it raise, return broken text or run without bound."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.dissect.payload import Payload, Protocol, classify

HTTP = b"POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\n\r\nabc"
DNS = bytes.fromhex("001d 1234 0100 0001 0000 0000 0000 076578616d706c65036f726700 0001 0001".replace(" ", ""))
TLS = (
    bytes.fromhex("16030100540100005003030000000000000000000000000000000000000000000000000000000000000000")
    + bytes.fromhex("0000021301010000250000001000")
    + bytes.fromhex("0e00000b6578616d706c652e6f7267001000050003026832fe0d000400000000")
)
SEEDS = (HTTP, DNS, TLS)
PAYLOAD_MAX = 8960


def texts(payload: Payload) -> list[str]:
    found: list[str | None] = []
    if payload.tls:
        found += [payload.tls.sni, *(payload.tls.alpn or ())]
    if payload.http:
        found += [payload.http.method, payload.http.host]
    if payload.dns:
        found += [payload.dns.name, payload.dns.type]
    return [text for text in found if text is not None]


def check(payload: Payload) -> None:
    parts = {Protocol.TLS: payload.tls, Protocol.HTTP: payload.http, Protocol.DNS: payload.dns}
    assert all(part is None for protocol, part in parts.items() if protocol is not payload.protocol)
    assert payload.protocol not in (Protocol.TLS, Protocol.HTTP) or parts[payload.protocol] is not None
    assert len(texts(payload)) <= 17
    for text in texts(payload):
        assert len(text.encode()) <= 4 * 255 + 3  # encode() refuses lone surrogates
        assert text


def test_the_seeds_are_what_they_look_like() -> None:
    assert [classify(seed, len(seed)).protocol for seed in SEEDS] == [Protocol.HTTP, Protocol.DNS, Protocol.TLS]
    assert [texts(classify(seed, len(seed))) for seed in SEEDS] == [
        ["POST", "example.org"],
        ["example.org", "A"],
        ["example.org", "h2"],
    ]


@given(st.binary(max_size=600), st.integers(-5, 10000), st.sampled_from([None, 0, 53, 443, 65535]))
def test_any_bytes_are_survived(data: bytes, wire_len: int, port: int | None) -> None:
    check(classify(data, wire_len, port))


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=4)), max_size=6),
    st.integers(0, 300),
    st.sampled_from([None, 53]),
)
def test_spoiled_messages_are_survived(
    seed: bytes, spoils: list[tuple[int, bytes]], size: int, port: int | None
) -> None:
    data = bytearray(seed)
    for place, new in spoils:
        data[place : place + len(new)] = new
    check(classify(bytes(data[:size]), len(data), port))


@given(st.sampled_from(SEEDS), st.integers(0, 200), st.integers(0, 200))
def test_more_bytes_on_the_wire_change_nothing_but_truncated(seed: bytes, size: int, more: int) -> None:
    data = seed[:size]
    cut = classify(data, len(data) + more, 53)
    whole = classify(data, len(data), 53)
    assert (cut.protocol, cut.tls, cut.http, cut.dns) == (whole.protocol, whole.tls, whole.http, whole.dns)
    if cut.protocol is Protocol.OTHER:
        assert (cut.truncated, whole.truncated) == (more > 0, False)
    else:
        assert cut.truncated == whole.truncated == (len(data) < len(seed))


def test_bytes_behind_the_wire_length_are_padding() -> None:
    assert classify(HTTP + b"\0\0\0", len(HTTP)) == classify(HTTP, len(HTTP))
    assert classify(HTTP, 0) == Payload(Protocol.OTHER, False)
    assert classify(HTTP, -1) == Payload(Protocol.OTHER, False)


def test_nothing_captured() -> None:
    assert classify(b"", 0) == Payload(Protocol.OTHER, False)
    assert classify(b"", 517) == Payload(Protocol.OTHER, True)


def lines_run(call: Callable[[], object]) -> int:
    """Python lines that `call` executes: a measure of work that no clock disturbs."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def fill(unit: bytes) -> bytes:
    return (unit * PAYLOAD_MAX)[:PAYLOAD_MAX]


def big_hello(extensions: bytes) -> bytes:
    body = TLS[9:50] + len(extensions).to_bytes(2, "big") + extensions
    fragment = b"\x01" + len(body).to_bytes(3, "big") + body
    return (b"\x16\x03\x01" + len(fragment).to_bytes(2, "big") + fragment)[:PAYLOAD_MAX]


HOSTILE = {
    "records of one byte": b"\x16\x03\x01\0\x01\x01" + fill(b"\x16\x03\x01\0\x01\xff"),
    "empty extensions": big_hello(fill(b"\x7a\x7a\0\0")),
    "names that lie": big_hello(fill(b"\0\0\0\x05\0\x03\x01\0\0")),
    "protocols of one byte": big_hello(b"\0\x10\x22\x02\x22\0" + fill(b"\x01h")[:0x2200]),
    "labels of one byte": b"\xff\xff\0\0\1\0\0\1\0\0\0\0\0\0" + fill(b"\x01a"),
    "line feeds": b"GET / HTTP/1.1\r\n" + fill(b"a\n"),
    "hosts": b"GET / HTTP/1.1\r\n" + fill(b"Host:a\r\n"),
    "spaces": b"GET " + fill(b" "),
    "no line": fill(b"A"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_work_is_bounded(name: str) -> None:
    data = HOSTILE[name]
    assert lines_run(lambda: classify(data, len(data), 53)) < 2000
    check(classify(data, len(data), 53))


def test_the_measure_of_work_counts() -> None:
    assert 10 < lines_run(lambda: classify(TLS, len(TLS))) < 200
