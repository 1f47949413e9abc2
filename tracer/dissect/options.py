"""The TCP options of a SYN or SYN-ACK: their order and meaning.

The walk follows Linux' tcp_parse_options() and RFC 9293 3.1: EOL ends it, NOP is one byte, a length below 2 or beyond
the end stops it. Numbers are big endian. Secrets (cookies, keys, digests) never become text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

EOL = 0
NOP = 1
MSS = 2
WSCALE = 3
SACK_PERMITTED = 4
SACK = 5
TIMESTAMPS = 8
MD5 = 19
UTO = 28
AO = 29
MPTCP = 30
TFO = 34
ACCECN = (172, 174)
EXPERIMENTS = (253, 254)
TFO_MAGIC = 0xF989  # RFC 7413 4.1.1, an ExID of RFC 6994

# The vocabulary of `syn.options`; any other kind is kind_N.
NAMES = {
    EOL: "eol", NOP: "nop", MSS: "mss", WSCALE: "wscale", SACK_PERMITTED: "sack_permitted",
    TIMESTAMPS: "timestamps", MD5: "md5", UTO: "uto", AO: "ao", MPTCP: "mptcp", TFO: "tfo",
}  # fmt: skip
TFO_EXPERIMENTAL = "tfo_experimental"
_PADDING = (NAMES[NOP], NAMES[EOL])
MALFORMED = "malformed"

# RFC 8684 8.2; 0xf is for private use.
MPTCP_SUBTYPES = (
    "mp_capable", "mp_join", "dss", "add_addr", "remove_addr", "mp_prio", "mp_fail", "mp_fastclose", "mp_tcprst",
)  # fmt: skip


class Option(NamedTuple):
    """The place of one option: `offset` is that of the kind byte, `length` includes kind and length bytes."""

    kind: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class OptionDetail:
    """One option for a detail screen. `length` includes its header, and for EOL the padding after it."""

    kind: int
    name: str
    length: int
    text: str


def walk(options: bytes) -> tuple[list[Option], int]:
    """The options of a header and the offset where the walk ended.

    That offset is len(options) if all went well, that of the padding after EOL, or that of the option that stopped
    the walk. Never raises; one step per option.
    """
    found: list[Option] = []
    offset = 0
    end = len(options)
    while offset < end:
        kind = options[offset]
        if kind <= NOP:
            found.append(Option(kind, offset, 1))
            offset += 1
            if kind == EOL:
                break
            continue
        if offset + 1 >= end:
            break
        length = options[offset + 1]
        if length < 2 or offset + length > end:
            break
        found.append(Option(kind, offset, length))
        offset += length
    return found, offset


def name_of(options: bytes, option: Option) -> str:
    """The name of an option by its kind, whatever its size; kinds 253 and 254 need Fast Open's magic too."""
    name = NAMES.get(option.kind)
    if name is not None:
        return name
    if option.kind in EXPERIMENTS and _exid(options, option) == TFO_MAGIC:
        return TFO_EXPERIMENTAL
    return f"kind_{option.kind}"


@lru_cache(maxsize=65536)
def option_names(options: bytes) -> tuple[str, ...]:
    """The names of these options, in order, without padding."""
    found = (name_of(options, option) for option in walk(options)[0])
    return tuple(name for name in found if name not in _PADDING)


def mptcp(options: bytes) -> str | None:
    """The subtype of the first MPTCP option (RFC 8684 3): "mp_capable", "mp_join", ...; None if there is none."""
    for option in walk(options)[0]:
        if option.kind == MPTCP and option.length >= 3:
            return mptcp_subtype(options[option.offset + 2] >> 4)
    return None


def mptcp_subtype(number: int) -> str:
    """Name of an MPTCP subtype, a number of 4 bits."""
    return MPTCP_SUBTYPES[number] if number < len(MPTCP_SUBTYPES) else f"subtype_{number}"


def describe(options: bytes) -> list[OptionDetail]:
    """Every option with its value as text, never with a cookie, key or digest.

    In the order of names(); if something stops the walk, one more entry named "malformed" says what.
    """
    found, end = walk(options)
    details: list[OptionDetail] = []
    for option in found:
        length = len(options) - option.offset if option.kind == EOL else option.length
        details.append(OptionDetail(option.kind, name_of(options, option), length, _text(options, option)))
    if end < len(options) and not (found and found[-1].kind == EOL):
        rest = len(options) - end
        if rest == 1:
            text = f"kind {options[end]} without a length byte"
        else:
            text = f"kind {options[end]} of length {options[end + 1]}, {rest} bytes are left"
        details.append(OptionDetail(options[end], MALFORMED, rest, text))
    return details


def _exid(options: bytes, option: Option) -> int | None:
    if option.length < 4:
        return None
    return options[option.offset + 2] << 8 | options[option.offset + 3]


def _text(options: bytes, option: Option) -> str:
    kind, length = option.kind, option.length
    value = options[option.offset + 2 : option.offset + length]
    if kind == NOP:
        return "no operation"
    if kind == EOL:
        return _eol_text(options[option.offset + 1 :])
    size = _SIZES.get(kind)
    if size is not None and length != size:
        return f"{NAMES[kind]} of invalid length {length}, not {size}"
    if kind == MSS:
        return f"MSS {value[0] << 8 | value[1]}"
    if kind == WSCALE:
        invalid = ", above 14: invalid, 14 is used" if value[0] > 14 else ""  # RFC 7323 2.3
        return f"window scale {value[0]} (x{1 << min(value[0], 14)}){invalid}"
    if kind == SACK_PERMITTED:
        return "SACK permitted"
    if kind == TIMESTAMPS:
        return f"timestamps val {int.from_bytes(value[:4], 'big')} ecr {int.from_bytes(value[4:], 'big')}"
    if kind == MD5:
        return "MD5 signature"
    if kind == UTO:
        minutes = value[0] & 0x80  # the G bit, RFC 5482 3
        return f"user timeout {(value[0] & 0x7F) << 8 | value[1]} {'minutes' if minutes else 'seconds'}"
    if kind == AO:
        return _ao_text(value)
    if kind == MPTCP:
        return _mptcp_text(value)
    if kind == TFO:
        return _tfo_text("Fast Open", len(value))
    if kind in EXPERIMENTS:
        return _experiment_text(options, option)
    if kind in ACCECN:
        return f"AccECN, order {0 if kind == ACCECN[0] else 1}, {len(value) // 3} counters"  # RFC 9768 3.2.3
    if kind == SACK:
        return f"SACK, {len(value) // 8} blocks: not expected here"
    return f"option {kind}, {_bytes(len(value))}"


_SIZES = {MSS: 4, WSCALE: 3, SACK_PERMITTED: 2, TIMESTAMPS: 10, MD5: 18, UTO: 4}


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


def _eol_text(padding: bytes) -> str:
    if not padding:
        return "end of options"
    odd = ", not all zero" if padding.strip(b"\0") else ""
    return f"end of options, {_bytes(len(padding))} of padding{odd}"


def _ao_text(value: bytes) -> str:
    if len(value) < 2:  # RFC 5925 2.2
        return f"ao of invalid length {len(value) + 2}, below 4"
    return f"TCP-AO key id {value[0]}, next {value[1]}, MAC {_bytes(len(value) - 2)}"


def _tfo_text(what: str, cookie_len: int) -> str:
    if cookie_len == 0:
        return f"{what} cookie request"
    valid = 4 <= cookie_len <= 16 and cookie_len % 2 == 0  # RFC 7413 4.1.1
    return f"{what} cookie, {_bytes(cookie_len)}" + ("" if valid else ": malformed")


def _experiment_text(options: bytes, option: Option) -> str:
    exid = _exid(options, option)
    if exid is None:
        return f"experiment {option.kind} without an identifier"
    if exid == TFO_MAGIC:
        return _tfo_text("experimental Fast Open", option.length - 4)
    return f"experiment 0x{exid:04x}, {_bytes(option.length - 4)}"


def _mptcp_text(value: bytes) -> str:
    if not value:
        return "mptcp of invalid length 2, below 3"
    subtype = mptcp_subtype(value[0] >> 4)
    if subtype == "mp_capable":
        return f"MPTCP mp_capable version {value[0] & 0xF}"
    if subtype == "mp_join" and len(value) >= 2:
        backup = ", backup" if value[0] & 1 else ""
        return f"MPTCP mp_join address id {value[1]}{backup}"
    return f"MPTCP {subtype}, {_bytes(len(value) - 1)}"
