"""The walk over TCP options, their names and their texts; scapy and a transcription of Linux' walk are the judges."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from tests.support.options import names
from tracer.dissect.options import MALFORMED, OptionDetail, describe, mptcp, walk

MSS = b"\x02\x04\x05\xb4"
SACK_PERMITTED = b"\x04\x02"
TIMESTAMPS = b"\x08\x0a" + struct.pack("!II", 1, 0)
WSCALE = b"\x03\x03\x07"
NOP = b"\x01"
COOKIE = b"\xc0\xff\xee\x00\xde\xad\xbe\xef"

U32 = st.integers(0, 2**32 - 1)
# An option in scapy's form, with the expected name and text.
SCAPY_OPTION = st.one_of(
    st.integers(0, 65535).map(lambda mss: (("MSS", mss), "mss", f"MSS {mss}")),
    st.integers(0, 14).map(lambda shift: (("WScale", shift), "wscale", f"window scale {shift} (x{2**shift})")),
    st.just((("SAckOK", b""), "sack_permitted", "SACK permitted")),
    st.just((("NOP", None), "nop", "no operation")),
    st.tuples(U32, U32).map(lambda ts: (("Timestamp", ts), "timestamps", f"timestamps val {ts[0]} ecr {ts[1]}")),
    st.tuples(U32, U32).map(lambda words: (("TFO", words), "tfo", "Fast Open cookie, 8 bytes")),
    st.binary(max_size=6)
    .filter(lambda value: len(value) != 1)
    .map(lambda value: ((69, value), "kind_69", f"option 69, {len(value)} bytes")),
)


def any_option() -> st.SearchStrategy[bytes]:
    """Well-formed options, some kinds more often than others."""
    kinds = st.one_of(st.sampled_from((2, 3, 4, 5, 8, 19, 28, 29, 30, 34, 69, 253, 254)), st.integers(2, 255))
    body = st.one_of(st.binary(max_size=18), st.binary(max_size=10).map(lambda rest: b"\xf9\x89" + rest))
    long = st.builds(lambda kind, value: bytes((kind, 2 + len(value))) + value, kinds, body)
    return st.one_of(st.just(NOP), long)


def header(parts: list[bytes]) -> bytes:
    """As many of the options as 40 bytes hold."""
    options = b""
    for part in parts:
        if len(options) + len(part) <= 40:
            options += part
    return options


HEADERS = st.lists(any_option(), max_size=40).map(header)
SPOILED = st.one_of(st.binary(max_size=40), st.builds(lambda a, b: (a + b)[:40], HEADERS, st.binary(max_size=12)))


def linux_walk(options: bytes) -> list[tuple[int, bytes]]:
    """tcp_parse_options() line by line: kind and value of each option it reaches."""
    seen: list[tuple[int, bytes]] = []
    length = len(options)
    at = 0
    while length > 0:
        opcode = options[at]
        at += 1
        if opcode == 0:
            seen.append((0, b""))
            return seen
        if opcode == 1:
            seen.append((1, b""))
            length -= 1
            continue
        if length < 2:
            return seen
        opsize = options[at]
        at += 1
        if opsize < 2:
            return seen
        if opsize > length:
            return seen
        seen.append((opcode, options[at : at + opsize - 2]))
        at += opsize - 2
        length -= opsize
    return seen


def test_the_order_of_a_linux_client_with_fast_open() -> None:
    eno = b"\x45\x03\x01"
    options = MSS + SACK_PERMITTED + TIMESTAMPS + NOP + WSCALE + b"\x22\x0a" + COOKIE + eno
    assert names(options) == ["mss", "sack_permitted", "timestamps", "nop", "wscale", "tfo", "kind_69"]


def test_every_name() -> None:
    options = b"\x13\x12" + bytes(16) + b"\x1c\x04\0\x05\x1d\x04\x01\x02\x1e\x04\x01\x81\xfe\x04\xf9\x89"
    assert names(options) == ["md5", "uto", "ao", "mptcp", "tfo_experimental"]
    assert names(b"\xfd\x0c\xf9\x89" + COOKIE + b"\0\0") == ["tfo_experimental", "eol"]
    others = b"\xfe\x04\xf9\x88\xfd\x03\xf9\xff\x02\xac\x02\x05\x02"
    assert names(others) == ["kind_254", "kind_253", "kind_255", "kind_172", "kind_5"]


@given(SPOILED)
def test_the_walk_is_that_of_linux(options: bytes) -> None:
    found, end = walk(options)
    assert [(o.kind, options[o.offset + 2 : o.offset + o.length]) for o in found] == linux_walk(options)
    assert end == (found[-1].offset + found[-1].length if found else 0)
    assert len(names(options)) == len(found) <= 40


@given(st.lists(SCAPY_OPTION, max_size=12))
def test_what_scapy_writes_is_read(wanted: list[tuple[tuple[object, object], str, str]]) -> None:
    while len(bytes(TCP(options=[option for option, _, _ in wanted]))) > 60:
        wanted = wanted[:-1]
    written = bytes(TCP(options=[option for option, _, _ in wanted]))[20:]
    details = describe(written)
    assert [(d.name, d.text) for d in details[: len(wanted)]] == [(name, text) for _, name, text in wanted]
    assert [d.name for d in details[len(wanted) :]] in ([], ["eol"])  # padding


def test_forty_nops_are_forty_options() -> None:
    assert names(NOP * 40) == ["nop"] * 40


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"", []),
        (b"\0", ["eol"]),
        (b"\0\x02\x04\x05\xb4", ["eol"]),
        (MSS + b"\x08", ["mss"]),
        (MSS + b"\x08\0" + WSCALE, ["mss"]),
        (MSS + b"\x08\x01" + WSCALE, ["mss"]),
        (MSS + b"\x08\x0a" + bytes(7), ["mss"]),
        (MSS + b"\x08\xff", ["mss"]),
        (b"\x02\x03\x05" + WSCALE, ["mss", "wscale"]),  # of a wrong size, but it lies in the order
    ],
)
def test_where_the_walk_ends(options: bytes, expected: list[str]) -> None:
    assert names(options) == expected


@pytest.mark.parametrize(
    ("option", "subtype"),
    [
        (b"\x1e\x04\x01\x81", "mp_capable"),
        (b"\x1e\x0c\x10" + bytes(9), "mp_join"),
        (b"\x1e\x03\x20", "dss"),
        (b"\x1e\x03\x3f", "add_addr"),
        (b"\x1e\x03\x40", "remove_addr"),
        (b"\x1e\x03\x50", "mp_prio"),
        (b"\x1e\x03\x60", "mp_fail"),
        (b"\x1e\x03\x70", "mp_fastclose"),
        (b"\x1e\x03\x80", "mp_tcprst"),
        (b"\x1e\x03\x90", "subtype_9"),
        (b"\x1e\x03\xf0", "subtype_15"),
        (b"\x1e\x02", None),
        (MSS, None),
        (b"\0\x1e\x04\x01\x81", None),
    ],
)
def test_mptcp_subtype(option: bytes, subtype: str | None) -> None:
    assert mptcp(option) == subtype
    if option[0]:
        assert mptcp(NOP + option + NOP) == subtype


def test_the_first_of_two_mptcp_options_counts() -> None:
    assert mptcp(b"\x1e\x02\x1e\x03\x10\x1e\x03\x00") == "mp_join"


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (MSS, "MSS 1460"),
        (b"\x02\x03\x05", "mss of invalid length 3, not 4"),
        (WSCALE, "window scale 7 (x128)"),
        (b"\x03\x03\0", "window scale 0 (x1)"),
        (b"\x03\x03\xff", "window scale 255 (x16384), above 14: invalid, 14 is used"),
        (SACK_PERMITTED, "SACK permitted"),
        (TIMESTAMPS, "timestamps val 1 ecr 0"),
        (NOP, "no operation"),
        (b"\0", "end of options"),
        (b"\0\0\0", "end of options, 2 bytes of padding"),
        (b"\0\0\x01", "end of options, 2 bytes of padding, not all zero"),
        (b"\x22\x02", "Fast Open cookie request"),
        (b"\x22\x0a" + COOKIE, "Fast Open cookie, 8 bytes"),
        (b"\x22\x06" + COOKIE[:4], "Fast Open cookie, 4 bytes"),
        (b"\x22\x12" + COOKIE * 2, "Fast Open cookie, 16 bytes"),
        (b"\x22\x03" + COOKIE[:1], "Fast Open cookie, 1 byte: malformed"),
        (b"\x22\x07" + COOKIE[:5], "Fast Open cookie, 5 bytes: malformed"),
        (b"\x22\x14" + COOKIE * 2 + b"ab", "Fast Open cookie, 18 bytes: malformed"),
        (b"\xfe\x04\xf9\x89", "experimental Fast Open cookie request"),
        (b"\xfd\x0c\xf9\x89" + COOKIE, "experimental Fast Open cookie, 8 bytes"),
        (b"\xfe\x06\x12\x34ab", "experiment 0x1234, 2 bytes"),
        (b"\xfe\x03\xf9", "experiment 254 without an identifier"),
        (b"\x13\x12" + bytes(16), "MD5 signature"),
        (b"\x1c\x04\x80\x05", "user timeout 5 minutes"),
        (b"\x1c\x04\x01\x00", "user timeout 256 seconds"),
        (b"\x1d\x10\x01\x02" + bytes(12), "TCP-AO key id 1, next 2, MAC 12 bytes"),
        (b"\x1d\x02", "ao of invalid length 2, below 4"),
        (b"\x1e\x04\x01\x81", "MPTCP mp_capable version 1"),
        (b"\x1e\x0c\x11\x03" + bytes(8), "MPTCP mp_join address id 3, backup"),
        (b"\x1e\x0c\x10\x03" + bytes(8), "MPTCP mp_join address id 3"),
        (b"\x1e\x04\x20\x00", "MPTCP dss, 1 byte"),
        (b"\x1e\x02", "mptcp of invalid length 2, below 3"),
        (b"\x05\x0a" + bytes(8), "SACK, 1 blocks: not expected here"),
        (b"\xae\x0b" + bytes(9), "AccECN, order 1, 3 counters"),
        (b"\x45\x03\x01", "option 69, 1 byte"),
    ],
)
def test_text(option: bytes, text: str) -> None:
    (detail,) = describe(option)
    assert detail == OptionDetail(option[0], names(option)[0], len(option), text)


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        (b"\x08", "kind 8 without a length byte"),
        (b"\x08\x01\0", "kind 8 of length 1, 3 bytes are left"),
        (b"\x22\x0a\xc0\xff", "kind 34 of length 10, 4 bytes are left"),
    ],
)
def test_what_stopped_the_walk_is_said(rest: bytes, text: str) -> None:
    assert describe(MSS + rest)[1:] == [OptionDetail(rest[0], MALFORMED, len(rest), text)]


@given(SPOILED)
def test_details_follow_the_names_and_cover_every_byte(options: bytes) -> None:
    details = describe(options)
    listed = names(options)
    assert [detail.name for detail in details if detail.name != MALFORMED] == listed
    assert all(detail.name == MALFORMED for detail in details[len(listed) :])
    assert sum(detail.length for detail in details) == len(options)
    assert all(detail.text.isprintable() and detail.text for detail in details)


@given(st.sampled_from((4, 6, 8, 10, 12, 14, 16)), st.sampled_from((b"", b"\xf9\x89")), st.data())
def test_cookies_never_become_text(length: int, magic: bytes, data: st.DataObject) -> None:
    def with_cookie(cookie: bytes) -> bytes:
        return bytes((254 if magic else 34, 2 + len(magic) + length)) + magic + cookie

    one = data.draw(st.binary(min_size=length, max_size=length))
    other = data.draw(st.binary(min_size=length, max_size=length))
    assert describe(with_cookie(one)) == describe(with_cookie(other))
