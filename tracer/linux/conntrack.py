"""Does this host send a connection elsewhere than to where its client sent it (DNAT, REDIRECT, IPVS)?

Connection tracking is asked by netlink, for one connection at a time, where nf_conntrack_netlink is at hand; else its
table is read from /proc while it is short. IPVS has a table of its own. Nothing is loaded or changed by asking.
Addresses are 16 bytes in network byte order, IPv4 as ::ffff:a.b.c.d. Sources:
include/uapi/linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_standalone.c, .../ipvs/ip_vs_conn.c.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress

from tracer.linux import netlink
from tracer.linux.modules import Modules
from tracer.vocabulary.addresses import IPV4_MAPPED

Flow = tuple[bytes, int, bytes, int]  # client, its port, server, its port

READ_MAX = 1 << 19  # bytes of a table in /proc: some ms
ENTRIES_MAX = 2000  # connections tracked, to read them as text
_MODULE = "nf_conntrack_netlink"
_NETLINK_NETFILTER = 12
_PATIENCE_S = 0.05
_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
# CTA_*
_ORIG, _REPLY = 1, 2
_IP, _PROTO = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_V4, _V6 = (1, 2), (3, 4)  # source and destination
_HEADER = 4  # struct nfgenmsg
_Parser = Callable[[list[str]], tuple[Flow, bool]]


def translated(flows: Iterable[Flow], modules: Modules, net: str = "/proc/thread-self/net") -> dict[Flow, bool]:
    """Whether these go elsewhere; those are left out of which it cannot be known."""
    flows = list(dict.fromkeys(flows))
    balanced, tracked = _in_table(f"{net}/ip_vs_conn", _ipvs, set(flows)), _tracked(flows, modules, net)
    if balanced is None or tracked is None:  # what is not found may go elsewhere all the same
        return {flow: True for flow, elsewhere in {**(tracked or {}), **(balanced or {})}.items() if elsewhere}
    return {**dict.fromkeys(flows, False), **tracked, **balanced}


def _tracked(flows: list[Flow], modules: Modules, net: str) -> dict[Flow, bool] | None:
    """What conntrack says of those that it knows; None if it cannot be asked."""
    try:
        with open("/proc/sys/net/netfilter/nf_conntrack_count", encoding="ascii") as file:
            entries = int(file.read())
    except FileNotFoundError:
        return {}  # no conntrack here
    except (OSError, ValueError):
        return None
    if not entries:
        return {}
    if modules.present(_MODULE):
        with suppress(OSError):
            return _asked(flows)
    return _in_table(f"{net}/nf_conntrack", _line, set(flows)) if entries <= ENTRIES_MAX else None


# --- netlink ---


def _asked(flows: list[Flow]) -> dict[Flow, bool]:
    found: dict[Flow, bool] = {}
    with netlink.connect(_NETLINK_NETFILTER, _PATIENCE_S) as sock:
        for flow in flows:
            try:
                # the answer says that more will follow, which is not so
                (answer,) = netlink.exchange(sock, _GET, _request(flow), limit=1)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                continue
            tuples = netlink.attributes(answer.payload, _HEADER)
            original, reply = _tuple(tuples.get(_ORIG, b"")), _tuple(tuples.get(_REPLY, b""))
            # it may be the answer to a connection of the other direction
            if original == flow and reply is not None:
                found[flow] = reply[:2] != flow[2:]
    return found


def _request(flow: Flow) -> bytes:
    client, client_port, server, server_port = flow
    v4 = client.startswith(IPV4_MAPPED)
    kinds = _V4 if v4 else _V6
    ends = [netlink.attribute(kind, one[12:] if v4 else one) for kind, one in zip(kinds, (client, server), strict=True)]
    protocol = netlink.nested(
        _PROTO,
        netlink.attribute(_NUMBER, bytes([socket.IPPROTO_TCP])),
        netlink.attribute(_SOURCE_PORT, client_port.to_bytes(2, "big")),
        netlink.attribute(_DESTINATION_PORT, server_port.to_bytes(2, "big")),
    )
    header = struct.pack("=BBH", socket.AF_INET if v4 else socket.AF_INET6, 0, 0)
    return header + netlink.nested(_ORIG, netlink.nested(_IP, *ends), protocol)


def _tuple(raw: bytes) -> Flow | None:
    parts = netlink.attributes(raw)
    ends, protocol = netlink.attributes(parts.get(_IP, b"")), netlink.attributes(parts.get(_PROTO, b""))
    v4 = _V4[0] in ends
    kinds, size = (_V4, 4) if v4 else (_V6, 16)
    source, destination = (ends.get(kind, b"") for kind in kinds)
    if len(source) != size or len(destination) != size:
        return None
    prefix = IPV4_MAPPED if v4 else b""
    ports = (int.from_bytes(protocol.get(kind, b""), "big") for kind in (_SOURCE_PORT, _DESTINATION_PORT))
    return prefix + source, next(ports), prefix + destination, next(ports)


# --- /proc ---


def _in_table(path: str, parse: _Parser, wanted: set[Flow]) -> dict[Flow, bool] | None:
    """What the lines of a table say of the wanted connections; {} if there is no table, None if it is too long."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    with open(fd, "rb", buffering=0) as file:
        parts: list[bytes] = []
        size = 0
        try:
            while part := file.read(1 << 16):
                parts.append(part)
                size += len(part)
                if size > READ_MAX:
                    return None
        except OSError:
            return None
    found: dict[Flow, bool] = {}
    for line in b"".join(parts).decode("ascii", "replace").splitlines():
        with suppress(ValueError, IndexError, KeyError):
            flow, elsewhere = parse(line.split())
            if flow in wanted:
                found[flow] = elsewhere
    return found


def _line(fields: list[str]) -> tuple[Flow, bool]:
    """Of nf_conntrack: the original tuple, then that of the answers.

    Raises ValueError, IndexError and KeyError where it is no TCP connection.
    """
    if fields[2] != "tcp":
        raise ValueError("not TCP")
    values: dict[str, list[str]] = {}
    for name, _, value in (field.partition("=") for field in fields):
        values.setdefault(name, []).append(value)

    def end(number: int, address: str, port: str) -> tuple[bytes, int]:
        return _address(values[address][number]), int(values[port][number])

    flow = (*end(0, "src", "sport"), *end(0, "dst", "dport"))
    return flow, end(1, "src", "sport") != flow[2:]


def _ipvs(fields: list[str]) -> tuple[Flow, bool]:
    """Of ip_vs_conn: client, virtual service, real server; IPv4 addresses and ports in hexadecimal digits.

    Raises ValueError and IndexError where it is no TCP connection.
    """
    if fields[0] != "TCP":
        raise ValueError("not TCP")
    client, server, real = ((_address(fields[at]), int(fields[at + 1], 16)) for at in (1, 3, 5))
    return (*client, *server), real != server


def _address(text: str) -> bytes:
    if len(text) == 8 and "." not in text and ":" not in text:
        return IPV4_MAPPED + bytes.fromhex(text)
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else IPV4_MAPPED + address.packed
