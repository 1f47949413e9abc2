"""The TCP segments and ICMP errors of a capture, as tshark decodes them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR, AE = (1 << bit for bit in range(9))

_FIELDS = (
    "frame.number", "frame.time_epoch", "frame.len", "frame.cap_len", "frame.protocols", "frame.interface_id",
    "frame.packet_flags", "sll.pkttype", "sll.ifindex", "vlan.id", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst",
    "ip.ttl", "ipv6.hlim", "ip.id", "ip.len", "ip.hdr_len", "ip.frag_offset", "ipv6.plen", "tcp.srcport",
    "tcp.dstport", "tcp.seq", "tcp.ack_raw", "tcp.flags", "tcp.len", "tcp.hdr_len", "tcp.window_size_value",
    "tcp.options", "tcp.option_kind", "tcp.options.mss_val", "tcp.options.wscale.shift",
    "tcp.options.timestamp.tsval", "tcp.options.timestamp.tsecr", "tcp.options.tfo.cookie", "icmp.type", "icmp.code",
    "icmpv6.type", "icmpv6.code", "ip.flags.mf", "vxlan.vni", "geneve.vni", "gre.key",
)  # fmt: skip
_PREFERENCES = (
    "tcp.relative_sequence_numbers:FALSE", "tcp.desegment_tcp_streams:FALSE", "tcp.analyze_sequence_numbers:FALSE",
    "ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.try_heuristic_first:FALSE",
)  # fmt: skip
_AS_VXLAN = "udp.port==8472,vxlan"  # Linux' port of old, which tshark takes for OTV
# what tfotrace promises to read (LIMITATIONS.md): at most two tags, tunnels of _TUNNELS up to TUNNELS_MAX deep
_TUNNELS = ("vxlan", "geneve", "gre")
TUNNELS_MAX = 4
_STACK = re.compile(
    r"^(?:(?P<link>eth|sll|null|raw)(?P<tags>(?::ethertype|:vlan|:ieee8021ad)*):)?"
    r"(?P<ip>ip|ipv6(?::ipv6\.\w+|:ah)*)(?:(?::tcp)|(?P<error>:icmp|:icmpv6)(?::ip|:ipv6(?::ipv6\.\w+)*):tcp)(?::|$)"
)
_LINK_LEN = {"eth": 14, "sll": 16, "null": 4, "raw": 0}
_OUTGOING = 4

_NAMES = {0: "eol", 1: "nop", 2: "mss", 3: "wscale", 4: "sack_permitted", 8: "timestamps", 19: "md5", 28: "uto",
          29: "ao", 30: "mptcp", 34: "tfo"}  # fmt: skip
_SIZES = {2: 4, 3: 3, 4: 2, 8: 10}
_TFO_MAGIC = b"\xf9\x89"

End = tuple[str, int]
Tunnel = tuple[str, ...]  # its kind, and what tells it from others of its kind


@dataclass(slots=True)
class Options:
    """The options of a SYN or SYN-ACK. `tfo_kind`: of the last well-formed Fast Open option, None without one."""

    names: list[str] = field(default_factory=list)
    mss: int | None = None
    wscale: int | None = None
    sack: bool = False
    ts_val: int | None = None
    ts_ecr: int | None = None
    tfo_kind: int | None = None
    cookie: bytes = b""
    tfo_malformed: bool = False
    agrees: bool = True  # tshark reads the same kinds and values


@dataclass(slots=True)
class Segment:
    """One segment. `place` is the interface and direction where it was captured."""

    frame: int
    at_ns: int
    src: End
    dst: End
    seq: int
    ack: int
    flags: int
    length: int
    window: int
    ttl: int
    ip_id: int  # 0 for IPv6
    vlan: tuple[int, ...]
    place: tuple[str, ...]
    raw_options: bytes
    whole: bool  # all options were captured
    icmp: tuple[int, int] | None = None  # an ICMP error that quotes this segment
    tunnels: tuple[Tunnel, ...] = ()  # the outermost first
    _options: Options | None = None

    @property
    def options(self) -> Options:
        """Decoded when somebody asks."""
        if self._options is None:
            self._options = decode_options(self.raw_options)
        return self._options

    def has(self, flags: int) -> bool:
        """Are all of these set?"""
        return self.flags & flags == flags

    @property
    def end(self) -> int:
        """The sequence number behind its data."""
        return (self.seq + self.length) % 2**32


def decode_options(raw: bytes) -> Options:
    """By RFC 9293 3.1 and RFC 7413: what cannot be read ends the walk, a Fast Open option of a wrong size is absent."""
    found = Options()
    at = 0
    while at < len(raw):
        kind = raw[at]
        if kind <= 1:
            found.names.append(_NAMES[kind])
            at += 1
            if kind == 0:
                break
            continue
        size = raw[at + 1] if at + 1 < len(raw) else 0
        if size < 2 or at + size > len(raw):
            break  # nobody can say what it was
        value = raw[at + 2 : at + size]
        experiment = kind in (253, 254) and value[:2] == _TFO_MAGIC
        found.names.append("tfo_experimental" if experiment else _NAMES.get(kind, f"kind_{kind}"))
        at += size
        if kind == 34 or experiment:
            cookie = value[2:] if experiment else value
            if not cookie or (4 <= len(cookie) <= 16 and len(cookie) % 2 == 0):
                found.tfo_kind, found.cookie = kind, cookie
            else:
                found.tfo_malformed = True
        elif _SIZES.get(kind) == size:
            if kind == 2:
                found.mss = int.from_bytes(value, "big")
            elif kind == 3:
                found.wscale = value[0]
            elif kind == 4:
                found.sack = True
            else:
                found.ts_val, found.ts_ecr = int.from_bytes(value[:4], "big"), int.from_bytes(value[4:], "big")
    return found


class UnreadableError(Exception):
    """tshark cannot read the capture."""


def version() -> str:
    """tshark's."""
    said = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split("\n", 1)[0].partition(" (Git")[0].rstrip(".")


@dataclass(frozen=True, slots=True)
class Read:
    """What a capture holds: its segments by their times, and when its last packet came."""

    segments: list[Segment]
    last_ns: int


def read(path: Path, timeout_s: float) -> Read:
    """Have tshark read a capture. Raises UnreadableError, subprocess.TimeoutExpired."""
    words = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "occurrence=a", "-E", "separator=|"]
    words += ["-d", _AS_VXLAN]
    for preference in _PREFERENCES:
        words += ["-o", preference]
    for name in _FIELDS:
        words += ["-e", name]
    done = subprocess.run(words, capture_output=True, timeout=timeout_s, check=False)
    if done.returncode != 0 and not done.stdout:
        raise UnreadableError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    rows = list(_rows(done.stdout.decode(errors="replace").splitlines()))
    found = [segment for row in rows if (segment := _segment(row)) is not None]
    found.sort(key=lambda one: one.at_ns)
    return Read(found, max((_time_ns(row) for row in rows), default=0))


def _rows(lines: list[str]) -> Iterator[dict[str, str]]:
    for line in lines:
        parts = line.split("|")
        if len(parts) == len(_FIELDS):
            yield dict(zip(_FIELDS, parts, strict=True))


def _time_ns(row: dict[str, str]) -> int:
    seconds, _, part = row["frame.time_epoch"].partition(".")
    return int(seconds or 0) * 10**9 + int(part.ljust(9, "0")[:9])


def _tunnels(row: dict[str, str]) -> tuple[tuple[Tunnel, ...], str]:
    """The tunnels of a packet, and the layers of what is inside."""
    layers, seen = row["frame.protocols"].split(":"), dict.fromkeys(("ip", "ipv6", *_TUNNELS), 0)
    found: list[Tunnel] = []
    begin, ends = 0, ""  # of the packet that is read, and the addresses of its IP header
    for at, name in enumerate(layers):
        if name in ("icmp", "icmpv6", "tcp") or len(found) == TUNNELS_MAX:
            break
        if name not in seen:
            continue
        number, seen[name] = seen[name], seen[name] + 1
        if name in _TUNNELS:
            field = "gre.key" if name == "gre" else f"{name}.vni"
            told = row[field].split(",")
            own = told[number] if number < len(told) else ""
            found.append((name, own, ends) if name == "gre" else (name, own))
            begin, ends = at + 1, ""
            continue
        if ends and layers[at - 1].startswith(("ip", "ah")):  # one IP header behind another
            found.append(("ipip", ends))
            begin = at
        ends = " ".join(sorted(row[f"{name}.{end}"].split(",")[number] for end in ("src", "dst")))
    return tuple(found), ":".join(layers[begin:])


def _segment(row: dict[str, str]) -> Segment | None:
    tunnels, layers = _tunnels(row)
    stack = _STACK.match(layers)
    if tunnels and row["ip.flags.mf"].split(",")[0] in ("1", "True"):
        return None
    if stack is None or not row["tcp.srcport"]:
        return None
    tags = (stack["tags"] or "").count("vlan") + (stack["tags"] or "").count("ieee8021ad")
    if tags > 2:
        return None

    def number(name: str, missing: int = 0) -> int:
        text = row[name].split(",")[-1]  # the innermost; an error quotes the segment last
        return int(text, 0) if text else missing

    is_v4 = stack["ip"] == "ip"
    link = _LINK_LEN[stack["link"] or "raw"] + 4 * tags
    if row["sll.ifindex"]:
        link = 20
    captured, frame_len = int(row["frame.cap_len"]), int(row["frame.len"])
    header = number("tcp.hdr_len")
    whole = True
    if not stack["error"]:
        if is_v4:
            ip_header, total = number("ip.hdr_len"), number("ip.len")
            if tunnels:
                link = frame_len - total
            if total > frame_len - link or total < ip_header + header:
                return None
            whole = link + ip_header + header <= captured
            length = total - ip_header - header
        else:
            total = number("ipv6.plen")
            if not tunnels and total + 40 > frame_len - link:
                return None
            length = number("tcp.len")
            whole = captured >= frame_len - length
        if header < 20 or not row["tcp.flags"]:
            return None
    else:
        length = number("tcp.len")
    source, target = ("ip.src", "ip.dst") if is_v4 else ("ipv6.src", "ipv6.dst")
    outgoing = row["sll.pkttype"] == str(_OUTGOING) or row["frame.packet_flags"][-1:] == "2"
    icmp = None
    if stack["error"]:
        prefix = "icmp" if row["icmp.type"] else "icmpv6"
        icmp = (int(row[prefix + ".type"].split(",")[0]), int(row[prefix + ".code"].split(",")[0]))
    vlan = tuple(int(one) for one in row["vlan.id"].split(",") if one)
    return Segment(
        frame=int(row["frame.number"]),
        at_ns=_time_ns(row),
        src=(row[source].split(",")[-1], number("tcp.srcport")),
        dst=(row[target].split(",")[-1], number("tcp.dstport")),
        seq=number("tcp.seq"),
        ack=number("tcp.ack_raw"),
        flags=number("tcp.flags"),
        length=length,
        window=number("tcp.window_size_value"),
        ttl=number("ip.ttl" if is_v4 else "ipv6.hlim"),
        ip_id=number("ip.id") if is_v4 else 0,
        vlan=vlan[len(vlan) - tags :] if tunnels else vlan,
        place=(row["frame.interface_id"].split(",")[0], row["sll.ifindex"].split(",")[0], str(outgoing)),
        raw_options=bytes.fromhex(row["tcp.options"].split(",")[-1].replace(":", "")),
        whole=whole,
        tunnels=tunnels,
        icmp=icmp,
        _options=_checked(row) if number("tcp.flags") & SYN and whole and not stack["error"] else None,
    )


def _checked(row: dict[str, str]) -> Options:
    """The options of a SYN or SYN-ACK, held against tshark's own reading of them."""
    found = decode_options(bytes.fromhex(row["tcp.options"].split(",")[0].replace(":", "")))
    kinds = [int(one) for one in row["tcp.option_kind"].split(",") if one]
    if 0 in kinds:  # tshark goes on after the end of the options
        kinds = kinds[: kinds.index(0) + 1]
    values = (
        (found.mss, "tcp.options.mss_val"), (found.wscale, "tcp.options.wscale.shift"),
        (found.ts_val, "tcp.options.timestamp.tsval"), (found.ts_ecr, "tcp.options.timestamp.tsecr"),
    )  # fmt: skip
    said = [(None if value is None else str(value), row[name] or None) for value, name in values]
    if found.cookie:
        said.append((found.cookie.hex(), row["tcp.options.tfo.cookie"].replace(":", "").rpartition(",")[2] or None))
    found.agrees = len(kinds) == len(found.names) and all(mine == theirs for mine, theirs in said)
    return found
