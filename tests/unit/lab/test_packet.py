"""The lab's hand-made segments, judged by scapy and by round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, in4_chksum
from scapy.layers.inet6 import IPv6, in6_chksum

from tracer.lab.packet import (
    TFO_EXPERIMENT_KIND,
    Flag,
    Segment,
    decode,
    encode,
    internet_checksum,
    tfo_cookie,
    tfo_option,
)

ports = st.integers(0, 0xFFFF)
numbers = st.integers(0, 0xFFFFFFFF)
segments = st.builds(
    Segment,
    source_port=ports,
    target_port=ports,
    seq=numbers,
    ack=numbers,
    flags=st.integers(0, 31).map(Flag),
    options=st.integers(0, 10).flatmap(lambda words: st.binary(min_size=words * 4, max_size=words * 4)),
    payload=st.binary(max_size=100),
    window=ports,
)


@given(segments)
def test_decode_undoes_encode(segment: Segment) -> None:
    assert decode(encode(segment, "10.0.0.1", "10.0.0.2")) == segment


@given(segments)
def test_scapy_finds_the_checksum_right(segment: Segment) -> None:
    ipv4 = encode(segment, "10.0.0.1", "10.0.0.2")
    assert in4_chksum(6, IP(src="10.0.0.1", dst="10.0.0.2"), ipv4) == 0
    ipv6 = encode(segment, "fd00::1", "fd00::2")
    assert in6_chksum(6, IPv6(src="fd00::1", dst="fd00::2"), ipv6) == 0
    assert ipv4[:16] + ipv4[18:] == ipv6[:16] + ipv6[18:]


def test_checksum_of_the_example_in_rfc_1071() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


@pytest.mark.parametrize(
    ("cookie", "kind", "wire"),
    [
        (b"", 34, "2202"),
        (b"\x01\x02\x03\x04", 34, "220601020304"),
        (b"", TFO_EXPERIMENT_KIND, "fe04f989"),
        (b"\x01\x02\x03\x04", TFO_EXPERIMENT_KIND, "fe08f98901020304"),
        (b"\x01", 34, "220301"),
    ],
)
def test_option_on_the_wire(cookie: bytes, kind: int, wire: str) -> None:
    assert tfo_option(cookie, kind) == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("options", "cookie"),
    [
        ("", None),
        ("020405b4", None),
        ("020405b42202", b""),
        ("01012206010203040000", b"\x01\x02\x03\x04"),
        ("0022060102030400", None),  # behind the end of the list
        ("0200220601020304", None),  # a length that cannot be
        ("02", None),
    ],
)
def test_cookie_in_options(options: str, cookie: bytes | None) -> None:
    assert tfo_cookie(bytes.fromhex(options)) == cookie


@pytest.mark.parametrize(
    ("flags", "payload", "after"),
    [
        (Flag.ACK, b"", 0xFFFFFFFF),
        (Flag.SYN, b"", 0),
        (Flag.SYN, b"abc", 3),
        (Flag.PSH | Flag.ACK, b"abc", 2),
        (Flag.FIN | Flag.ACK, b"", 0),
        (Flag.SYN | Flag.FIN, b"", 1),
    ],
)
def test_next_seq_wraps(flags: Flag, payload: bytes, after: int) -> None:
    assert Segment(1, 2, 0xFFFFFFFF, 0, flags, payload=payload).next_seq == after


@pytest.mark.parametrize("data", [b"", b"\0" * 19, b"\0" * 12 + b"\x40" + b"\0" * 7, b"\0" * 12 + b"\x60" + b"\0" * 7])
def test_cut_off_segments_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|offset"):
        decode(data)


def test_too_many_options_are_refused() -> None:
    with pytest.raises(ValueError, match="44 bytes"):
        encode(Segment(1, 2, 3, 4, Flag.SYN, options=b"\x01" * 41), "10.0.0.1", "10.0.0.2")
