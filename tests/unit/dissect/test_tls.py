"""TLS ClientHellos: real ones by OpenSSL, hand-made ones with wrong lengths."""

from __future__ import annotations

import ssl
import struct
from functools import lru_cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.dissect.payload import Payload, Protocol, Tls, classify

GREASE = b"\x7a\x7a"


@lru_cache
def openssl_hello(
    name: str | None = "example.org", alpn: tuple[str, ...] = ("h2", "http/1.1"), curve: str | None = None
) -> bytes:
    """The first flight of a client, as OpenSSL writes it; with one curve, or its usual groups."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if curve is not None:
        context.set_ecdh_curve(curve)
    if name is None:
        context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def u16(body: bytes) -> bytes:
    return struct.pack("!H", len(body)) + body


def extension(kind: int, body: bytes) -> bytes:
    return struct.pack("!H", kind) + u16(body)


def server_name(name: bytes) -> bytes:
    return extension(0, u16(b"\0" + u16(name)))


def alpn(*names: bytes) -> bytes:
    return extension(16, u16(b"".join(bytes((len(name),)) + name for name in names)))


def message(extensions: bytes) -> bytes:
    body = b"\x03\x03" + bytes(32) + b"\x20" + bytes(32) + u16(GREASE + b"\x13\x01") + b"\x01\0" + u16(extensions)
    return b"\x01" + len(body).to_bytes(3, "big") + body


def record(fragment: bytes) -> bytes:
    return b"\x16\x03\x01" + u16(fragment)


def hello(*extensions: bytes) -> bytes:
    return record(message(b"".join(extensions)))


def read(data: bytes) -> Tls:
    payload = classify(data, len(data))
    assert payload.protocol is Protocol.TLS
    assert payload.tls is not None
    return payload.tls


@pytest.mark.parametrize("name", [None, "example.org", "a.b.c.example", "x" * 63 + ".example"])
@pytest.mark.parametrize("protocols", [(), ("h2",), ("h2", "http/1.1", "acme-tls/1")])
def test_openssl_hello_is_read_as_it_was_asked_for(name: str | None, protocols: tuple[str, ...]) -> None:
    data = openssl_hello(name, protocols)
    expected = Tls(sni=name, alpn=protocols or None, ech=False)
    assert classify(data, len(data)) == Payload(Protocol.TLS, False, tls=expected)


def test_every_cut_is_truncated_and_shows_only_whole_values() -> None:
    data = openssl_hello()
    names = {}
    for size in range(3, len(data)):
        payload = classify(data[:size], len(data))
        assert payload.protocol is Protocol.TLS
        assert payload.truncated
        assert payload.tls is not None
        assert payload.tls.sni in (None, "example.org")
        assert payload.tls.alpn in (None, ("h2", "http/1.1"))
        names[size] = payload.tls.sni
    # The name appears with its last byte, not before, and stays.
    whole = data.find(b"example.org") + len("example.org")
    assert [size for size in names if names[size]] == list(range(whole, len(data)))


def test_post_quantum_hello_that_does_not_fit_the_syn() -> None:
    key_share = extension(51, bytes(1220))
    first = hello(server_name(b"early.example"), key_share, alpn(b"h2"))
    assert len(first) > 1340
    assert classify(first[:1340], 1340) == Payload(Protocol.TLS, True, tls=Tls("early.example", None, False))
    late = hello(key_share, server_name(b"late.example"))
    assert classify(late[:1250], 1250) == Payload(Protocol.TLS, True, tls=Tls(None, None, False))


@given(st.data())
def test_records_may_split_the_message_anywhere(data: st.DataObject) -> None:
    body = message(extension(0xFE0D, b"x" * 9) + server_name(b"split.example") + alpn(b"h2"))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=30)))
    edges = [0, *cuts, len(body)]
    wire = b"".join(record(body[a:b]) for a, b in pairwise(edges))
    expected = Payload(Protocol.TLS, False, tls=Tls("split.example", ("h2",), True))
    assert classify(wire, len(wire)) == expected
    early_data = wire + b"\x17\x03\x03\x00\x05hello"
    assert classify(early_data, len(early_data)) == expected


def test_a_second_record_that_is_no_handshake_leaves_the_message_cut() -> None:
    body = message(server_name(b"a.example") + extension(51, bytes(100)))
    wire = record(body[:110]) + b"\x17\x03\x03" + u16(body[110:])
    assert classify(wire, len(wire)) == Payload(Protocol.TLS, True, tls=Tls("a.example", None, False))


def test_grease_is_skipped() -> None:
    data = hello(extension(0x7A7A, b""), alpn(GREASE, b"h2"), extension(0xDADA, b"\0"), server_name(b"g.example"))
    assert read(data) == Tls("g.example", ("h2",), False)
    assert read(hello(alpn(GREASE))).alpn is None


def test_encrypted_client_hello_is_told_even_if_cut() -> None:
    data = hello(server_name(b"public.example"), extension(0xFE0D, bytes(200)))
    assert read(data) == Tls("public.example", None, True)
    assert read(data[:-100]) == Tls("public.example", None, True)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a" * 255, "a" * 255),
        (b"a" * 256, "a" * 255 + "…"),
        (b"nul\0.example", "nul\0.example"),
        (b"\x1b[31mred", "\x1b[31mred"),
        (b"\xff\xfe.example", "\\xff\\xfe.example"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),  # a surrogate in UTF-8's clothes
        ("bücher.example".encode(), "bücher.example"),
    ],
)
def test_hostile_names_become_valid_text(raw: bytes, text: str) -> None:
    assert read(hello(server_name(raw))).sni == text
    text.encode()


@pytest.mark.parametrize(
    "lie",
    [
        extension(0, b""),
        extension(0, b"\0\0"),
        extension(0, u16(b"\0\0\0")),  # an empty name
        extension(0, u16(b"\0" + struct.pack("!H", 500) + b"short")),  # name longer than its list
        extension(0, struct.pack("!H", 500) + b"\0" + u16(b"name")),  # list longer than its extension
        extension(0, u16(b"\x01" + u16(b"name"))),  # not a host name
        extension(16, struct.pack("!H", 3) + b"\xffh2"),
        extension(16, u16(b"\0\0\0")),
    ],
)
def test_nested_lengths_that_lie_give_nothing_and_hide_nothing(lie: bytes) -> None:
    assert read(hello(lie)) == Tls(None, None, False)
    assert read(hello(lie, extension(0xFE0D, b""))).ech


def test_what_came_before_a_lying_extension_stays() -> None:
    data = hello(server_name(b"first.example"), struct.pack("!HH", 16, 60000) + b"\0\x03\x02h2")
    assert classify(data, len(data)) == Payload(Protocol.TLS, False, tls=Tls("first.example", None, False))


def test_the_first_of_two_names_counts() -> None:
    assert read(hello(server_name(b"one.example"), server_name(b"two.example"))).sni == "one.example"


def test_extensions_behind_the_end_of_the_message_are_not_read() -> None:
    body = message(server_name(b"in.example"))
    data = record(body + alpn(b"h2"))
    assert read(data) == Tls("in.example", None, False)
    short = record(b"\x01\0\0\x05" + body[4:])
    assert read(short) == Tls(None, None, False)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16",
        b"\x16\x03",
        b"\x16\x02\x01\0\x05\x01",
        b"\x16\x03\x05\0\x05\x01",
        b"\x16\x03\x01\0\0\x01",  # an empty record
        b"\x16\x03\x01\x40\x01\x01",  # above 2^14
        b"\x16\x03\x03\0\x05\x02\0\0\x01\0",  # a ServerHello
        b"\x15\x03\x01\0\x02\x01\0",  # an alert
    ],
)
def test_what_is_no_hello(data: bytes) -> None:
    assert classify(data, len(data)) == Payload(Protocol.OTHER, False)
