"""The fingerprint of a SYN or SYN-ACK in p0f's format, and an estimate of its hops.

The format is p0f v3's `ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass` (section 5 of its README, and its
raw_sig). OptionLayout has everything that depends only on the layout of the options, which few hosts vary: build it
once by option_layout(mask(...)); the rest is arithmetic and one f-string.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache

from tracer.dissect import options as opt

TTLS = (64, 128, 255)  # TFO.md section 6
P0F_TTLS = (32, 64, 128, 255)
P0F_DISTANCE_MAX = 35
P0F_OPTIONS_MAX = 24
WSCALE_MAX = 14

FLAG_PUSH = 0x08
FLAG_ACK = 0x10
FLAG_URGENT = 0x20
FLAGS_ECN = 0x1C0  # AE (once NS), CWR, ECE
TOS_ECN = 0x03


class SegmentQuirk(IntFlag):
    """`quirks` of struct segment_facts in event.h, bit by bit."""

    DF = 1 << 0
    IP_ID = 1 << 1
    IP_RESERVED = 1 << 2
    FLOW = 1 << 3
    URGENT_PTR = 1 << 4


# p0f's names in its printing order; a quirk is the bit of its place
P0F_QUIRKS = (
    "df", "id+", "id-", "ecn", "0+", "flow", "seq-", "ack+", "ack-", "uptr+", "urgf+", "pushf+",
    "ts1-", "ts2+", "opt+", "exws", "bad",
)  # fmt: skip
(
    _DF, _ID_SET, _ID_ZERO, _ECN, _RESERVED, _FLOW, _SEQ_ZERO, _ACK_SET, _ACK_ZERO, _UPTR_SET, _URG, _PUSH,
    _TS1_ZERO, _TS2_SET, _PADDING_SET, _EXCESSIVE_WSCALE, _BAD,
) = (1 << place for place in range(len(P0F_QUIRKS)))  # fmt: skip

_P0F_NAMES = {opt.NOP: "nop", opt.MSS: "mss", opt.WSCALE: "ws", opt.SACK_PERMITTED: "sok", opt.SACK: "sack",
              opt.TIMESTAMPS: "ts"}  # fmt: skip
_P0F_SIZES = {opt.MSS: 4, opt.WSCALE: 3, opt.SACK_PERMITTED: 2, opt.TIMESTAMPS: 10}

# Plain integers: IntFlag's operators cost 0.3 us each, and this runs for every record.
_SEGMENT_DF = int(SegmentQuirk.DF)
_SEGMENT_IP_ID = int(SegmentQuirk.IP_ID)
_SEGMENT_RESERVED = int(SegmentQuirk.IP_RESERVED)
_SEGMENT_FLOW = int(SegmentQuirk.FLOW)
_SEGMENT_UPTR = int(SegmentQuirk.URGENT_PTR)


@dataclass(frozen=True, slots=True)
class P0fOptions:
    """What p0f reads from the options: `layout` and `quirks` (bits of P0F_QUIRKS) as in its signature, MSS in bytes
    and window scale (0 if absent), and whether it reads timestamps, whose values are not kept here."""

    layout: str
    quirks: int
    mss: int
    wscale: int
    timestamps: bool


@dataclass(frozen=True, slots=True)
class OptionLayout:
    """What depends on the options alone, ignoring timestamp values and cookie.

    `names` and `mptcp` are the record's `options` and `mptcp`; `length` is in bytes, padding included; `whole`: nothing
    stopped the walk. `p0f` is the result of p0f's own walk, which differs from Linux' only for malformed options.
    """

    names: tuple[str, ...]
    mptcp: str | None
    length: int
    whole: bool
    p0f: P0fOptions


@lru_cache(maxsize=1024)
def option_layout(masked: bytes) -> OptionLayout:
    """The layout of option bytes from mask(). Unmasked bytes give the same result but fill the cache."""
    found, end = opt.walk(masked)
    return OptionLayout(
        names=tuple(opt.name_of(masked, option) for option in found),
        mptcp=opt.mptcp(masked),
        length=len(masked),
        whole=end == len(masked) or found[-1:] == [opt.Option(opt.EOL, end - 1, 1)],
        p0f=_p0f_options(masked),
    )


def initial_ttl(ttl: int) -> int:
    """The TTL or hop limit that the packet most likely left with: 64, 128 or 255."""
    for initial in TTLS:
        if ttl <= initial:
            return initial
    return TTLS[-1]


def hops(ttl: int) -> int:
    """How many routers the packet most likely passed."""
    return initial_ttl(ttl) - ttl


def p0f(
    layout: OptionLayout,
    *,
    version: int,
    ttl: int,
    ip_header_extra: int,
    window: int,
    quirks: int,
    tcp_flags: int,
    seq: int,
    ack: int,
    payload_len: int,
    tos: int,
    ts_val: int | None,
    ts_ecr: int | None,
    peer_mss: int | None = None,
) -> str:
    """p0f's raw signature of a SYN or SYN-ACK; all but `version` (4 or 6) are fields of struct segment_facts.

    MSS and window scale come with the layout; `ts_val` and `ts_ecr` are None without timestamps. `peer_mss`: for a
    SYN-ACK the MSS of the SYN, since some servers size their window by it. Differences from p0f 3.09b: `ack+` and
    `opt+` mean what its README says (its code tests one bit of the ack number and misses the last byte of the
    padding), and the MSS 1331 of its own probes is not replaced by `*`.
    """
    options = layout.p0f
    own_time = options.timestamps and bool(ts_val)
    found = options.quirks
    if version == 4:
        if quirks & _SEGMENT_DF:
            found |= _DF | _ID_SET if quirks & _SEGMENT_IP_ID else _DF
        elif not quirks & _SEGMENT_IP_ID:
            found |= _ID_ZERO
        if quirks & _SEGMENT_RESERVED:
            found |= _RESERVED
    elif quirks & _SEGMENT_FLOW:
        found |= _FLOW
    if tos & TOS_ECN or tcp_flags & FLAGS_ECN:
        found |= _ECN
    if seq == 0:
        found |= _SEQ_ZERO
    if tcp_flags & FLAG_ACK:
        if ack == 0:
            found |= _ACK_ZERO
    else:
        if ack:
            found |= _ACK_SET
        if ts_ecr and options.timestamps:
            found |= _TS2_SET
    if tcp_flags & FLAG_URGENT:
        found |= _URG
    elif quirks & _SEGMENT_UPTR:
        found |= _UPTR_SET
    if tcp_flags & FLAG_PUSH:
        found |= _PUSH
    if options.timestamps and ts_val == 0:
        found |= _TS1_ZERO
    header = (20 if version == 4 else 40) + ip_header_extra + 20 + layout.length
    size = _window(window, options.mss, own_time, version, header, peer_mss or 0)
    return (
        f"{version}:{_ttl_text(ttl)}:{ip_header_extra}:{options.mss}:{size},{options.wscale}:{options.layout}:"
        f"{_quirk_text(found)}:{'+' if payload_len else '0'}"
    )


def _p0f_options(options: bytes) -> P0fOptions:
    """p0f's own walk continues where Linux stops: options of a fixed size keep that size whatever their length byte
    says. It still names the option at which it stops, and it stops after P0F_OPTIONS_MAX of them."""
    parts: list[str] = []
    quirks = mss = wscale = 0
    timestamps = False
    offset = 0
    end = len(options)
    while offset < end and len(parts) < P0F_OPTIONS_MAX:
        kind = options[offset]
        if kind == opt.EOL:
            parts.append(f"eol+{end - offset - 1}")
            if any(options[offset + 1 :]):
                quirks |= _PADDING_SET
            offset = end
            break
        parts.append(_P0F_NAMES.get(kind) or f"?{kind}")
        if kind == opt.NOP:
            offset += 1
            continue
        size = _P0F_SIZES.get(kind)
        if size is not None:
            if offset + size > end:
                break
            if options[offset + 1] != size:
                quirks |= _BAD
            if kind == opt.MSS:
                mss = options[offset + 2] << 8 | options[offset + 3]
            elif kind == opt.WSCALE:
                wscale = options[offset + 2]
                if wscale > WSCALE_MAX:
                    quirks |= _EXCESSIVE_WSCALE
            elif kind == opt.TIMESTAMPS:
                timestamps = True
        else:
            shortest, longest = (10, 34) if kind == opt.SACK else (2, 40)
            size = options[offset + 1] if offset + 1 < end else 0
            if not shortest <= size <= longest or offset + size > end:
                break
        offset += size
    if offset < end:
        quirks |= _BAD
    return P0fOptions(",".join(parts), quirks, mss, wscale, timestamps)


@lru_cache(maxsize=1024)
def _quirk_text(quirks: int) -> str:
    return ",".join(name for place, name in enumerate(P0F_QUIRKS) if quirks >> place & 1)


@lru_cache(maxsize=256)
def _ttl_text(ttl: int) -> str:
    """Observed TTL and distance; p0f also knows 32 as an initial TTL and accepts at most 35 hops."""
    distance = next(initial for initial in P0F_TTLS if ttl <= initial) - ttl
    return f"{ttl}+?" if distance > P0F_DISTANCE_MAX else f"{ttl}+{distance}"


@lru_cache(maxsize=4096)
def _window(window: int, mss: int, own_time: bool, version: int, header: int, peer_mss: int) -> str:
    """`mss*N` or `mtu*N` if the window is a multiple of a plausible size, tried in p0f's order."""
    if window == 0 or mss < 100:
        return str(window)
    segments = [mss, mss - 12 if own_time else 0, 1460, 1448]  # 12 bytes: timestamps; 1500 - 40
    if version == 6:
        segments += [1440, 1428]  # 1500 - 60
    packets = [mss + 40, mss + header]
    if version == 6:
        packets.append(mss + 60)
    packets.append(1500)
    tried = [("mss", size) for size in segments] + [("mtu", size) for size in packets]
    if peer_mss:
        tried += [("mss", peer_mss), ("mss", peer_mss - 12)]
    for unit, size in tried:
        if size > 0 and window % size == 0:
            # p0f keeps the factor in 16 signed bits; only a peer's MSS of 1 or 13 can overflow them.
            return f"{unit}*{window // size}" if window // size < 1 << 15 else str(window)
    return str(window)
