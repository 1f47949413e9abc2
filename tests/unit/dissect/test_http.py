"""HTTP requests in a SYN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.dissect.payload import Http, Payload, Protocol, classify


def whole(method: str, host: str | None) -> Payload:
    return Payload(Protocol.HTTP, False, http=Http(method, host))


def cut(method: str, host: str | None) -> Payload:
    return Payload(Protocol.HTTP, True, http=Http(method, host))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", whole("GET", "example.org")),
        (b"GET / HTTP/1.0\r\n\r\n", whole("GET", None)),
        (b"HEAD /a HTTP/1.1\r\nAccept: */*\r\nhOsT:\texample.org:8080 \r\n\r\n", whole("HEAD", "example.org:8080")),
        (b"GET / HTTP/1.1\nHost: bare.example\n\n", whole("GET", "bare.example")),
        (b"PURGE /x HTTP/1.1\r\nHost: cache\r\n\r\n", whole("PURGE", "cache")),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", whole("CONNECT", "a.example:443")),
        (b"GET / HTTP/1.1\r\nX-Host: no\r\nHost: one\r\nHost: two\r\n\r\n", whole("GET", "one")),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", whole("GET", None)),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\nHost: in-the-body\r\n", whole("GET", None)),
        (b"GET / HTTP/1.1\r\nHost: \x1b[2J\0\xff\r\n\r\n", whole("GET", "\x1b[2J\0\\xff")),
        (b"GET / HTTP/1.1\r\nHost: " + b"h" * 256 + b"\r\n\r\n", whole("GET", "h" * 255 + "…")),
        (b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 3\r\n\r\nabc", whole("POST", "p")),
        (b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 4\r\n\r\nabc", cut("POST", "p")),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc", cut("POST", None)),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\na\n\nb", whole("POST", None)),
        (b"POST / HTTP/1.1\nContent-Length: 5\n\na\n\r\nb", whole("POST", None)),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\nabc", whole("POST", None)),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", whole("POST", None)),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", cut("POST", None)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", whole("PRI", None)),
        (b"PRI * HTTP/2.0\r\n\r\nSM", cut("PRI", None)),
        (b"PRI * HTTP/2", cut("PRI", None)),
        (b"GET ", cut("GET", None)),
        (b"GET /" + b"a" * 8000, cut("GET", None)),
        (b"GET / HTTP/1.1\r\nHost: not-whole.exam", cut("GET", None)),
        (b"GET / HTTP/1.1\r\nHost: whole.example\r", cut("GET", None)),
        (b"GET / HTTP/1.1\r\nHost: whole.example\r\n", cut("GET", "whole.example")),
    ],
)
def test_request(data: bytes, expected: Payload) -> None:
    assert classify(data, len(data)) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"GET",
        b"GET key\r\n",  # Redis, memcached
        b"GET /\r\n",  # HTTP/0.9
        b" / HTTP/1.1\r\n\r\n",
        b"GET HTTP/1.1\r\n\r\n",
        b"\x00\x01 / HTTP/1.1\r\n\r\n",
        b"M" * 33 + b" / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"OPTIONS rtsp://a/b RTSP/1.0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\n" * 100,
    ],
)
def test_what_is_no_request(data: bytes) -> None:
    assert classify(data, len(data)) == Payload(Protocol.OTHER, False)


def test_every_cut_of_a_request_is_truncated() -> None:
    data = b"POST /form HTTP/1.1\r\nHost: example.org\r\nContent-Length: 5\r\n\r\nhello"
    for size in range(len(b"POST "), len(data)):
        payload = classify(data[:size], len(data))
        assert payload.protocol is Protocol.HTTP
        assert payload.truncated
        assert payload.http is not None
        assert payload.http.host in (None, "example.org")
    assert classify(data, len(data)) == whole("POST", "example.org")


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_fields_and_any_host_are_survived(fields: bytes, host: bytes) -> None:
    data = b"GET / HTTP/1.1\r\n" + fields + b"\r\nHost: " + host + b"\r\n\r\n"
    payload = classify(data, len(data))
    assert payload.protocol is Protocol.HTTP
    assert payload.http is not None
    if payload.http.host is not None:
        assert len(payload.http.host.encode()) <= 4 * 255 + 3
