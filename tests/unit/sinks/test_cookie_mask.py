"""Captures without cookies: whatever lies around the option, only the cookie and the checksum change."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from tests.support.rows import INTERFACES
from tracer.encode.composer import Composer
from tracer.sinks import cookie_mask
from tracer.sinks.cookie_mask import without_cookies

COOKIE = bytes.fromhex("c0ffee00deadbeef")
FOUR, SIX = IP(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")
Options = Sequence[tuple[Any, Any]]


def wire(**fields: Any) -> Any:
    """An Ethernet header with addresses of its own: scapy would ask the network for them."""
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", **fields)


def syn(options: Options = ((34, COOKIE),), flags: str = "S") -> Any:
    return TCP(sport=40000, dport=443, seq=7, flags=flags, options=[("MSS", 1460), *options])


def rows_of(*frames: bytes, bare: bool = False) -> Any:
    width = max(4, max(map(len, frames)) + 3 & ~3)  # as wide as PacketCache keeps them
    rows = np.zeros(len(frames), [("captured", "<u2"), ("no_link_header", "u1"), ("data", "u1", (width,))])
    for row, frame in zip(rows, frames, strict=True):
        row["captured"], row["no_link_header"] = len(frame), bare
        row["data"][: len(frame)] = np.frombuffer(frame, np.uint8)
    return rows


def covered(*frames: bytes, bare: bool = False, composer: Composer | None = None) -> list[bytes]:
    composer = composer or Composer(INTERFACES)
    rows = rows_of(*frames, bare=bare)
    kept = rows.copy()
    found = without_cookies(rows, composer.covered)
    assert (rows == kept).all()  # the cache's own rows are left alone
    return [row["data"][: row["captured"]].tobytes() for row in found]


def checksum_is_right(frame: bytes, layer: Any = Ether) -> bool:
    packet = layer(frame)
    said = packet[TCP].chksum
    del packet[TCP].chksum
    return bool(layer(bytes(packet))[TCP].chksum == said)


@pytest.mark.parametrize(
    "frame",
    [
        wire() / FOUR / syn(),
        wire() / FOUR / syn(flags="SA"),
        wire() / SIX / syn(),
        wire() / Dot1Q(vlan=10) / FOUR / syn(),
        wire(type=0x88A8) / Dot1Q(vlan=20) / Dot1Q(vlan=10) / SIX / syn(),
        wire() / SIX / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / syn(),
        wire() / FOUR / syn([(254, b"\xf9\x89" + COOKIE)]),
        wire() / FOUR / syn([(253, b"\xf9\x89" + COOKIE), ("NOP", None)]),
        wire() / FOUR / syn([("NOP", None), (34, COOKIE)]),  # at an odd and at an even offset
        wire() / FOUR / syn([("NOP", None), ("NOP", None), (34, COOKIE)]),
        wire() / IP(src="192.0.2.1", dst="192.0.2.2", options=[b"\x01" * 8]) / syn(),
    ],
    ids=["ipv4", "synack", "ipv6", "vlan", "qinq", "extensions", "kind_254", "kind_253", "odd", "even", "ip_options"],
)
def test_only_cookie_and_checksum_change(frame: Any) -> None:
    before = bytes(frame)
    (after,) = covered(before)
    assert COOKIE in before
    assert COOKIE not in after
    assert len(after) == len(before)
    at, check = before.index(COOKIE), bytes(frame).index(bytes(frame[TCP])) + 16
    changed = {place for place, (one, other) in enumerate(zip(before, after, strict=True)) if one != other}
    assert changed <= {*range(at, at + len(COOKIE)), check, check + 1}
    assert checksum_is_right(before)
    assert checksum_is_right(after)


def test_it_begins_with_the_records_cookie_id_and_tells_cookies_apart() -> None:
    composer = Composer(INTERFACES)
    other = COOKIE[::-1]
    frames = [bytes(wire() / FOUR / syn([(34, cookie)])) for cookie in (COOKIE, other, COOKIE)]
    first, second, third = covered(*frames, composer=composer)
    assert first == third
    assert first != second
    at = frames[0].index(COOKIE)
    assert first[at : at + 4].hex() == composer.cookie_id(COOKIE)
    assert covered(frames[0]) != [first]  # each run has a key of its own


@pytest.mark.parametrize(
    ("frame", "at", "known", "other"),
    [
        (wire(type=0x88A8) / Dot1Q(vlan=20) / Dot1Q(vlan=10) / FOUR / syn(), 12, b"\x88\xa8", b"\x91\x00"),
        (wire() / SIX / IPv6ExtHdrDestOpt() / syn(), 20, b"\x3c", b"\x8b"),
        (wire() / SIX / IPv6ExtHdrDestOpt() / syn(), 20, b"\x3c", b"\x8c"),
    ],
    ids=["qinq_old", "hip", "shim6"],
)
def test_what_scapy_does_not_know_is_stepped_over_likewise(frame: Any, at: int, known: bytes, other: bytes) -> None:
    composer, before = Composer(INTERFACES), bytes(frame)
    end = at + len(known)
    assert before[at:end] == known
    (after,) = covered(before[:at] + other + before[end:], composer=composer)
    (likewise,) = covered(before, composer=composer)
    assert COOKIE not in after
    assert after[:at] + known + after[end:] == likewise


def test_without_a_link_header() -> None:
    (after,) = covered(bytes(FOUR / syn()), bare=True)
    assert COOKIE not in after
    assert checksum_is_right(after, IP)


@pytest.mark.parametrize(
    ("outer", "layer"), [(FOUR / ICMP(type=3, code=13), FOUR), (SIX / ICMPv6DestUnreach(code=1), SIX)], ids=["4", "6"]
)
def test_a_quoted_syn(outer: Any, layer: Any) -> None:
    frame = bytes(wire() / outer / Raw(bytes(layer / syn())))
    (after,) = covered(frame)
    assert COOKIE not in after
    parsed = Ether(after)
    said = parsed.payload.payload.cksum if layer is SIX else parsed[ICMP].chksum
    again = Ether(after)
    if layer is SIX:
        again.payload.payload.cksum = None
        assert Ether(bytes(again)).payload.payload.cksum == said
    else:
        again[ICMP].chksum = None
        assert Ether(bytes(again))[ICMP].chksum == said
    cut = frame[: frame.index(COOKIE) + 5]  # a quotation, or a capture, that ends within the cookie
    (after,) = covered(cut)
    assert COOKIE[:5] not in after


def test_a_checksum_that_the_card_fills_in_is_left() -> None:
    frame = bytearray(bytes(wire() / FOUR / syn()))
    at = bytes(frame).index(bytes(Ether(bytes(frame))[TCP]))
    words = struct.unpack(">4H", FOUR.__class__(bytes(FOUR)).build()[12:20])
    total = sum(words) + 6 + len(frame) - at
    partial = (total & 0xFFFF) + (total >> 16)
    struct.pack_into(">H", frame, at + 16, partial)
    (after,) = covered(bytes(frame))
    assert COOKIE not in after
    assert struct.unpack_from(">H", after, at + 16) == (partial,)


def test_what_has_no_cookie_is_as_it_was() -> None:
    frames = [
        bytes(wire() / FOUR / syn([(34, b"")])),  # a request
        bytes(wire() / FOUR / syn([(254, b"\xf9\x89")])),
        bytes(wire() / FOUR / syn([(254, b"\xe2\xd4\xc3\xd9" + COOKIE)])),  # another experiment: SMC
        bytes(wire() / FOUR / syn([("Timestamp", (0x22080000, 0x22080101))])),
        bytes(wire() / FOUR / TCP(flags="A") / Raw(b"\x22\x0a" + COOKIE)),  # as data
        b"",
        b"\x22\x0a" * 90,
    ]
    assert covered(*frames) == frames
    assert len(without_cookies(np.zeros(0, np.uint8), bytes)) == 0


OPTION = st.sampled_from([
    b"\x01", b"\x00", b"\x02\x04\x05\xb4", b"\x03\x03\x07", b"\x04\x02", b"\x08\x0a" + bytes(8), b"\x22\x0a" + COOKIE,
    b"\x22\x0c" + COOKIE + b"\x22\x22", b"\x22\x06" + COOKIE[:4], b"\x22\x02", b"\x22\x01", b"\x22\x28" + COOKIE,
    b"\xfe\x0c\xf9\x89" + COOKIE, b"\xfd\x06\xe2\xd4\xc3\xd9", b"\x22",
])  # fmt: skip


@st.composite
def frames_of_all_kinds(draw: st.DrawFn) -> bytes:
    options = b"".join(draw(st.lists(OPTION, max_size=6)))[:40]
    options += b"\x01" * (-len(options) % 4)
    syn = TCP(sport=1, dport=443, flags="S", dataofs=5 + len(options) // 4) / Raw(options + draw(st.binary(max_size=9)))
    layer = draw(
        st.sampled_from([FOUR, SIX, IP(src="192.0.2.1", dst="192.0.2.2", flags="MF"), SIX / IPv6ExtHdrDestOpt()])
    )
    link = draw(st.sampled_from([wire(), wire() / Dot1Q(vlan=10)]))
    frame = bytes(link / layer / syn)
    end = draw(st.integers(0, len(frame))) if draw(st.integers(0, 3)) == 0 else len(frame)
    return frame[: min(end, 192)]


@given(st.lists(frames_of_all_kinds(), min_size=1, max_size=20))
def test_many_at_a_time_are_covered_as_one_by_one(frames: list[bytes]) -> None:
    composer = Composer(INTERFACES)
    together = covered(*frames, composer=composer)
    with patch.object(cookie_mask, "cover_usual", lambda data, *_: np.zeros(len(data), np.bool_)):
        assert covered(*frames, composer=composer) == together


def test_usual_packets_take_the_short_way() -> None:
    frames = [bytes(wire() / layer / syn([("NOP", None), (34, COOKIE)])) for layer in (FOUR, SIX)]
    with patch.object(cookie_mask, "_cover", side_effect=AssertionError):
        assert all(COOKIE not in frame for frame in covered(*frames))
        assert COOKIE not in covered(bytes(FOUR / syn()), bare=True)[0]


@given(st.binary(max_size=192), st.booleans())
def test_any_bytes(data: bytes, bare: bool) -> None:
    (after,) = covered(data, bare=bare)
    assert len(after) == len(data)


@given(st.binary(max_size=60), st.integers(0, 70), st.booleans())
def test_any_options_behind_a_header(options: bytes, cut: int, six: bool) -> None:
    padded = options[:36] + bytes(-len(options[:36]) % 4)
    tcp = struct.pack(">HHIIBBHHH", 1, 2, 3, 4, (5 + len(padded) // 4) << 4, 2, 5, 6, 7) + padded
    frame = bytes(wire() / ((SIX if six else FOUR) / Raw(tcp)))
    frame = frame[:23] + b"\x06" + frame[24:] if not six else frame[:20] + b"\x06" + frame[21:]
    frame = frame[: len(frame) - cut] if cut < len(frame) else frame
    (after,) = covered(frame)
    assert len(after) == len(frame)
