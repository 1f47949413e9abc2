"""p0f signatures: GOLDEN is what p0f 3.09b printed as raw_sig for these very packets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.options import names
from tracer.dissect.options import mptcp
from tracer.dissect.signature import P0F_QUIRKS, SegmentQuirk, hops, initial_ttl, option_layout, p0f

FIELDS = (
    "version", "ttl", "ip_header_extra", "window", "quirks", "tcp_flags", "seq", "ack", "payload_len", "tos",
    "ts_val", "ts_ecr", "peer_mss",
)  # fmt: skip

# Options in hex, FIELDS, p0f's answer.
# fmt: off
GOLDEN: list[tuple[Any, ...]] = [
    ("020405b40402080a000030390000000001030307", 4, 64, 0, 64240, 3, 0x2, 5, 0, 0, 0, 12345, 0, 0,
     "4:64+0:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0"),
    ("020405b40402080a000030390000000001030307", 4, 57, 0, 29200, 3, 0x2, 5, 0, 0, 0, 12345, 0, 0,
     "4:57+7:0:1460:mss*20,7:mss,sok,ts,nop,ws:df,id+:0"),
    ("020405a00402080a000030390000000001030307", 6, 64, 0, 64800, 8, 0x2, 5, 0, 0, 0, 12345, 0, 0,
     "6:64+0:0:1440:mss*45,7:mss,sok,ts,nop,ws:flow:0"),
    ("020405b40402080a00003039000000002202010303070101", 4, 64, 0, 64240, 3, 0x2, 5, 0, 0, 0, 12345, 0, 0,
     "4:64+0:0:1460:mss*44,7:mss,sok,ts,?34,nop,ws,nop,nop:df,id+:0"),
    ("020405b40402080a00003039000000000103030a220a11223344556677880101",
     4, 60, 0, 65535, 3, 0x2, 5, 0, 517, 0, 12345, 0, 0,
     "4:60+4:0:1460:65535,10:mss,sok,ts,nop,ws,?34,nop,nop:df,id+:+"),
    ("020405b40103030801010402", 4, 128, 0, 8192, 1, 0xc2, 5, 0, 0, 0, None, None, 0,
     "4:128+0:0:1460:8192,8:mss,nop,ws,nop,nop,sok:df,ecn:0"),
    ("020405b4010303060101080a000030390000000004020000", 4, 255, 0, 65535, 1, 0x2, 5, 0, 0, 2, 12345, 0, 0,
     "4:255+0:0:1460:65535,6:mss,nop,ws,nop,nop,ts,sok,eol+1:df,ecn:0"),
    ("020405b40402080a000030390000004d01030307", 4, 64, 0, 28960, 1, 0x12, 5, 6, 0, 0, 12345, 77, 1460,
     "4:64+0:0:1460:mss*20,7:mss,sok,ts,nop,ws:df:0"),
    ("020405b40402080a000000000000000001030307", 4, 64, 0, 28960, 0, 0x12, 5, 6, 0, 0, 0, 0, 1460,
     "4:64+0:0:1460:mss*20,7:mss,sok,ts,nop,ws:id-,ts1-:0"),
    ("020405b40402080a000030390000004d01030307", 4, 64, 0, 28960, 2, 0x2, 0, 0, 0, 0, 12345, 77, 0,
     "4:64+0:0:1460:mss*20,7:mss,sok,ts,nop,ws:seq-,ts2+:0"),
    ("02040218", 4, 33, 0, 5760, 0, 0x12, 5, 0, 0, 0, None, None, 1440,
     "4:33+31:0:536:mtu*10,0:mss:id-,ack-:0"),
    ("02040218", 6, 129, 0, 7140, 0, 0x12, 5, 1, 0, 0, None, None, 1440,
     "6:129+?:0:536:mss*5,0:mss::0"),
    ("", 4, 100, 4, 1024, 6, 0xa, 5, 0, 3, 1, None, None, 0,
     "4:100+28:4:0:1024,0::ecn,0+,pushf+:+"),
    ("020405b40303c800", 4, 20, 0, 3000, 16, 0x2, 5, 0, 0, 0, None, None, 0,
     "4:20+12:0:1460:mtu*2,200:mss,ws,eol+0:id-,uptr+,exws:0"),
    ("020405b400000100", 4, 1, 0, 1500, 16, 0x22, 5, 0, 0, 0, None, None, 0,
     "4:1+31:0:1460:mtu*1,0:mss,eol+3:id-,urgf+,opt+:0"),
    ("020505b401000000", 4, 255, 0, 1500, 0, 0x22, 5, 0, 0, 0, None, None, 0,
     "4:255+0:0:1460:mtu*1,0:mss,nop,eol+2:id-,urgf+,bad:0"),
    ("01" * 40, 6, 200, 0, 1500, 0, 0x102, 5, 0, 0, 0, None, None, 0,
     "6:200+?:0:0:1500,0:nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop,nop:ecn,bad:0"),
    ("020405b4fe04f98945000101", 6, 64, 0, 7300, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "6:64+0:0:1460:mss*5,0:mss,?254,?69:bad:0"),
    ("020405b422ff0101", 6, 219, 0, 7300, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "6:219+?:0:1460:mss*5,0:mss,?34:bad:0"),
    ("02040218", 4, 64, 0, 4284, 0, 0x12, 5, 1, 0, 0, None, None, 1440,
     "4:64+0:0:536:mss*3,0:mss:id-:0"),
    ("020405b405040101", 6, 220, 0, 62640, 8, 0x2, 5, 0, 0, 0, None, None, 0,
     "6:220+35:0:1460:62640,0:mss,sack:flow,bad:0"),
    ("020405780101080a0000303900000000", 4, 64, 0, 13880, 0, 0x2, 5, 0, 0, 0, 12345, 0, 0,
     "4:64+0:0:1400:mss*10,0:mss,nop,nop,ts:id-:0"),
    ("020405780101080a0000000000000000", 4, 64, 0, 13880, 0, 0x2, 5, 0, 0, 0, 0, 0, 0,
     "4:64+0:0:1400:13880,0:mss,nop,nop,ts:id-,ts1-:0"),
    ("02040578", 4, 64, 0, 14480, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "4:64+0:0:1400:mss*10,0:mss:id-:0"),
    ("02040578", 6, 64, 0, 14400, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "6:64+0:0:1400:mss*10,0:mss::0"),
    ("02040578", 4, 64, 0, 14400, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "4:64+0:0:1400:mtu*10,0:mss:id-:0"),
    ("02040578", 6, 64, 0, 14280, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "6:64+0:0:1400:mss*10,0:mss::0"),
    ("0204051401010101", 4, 64, 0, 13480, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "4:64+0:0:1300:mtu*10,0:mss,nop,nop,nop,nop:id-:0"),
    ("0204051401010101", 4, 64, 4, 13520, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "4:64+0:4:1300:mtu*10,0:mss,nop,nop,nop,nop:id-:0"),
    ("02040514", 6, 64, 0, 13600, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "6:64+0:0:1300:mtu*10,0:mss::0"),
    ("0204051401010101", 6, 64, 0, 13600, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "6:64+0:0:1300:mtu*10,0:mss,nop,nop,nop,nop::0"),
    ("02040514", 4, 64, 0, 15000, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "4:64+0:0:1300:mtu*10,0:mss:id-:0"),
    ("0204005a", 4, 64, 0, 900, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "4:64+0:0:90:900,0:mss:id-:0"),
    ("02040064", 4, 64, 0, 900, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "4:64+0:0:100:mss*9,0:mss:id-:0"),
    ("02040218", 4, 64, 0, 1234, 0, 0x12, 5, 1, 0, 0, None, None, 1,
     "4:64+0:0:536:mss*1234,0:mss:id-:0"),
    ("02040218", 4, 64, 0, 40001, 0, 0x12, 5, 1, 0, 0, None, None, 13,
     "4:64+0:0:536:mss*3077,0:mss:id-:0"),
    ("02040218", 4, 64, 0, 40001, 0, 0x12, 5, 1, 0, 0, None, None, 5,
     "4:64+0:0:536:40001,0:mss:id-:0"),
    ("03030700", 4, 64, 0, 0, 0, 0x2, 5, 0, 0, 0, None, None, 0,
     "4:64+0:0:0:0,7:ws,eol+0:id-:0"),
]
# fmt: on

LINUX = bytes.fromhex("020405b40402080a000030390000000001030307")
PLAIN: dict[str, Any] = dict(zip(FIELDS, (4, 64, 0, 64240, 3, 0x02, 5, 0, 0, 0, 12345, 0, 0), strict=True))


def signature(options: bytes = LINUX, **changes: Any) -> str:
    return p0f(option_layout(options), **{**PLAIN, **changes})


def quirks(options: bytes = LINUX, **changes: Any) -> str:
    return signature(options, **changes).split(":")[6]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case[-1])
def test_p0f_says_the_same(case: tuple[Any, ...]) -> None:
    options, *values, expected = case
    fields = dict(zip(FIELDS, values, strict=True))
    assert p0f(option_layout(bytes.fromhex(options)), **fields) == expected


def test_golden_shows_every_quirk() -> None:
    seen = {quirk for case in GOLDEN for quirk in case[-1].split(":")[6].split(",")} - {""}
    assert seen | {"ack+"} == set(P0F_QUIRKS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "df,id+"),
        ({"quirks": 1}, "df"),
        ({"quirks": 2}, ""),
        ({"quirks": 0}, "id-"),
        ({"quirks": 4 | 2}, "0+"),
        ({"quirks": 2, "tos": 1}, "ecn"),
        ({"quirks": 2, "tos": 0xFC}, ""),
        ({"quirks": 2, "tcp_flags": 0x42}, "ecn"),
        ({"quirks": 2, "tcp_flags": 0x102}, "ecn"),
        ({"quirks": 2, "seq": 0}, "seq-"),
        ({"quirks": 2, "ack": 1}, "ack+"),
        ({"quirks": 2, "tcp_flags": 0x12, "ack": 0}, "ack-"),
        ({"quirks": 2, "tcp_flags": 0x12, "ack": 1}, ""),
        ({"quirks": 2 | 16}, "uptr+"),
        ({"quirks": 2 | 16, "tcp_flags": 0x22}, "urgf+"),
        ({"quirks": 2, "tcp_flags": 0x0A}, "pushf+"),
        ({"quirks": 2, "ts_val": 0}, "ts1-"),
        ({"quirks": 2, "ts_ecr": 9}, "ts2+"),
        ({"quirks": 2, "ts_ecr": 9, "tcp_flags": 0x12, "ack": 1}, ""),
        ({"version": 6, "quirks": 8}, "flow"),
        ({"version": 6, "quirks": 1 | 2 | 4}, ""),  # those are IPv4's
    ],
)
def test_quirk(changes: dict[str, Any], expected: str) -> None:
    assert quirks(**changes) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"\0\0\0\0", ""),
        (b"\0\0\0\x01", "opt+"),
        (b"\x03\x03\x0e\0", ""),
        (b"\x03\x03\x0f\0", "exws"),
        (b"\x03\x04\x07\0", "bad"),
        (b"\x08\x0a\0\0", "bad"),
        (b"\x22\x01\0\0", "bad"),
        (b"\x01" * 24, ""),
        (b"\x01" * 28, "bad"),
    ],
)
def test_quirk_of_the_options(options: bytes, expected: str) -> None:
    assert quirks(options, quirks=2, ts_val=None, ts_ecr=None) == expected


def test_timestamps_are_judged_only_where_there_are_some() -> None:
    assert quirks(b"\x02\x04\x05\xb4", quirks=2, ts_val=0, ts_ecr=9) == ""


def test_fast_open_and_payload_show() -> None:
    assert signature(LINUX + b"\x22\x02\x01\x01", payload_len=517) == (
        "4:64+0:0:1460:mss*44,7:mss,sok,ts,nop,ws,?34,nop,nop:df,id+:+"
    )


@pytest.mark.parametrize(
    ("ttl", "initial"), [(0, 64), (1, 64), (64, 64), (65, 128), (128, 128), (129, 255), (255, 255)]
)
def test_initial_ttl(ttl: int, initial: int) -> None:
    assert initial_ttl(ttl) == initial
    assert hops(ttl) == initial - ttl


def test_quirk_bits_are_those_of_the_kernel_side() -> None:
    header = (Path(__file__).parents[3] / "tracer" / "bpf" / "event.h").read_text(encoding="utf-8")
    defined = re.findall(r"^#define QUIRK_(\w+) \(1 << (\d+)\)", header, re.MULTILINE)
    assert {name: 1 << int(bit) for name, bit in defined} == {quirk.name: quirk.value for quirk in SegmentQuirk}


@given(st.binary(max_size=40))
def test_layout_carries_what_the_record_shows(options: bytes) -> None:
    layout = option_layout(options)
    assert list(layout.names) == names(options)
    assert layout.mptcp == mptcp(options)
    assert layout.length == len(options)


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        (b"", True),
        (LINUX, True),
        (b"\0\0\0\0", True),
        (b"\0\x05\x05", True),
        (b"\x08\x01", False),
        (b"\x01\x08", False),
    ],
)
def test_whole(options: bytes, whole: bool) -> None:
    assert option_layout(options).whole is whole


@given(
    options=st.binary(max_size=40),
    version=st.sampled_from((4, 6)),
    ttl=st.integers(0, 255),
    extra=st.integers(0, 255),
    window=st.integers(0, 65535),
    bits=st.integers(0, 255),
    flags=st.integers(0, 0xFFF),
    number=st.sampled_from((0, 1, 0xFFFFFFFF)),
    peer_mss=st.one_of(st.none(), st.integers(0, 65535)),
)
def test_any_segment_has_a_signature_of_eight_fields(
    options: bytes, version: int, ttl: int, extra: int, window: int, bits: int, flags: int, number: int,
    peer_mss: int | None,
) -> None:  # fmt: skip
    text = p0f(
        option_layout(options), version=version, ttl=ttl, ip_header_extra=extra, window=window, quirks=bits,
        tcp_flags=flags, seq=number, ack=number, payload_len=number, tos=bits, ts_val=number, ts_ecr=number,
        peer_mss=peer_mss,
    )  # fmt: skip
    assert re.fullmatch(
        r"[46]:\d+\+(\d+|\?):\d+:\d+:((mss|mtu)\*[1-9]\d*|\d+),\d+:[a-z?0-9,+]*:[a-z0-9,+-]*:[0+]", text
    )
    multiple = re.search(r"(?:mss|mtu)\*(\d+)", text)
    assert multiple is None or window % int(multiple[1]) == 0
