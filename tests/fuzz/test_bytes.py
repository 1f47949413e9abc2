"""Untrusted bytes, filters and messages: any input gives a value or a sentence."""

from __future__ import annotations

import random
import socket
import string
from functools import lru_cache

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.spoil import SEEDS_MAX, fuzzed, spoiled
from tests.support.rows import new_store, parts_of, random_batch, records_of
from tracer.dissect import options, signature
from tracer.dissect.payload import Payload, Protocol, classify
from tracer.errors import TfotraceError
from tracer.filters.fields import FIELDS
from tracer.filters.filter import ALIASES, Filter, parse
from tracer.filters.grammar import FilterError
from tracer.ipc.messages import (
    Channel,
    CookieQuestion,
    Counters,
    Ended,
    FlowQuestion,
    FrameInterface,
    Frames,
    Host,
    HostQuestion,
    Notice,
    Stop,
)
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows
from tracer.vocabulary.printable import printable

HTTP = b"POST /a HTTP/1.1\r\nHost: example.org:80\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc"
DNS = bytes.fromhex("001d123401000001000000000000076578616d706c65036f72670000010001")
HELLO = bytes.fromhex(
    "16030100540100005003030000000000000000000000000000000000000000000000000000000000000000"
    "0000021301010000250000001000"
    "0e00000b6578616d706c652e6f7267001000050003026832fe0d000400000000"
)
TWO_RECORDS = HELLO[:3] + b"\0\x20" + HELLO[5:37] + HELLO[:3] + b"\0\x34" + HELLO[37:]
PAYLOADS = (HTTP, HTTP[:30], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\n", DNS, HELLO, TWO_RECORDS)
OPTIONS = tuple(
    map(
        bytes.fromhex,
        ("020405b40402080a00000001000000020103030722020000", "fe0af989010203040506070802040001", "1e0c0081" + "00" * 8,
         "1d10000000000000000000000000000001010100", "13120000000000000000000000000000000000", "0100ff"),
    )
)  # fmt: skip
FLOW = FlowQuestion(bytes(16), bytes(16), 4000, 443)
MESSAGES = tuple(
    map(
        msgspec.msgpack.encode,
        (Stop(), HostQuestion(1, [CookieQuestion(bytes(16), bytes(16), bytes(8), b"", True, 1, 443)],
                                  [FLOW], [FLOW]), Frames(1, 2, [FrameInterface(3, 4, True)], 5),
         Counters({"opened": 1}, 2), Host({"a": 1}, {"b": "c"}), Notice("kind", "text"), Ended({}, 0, "why", 4)),
    )
)  # fmt: skip


def check_payload(found: Payload) -> None:
    """One protocol, short texts that any terminal and any JSON can show."""
    parts = {Protocol.TLS: found.tls, Protocol.HTTP: found.http, Protocol.DNS: found.dns}
    assert all(part is None for protocol, part in parts.items() if protocol is not found.protocol)
    raw = msgspec.json.encode(found)
    assert len(raw) < 32768
    assert msgspec.json.decode(raw, type=Payload) == found
    for part in filter(None, parts.values()):
        for value in msgspec.structs.astuple(part):
            for text in value if isinstance(value, tuple) else (value,):
                assert printable(str(text)).isprintable()


@given(st.integers(0, SEEDS_MAX), st.sampled_from([None, 53, 443]), st.integers(-3, 200))
@fuzzed(4)
def test_payloads(number: int, port: int | None, more: int) -> None:
    data = spoiled(PAYLOADS, number)
    check_payload(classify(data, len(data) + more, port))
    check_payload(classify(data * (8960 // (len(data) + 1)), 9000, port))


@given(st.integers(0, SEEDS_MAX))
@fuzzed(4)
def test_options(number: int) -> None:
    data = spoiled(OPTIONS, number)[:40]
    pick = random.Random(number)
    found, end = options.walk(data)
    assert sum(one.length for one in found) <= end <= len(data)
    for detail in options.describe(data):
        assert detail.text.isprintable()
    layout = signature.option_layout(data)
    assert len(layout.names) == len(found)
    text = signature.p0f(
        layout, version=pick.choice((4, 6)), ttl=pick.randrange(256), ip_header_extra=pick.randrange(256),
        window=pick.randrange(65536), quirks=pick.randrange(256), tcp_flags=pick.randrange(4096), seq=pick.randrange(3),
        ack=pick.randrange(3), payload_len=pick.randrange(3), tos=pick.randrange(256),
        ts_val=pick.choice((None, 0, 7)), ts_ecr=pick.choice((None, 0, 7)), peer_mss=pick.choice((None, 0, 1460)),
    )  # fmt: skip
    assert text.isprintable()
    assert text.count(":") == 7


@given(st.integers(0, SEEDS_MAX), st.booleans())
@fuzzed()
def test_messages(number: int, from_user: bool) -> None:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, theirs:
        theirs.send(spoiled(MESSAGES, number))
        theirs.shutdown(socket.SHUT_WR)
        channel = Channel(mine)
        try:
            (channel.from_user if from_user else channel.from_root)()
        except TfotraceError as error:
            assert str(error).endswith("does not understand")  # noqa: PT017 - mostly there is none


# --- filters ---

_WORDS = (
    *FIELDS, *ALIASES, "==", "=", "!=", "<", "<=", ">", ">=", "~", "!~", "=~", "in", "(", ")", ",", "and", "or", "not",
    "!", "&&", "||", "null", "true", "no", "50ms", "0.5s", "3us", "1e9", "0x1F", "-1", "+.5", "443", "10.0.0.0/8",
    "::1", "0x" + "f" * 300,
    "fe80::/10", "1.2.3.4", "::ffff:1.2.3.4/120", "established", "data_not_acked", "'a b'", '"\\""', '"', "'", "\\",
    "[", "*", "^$", ".", "é", "中", "\u202e", "\ud800", "\0", "\n", "٣", "9" * 400, "x" * 300,
)  # fmt: skip


@lru_cache(maxsize=1)
def rows() -> tuple[StoreRows, list[Handshake]]:
    """Odd handshakes, as rows and as records."""
    store = new_store()
    store.write(random_batch(7, 40))
    found = store.snapshot().rows
    assert isinstance(found, StoreRows)
    return found, records_of(found)


def understood(text: str) -> Filter | FilterError:
    """A filter, or what is wrong with it."""
    try:
        return parse(text)
    except FilterError as error:
        return error


@pytest.mark.parametrize(
    "text",
    [
        "port == 0x" + "f" * 300,
        "rtt > " + "9" * 400 + "ms",
        "(" * 400 + "x" + ")" * 400,
        "not " * 240 + "x",
        "!" * 999 + "x",
    ],
)
def test_filters_beyond_measure(text: str) -> None:
    assert isinstance(understood(text), (Filter, FilterError))


@given(st.integers(0, SEEDS_MAX))
@fuzzed(4)
def test_filters(number: int) -> None:
    pick = random.Random(number)
    words = [pick.choice(_WORDS) for _ in range(pick.randint(1, 9))]
    if pick.randrange(3) and len(words) >= 3:  # as filters begin
        words[:2] = pick.choice((*FIELDS, *ALIASES)), pick.choice(_WORDS[len(FIELDS) + len(ALIASES) :][:10])
    text = pick.choice((" ", "", "\t")).join(words)
    if not pick.randrange(4):
        letters = list(text)
        letters[pick.randrange(len(letters))] = pick.choice(string.printable)
        text = "".join(letters)
    found = understood(text)
    if isinstance(found, FilterError):
        assert 0 <= found.at <= len(text)
        assert printable(str(found)).isprintable()
        assert all(line.isprintable() for line in found.shown)
        return
    part_rows, records = rows()
    mask = np.concatenate([found.mask(part) for part in parts_of(part_rows)]).tolist()
    assert mask == [found.matches(record) for record in records], text
