"""A recognised message gives the same result as a parse, whatever was seen before."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dissect.test_tls import alpn, extension, hello, openssl_hello, server_name
from tracer.dissect import payload
from tracer.dissect import shapes as payload_shapes
from tracer.dissect.payload import Payload, classify
from tracer.dissect.shapes import Shapes

GREASED = hello(
    extension(0x0A0A, b""), extension(10, bytes(22)), server_name(b"a.example"), extension(51, bytes(60)),
    alpn(b"h2", b"http/1.1"), extension(21, bytes(90)),
)  # fmt: skip
NO_ALPN = hello(extension(51, bytes(40)), server_name(b"b.example"), extension(43, b"\x02\x03\x04"))
WITH_ECH = hello(server_name(b"c.example"), alpn(b"h2"), extension(0xFE0D, bytes(12)))
SEEDS = (openssl_hello(), openssl_hello("b.example.org"), openssl_hello(None, ()), GREASED, NO_ALPN, WITH_ECH)


def walked(data: bytes, wire_len: int, port: int | None = None) -> Payload:
    """As if nothing had been seen before."""
    kept, payload._hellos = payload._hellos, Shapes()
    try:
        return classify(data, wire_len, port)
    finally:
        payload._hellos = kept


@given(st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None)
def test_spoiled_messages_after_one_another(seed: int) -> None:
    rng = random.Random(seed)
    payload._hellos = Shapes()
    for _ in range(60):
        data = bytearray(rng.choice(SEEDS))
        for _ in range(rng.choice((0, 0, 1, 2, 5))):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 16, 22, 0x0A, 0xFE, 0x0D, rng.randrange(256)))
        if rng.random() < 0.3:
            del data[rng.randrange(3, len(data)) :]
        wire_len = len(data) + rng.choice((0, 0, 7))
        assert classify(bytes(data), wire_len) == walked(bytes(data), wire_len)


def of_all(messages: list[bytes], wire_lens: np.ndarray, ports: np.ndarray) -> tuple[np.ndarray, list[Payload]]:
    sizes = np.array([len(one) for one in messages])
    return payload.classify_all(sizes, wire_lens, ports, lambda rows: [messages[row] for row in rows.tolist()])


@given(st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None)
def test_many_at_a_time_say_what_each_says(seed: int) -> None:
    rng = random.Random(seed)
    payload._hellos = Shapes()
    for _ in range(4):
        messages = [bytearray(rng.choice((*SEEDS, b"GET / HTTP/1.1\r\n", b"\x16", b""))) for _ in range(200)]
        for data in messages:
            for _ in range(rng.choice((0, 0, 0, 1, 2)) if data else 0):
                data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 16, 22, 0x0A, 0xFE, 0x0D, rng.randrange(256)))
            if data and rng.random() < 0.05:
                del data[rng.randrange(len(data)) :]
        wire_lens = np.array([max(0, len(data) + rng.choice((0, 0, 0, 7, -3))) for data in messages])
        ports = np.array([rng.choice((53, 443)) for _ in messages])
        places, table = of_all([*map(bytes, messages)], wire_lens, ports)
        for data, wire_len, port, place in zip(messages, wire_lens, ports, places, strict=True):
            assert table[place] == walked(bytes(data), int(wire_len), int(port))


def test_many_at_a_time_have_no_kinds_but_their_own() -> None:
    payload._hellos = Shapes()
    hellos = [openssl_hello(f"{number:03d}.example") for number in range(60)]
    of_all(hellos, np.array([*map(len, hellos)]), np.full(len(hellos), 443))
    for some in ([], hellos[:1], hellos[7:8] * 40, [*hellos[20:50], b"GET / HTTP/1.1\r\n\r\n"]):
        places, table = of_all(some, np.array([*map(len, some)], np.intp), np.full(len(some), 443))
        assert sorted(set(places.tolist())) == [*range(len(table))]
        assert [table[place] for place in places] == [walked(one, len(one), 443) for one in some]


def test_many_at_a_time_are_known_without_a_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    payload._hellos = Shapes()
    first = classify(GREASED, len(GREASED))
    monkeypatch.setattr(payload, "parse_tls", None)
    messages = [GREASED[:11] + bytes([number] * 32) + GREASED[43:] for number in range(payload.ALIKE)]
    sizes = np.array([len(one) for one in messages])
    places, table = of_all(messages, sizes, np.full(len(messages), 443))
    assert [table[place] for place in places] == [first] * len(messages)


@pytest.mark.parametrize("data", [openssl_hello(), GREASED, NO_ALPN])
def test_other_random_bytes_are_known_again(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    payload._hellos = Shapes()
    first = classify(data, len(data))
    walks = []
    original = payload.parse_tls
    monkeypatch.setattr(payload, "parse_tls", lambda seen: (walks.append(seen), original(seen))[1])
    again = data[:11] + bytes(range(100, 132)) + data[43:44] + bytes(range(32)) + data[76:]
    assert classify(again, len(again)) is first
    assert not walks
    assert classify(data[:-1], len(data)) != first, "one byte less is another message"
    assert walks


def test_ech_is_looked_for_in_what_is_known_too() -> None:
    payload._hellos = Shapes()
    plain = hello(server_name(b"c.example"), alpn(b"h2"), extension(0xFE0C, bytes(12)))
    assert classify(plain, len(plain)).tls == payload.Tls("c.example", ("h2",), False)
    assert classify(WITH_ECH, len(WITH_ECH)).tls == payload.Tls("c.example", ("h2",), True)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_shapes, "SIZES_MAX", 4)
    monkeypatch.setattr(payload_shapes, "KNOWN_MAX", 10)
    shapes: Shapes[int] = Shapes()
    for number in range(400):
        data = bytes((number & 0xFF,)) + bytes(20 + number % 7)
        shapes.add(data, [(3, 12)], number)
        assert shapes.find(data[:5] + b"\x01" * 5 + data[10:]) == number
        assert len(shapes._by_size) <= 5
        assert sum(len(one.known) for of_a_size in shapes._by_size.values() for one in of_a_size) <= 11


def test_another_shape_takes_over_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_shapes, "SHAPES_MAX", 1)
    shapes: Shapes[str] = Shapes()
    shapes.add(bytes(30), [(3, 12)], "one")
    for turn in range(payload_shapes.PATIENCE):
        assert shapes.find(b"\x01" * 30) is None
        assert shapes.find(bytes(30)) == "one", turn
        shapes.add(b"\x01" * 30, [(5, 20)], "other")
    assert shapes.find(b"\x01" * 30) == "other"
    assert shapes.find(bytes(30)) is None


def test_messages_filled_up_to_one_length_do_not_push_each_other_out() -> None:
    payload._hellos = Shapes()
    names = [f"{'x' * number}.example" for number in range(1, payload_shapes.SHAPES_MAX + 1)]
    # the key of a group with post-quantum cryptography, which OpenSSL 3.5 offers, leaves nothing to fill up
    hellos = [openssl_hello(name, curve="prime256v1") for name in names]
    assert {len(data) for data in hellos} == {517}
    first = [classify(data, len(data)) for data in hellos]
    for data, found, name in zip(hellos, first, names, strict=True):
        assert found.tls is not None
        assert found.tls.sni == name
        assert payload._hellos.find(data) is found
    # more than are remembered: the newest takes its place after a while, and all are read right
    stranger = openssl_hello("another-name-that-is-longer.example", curve="prime256v1")
    for _ in range(payload_shapes.PATIENCE + 1):
        assert classify(stranger, len(stranger)) == walked(stranger, len(stranger))
    assert payload._hellos.find(stranger) is not None
    assert all(len(shapes) <= payload_shapes.SHAPES_MAX for shapes in payload._hellos._by_size.values())
