"""By which interface this network namespace would send a TCP segment: the kernel's own answer (RTM_GETROUTE).

Addresses are 16 bytes in network byte order, IPv4 as ::ffff:a.b.c.d. Sources: include/uapi/linux/rtnetlink.h,
fib_rules.h, net/ipv4/route.c, net/ipv6/route.c.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress

from tracer.linux import netlink
from tracer.linux.modules import Modules
from tracer.vocabulary.addresses import IPV4_MAPPED

NO_ROUTE = 0  # the kernel says that there is none

_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_IP_PROTO, _RTA_SPORT, _RTA_DPORT = 1, 2, 3, 4, 27, 28, 29
_RTN_UNICAST = 1
_GETRULE = 34
_FRA_FWMARK, _FRA_L3MDEV = 10, 19
_LINK_LOCAL = b"\xfe\x80"
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES)
# also a black hole, and a source that does not belong there
_NOT_PASSED_ON = (*_UNREACHABLE, errno.EINVAL, errno.EXDEV)
_FORCED_V6 = "/proc/sys/net/ipv6/conf/{}/force_forwarding"
_FORWARDING_V6 = "/proc/sys/net/ipv6/conf/all/forwarding"
# include/uapi/linux/xfrm.h: messages, and the size of struct xfrm_userpolicy_id
_XFRM_MODULE, _NETLINK_XFRM = "xfrm_user", 6
_NEWPOLICY, _GETPOLICY, _POLICY_ID = 0x13, 0x15, 64
_PATIENCE_S = 0.02  # somebody waits for the answer; some kernels take a lock for it


def leaves_by(source: bytes, source_port: int, destination: bytes, destination_port: int) -> int | None:
    """Index of the interface by which a TCP segment from here leaves; NO_ROUTE; None if that is not known."""
    error = None
    # an address that was removed meanwhile is no source, and then its route is that of others
    for with_source in (True, False):
        try:
            route = _ask(source, source_port, destination, destination_port, with_source=with_source)
        except OSError as failed:
            error = failed
            continue
        index = netlink.attributes(route, 12).get(_RTA_OIF)
        return int.from_bytes(index, sys.byteorder) if index else None
    # an address without a scope may be had at some interface, and that of a VRF has routes of its own
    if destination.startswith(_LINK_LOCAL) or error is None or error.errno not in _UNREACHABLE:
        return None
    return None if _has_rules_by(_FRA_FWMARK, _FRA_L3MDEV) else NO_ROUTE


def forwarded_by(
    came_by: int, source: bytes, source_port: int, destination: bytes, destination_port: int
) -> int | None:
    """Index of the interface by which a TCP segment that came in by another leaves; NO_ROUTE if the host does not pass
    it on; None if that is not known, or it stays here."""
    came = netlink.attribute(_RTA_IIF, struct.pack("=I", came_by))
    try:
        route = _ask(source, source_port, destination, destination_port, with_source=True, more=came)
        # IPv4's answer says whether forwarding is on
        if route[7] == _RTN_UNICAST and not destination.startswith(IPV4_MAPPED) and not _forwards_v6(came_by):
            return NO_ROUTE
    except OSError as error:
        return NO_ROUTE if error.errno in _NOT_PASSED_ON and not _has_rules_by(_FRA_FWMARK) else None
    index = netlink.attributes(route, 12).get(_RTA_OIF)
    return int.from_bytes(index, sys.byteorder) if index and route[7] == _RTN_UNICAST else None


def hides_ways(modules: Modules) -> bool:
    """May it forward by other ways than forwarded_by() says, by marks or inside IPsec? Or is that not known?"""
    return _has_rules_by(_FRA_FWMARK) or (modules.present(_XFRM_MODULE) and _has_policies())


def _has_policies() -> bool:
    """Are there IPsec policies (ip xfrm policy)?"""
    with suppress(OSError), netlink.connect(_NETLINK_XFRM, _PATIENCE_S) as sock:
        answer = netlink.exchange(sock, _GETPOLICY, bytes(_POLICY_ID), netlink.F_DUMP, limit=1)
        return any(one.type == _NEWPOLICY for one in answer)
    return True


def _ask(
    source: bytes, source_port: int, destination: bytes, destination_port: int, *, with_source: bool, more: bytes = b""
) -> bytes:
    """The route as the kernel writes it. Raises OSError."""
    v4 = destination.startswith(IPV4_MAPPED)
    source, destination = (address[12:] if v4 else address for address in (source, destination))
    family, size = socket.AF_INET if v4 else socket.AF_INET6, 8 * len(destination)
    values: Iterable[tuple[int, bytes]] = (
        (_RTA_DST, destination),
        # several next hops may be chosen among by ports
        (_RTA_IP_PROTO, bytes([socket.IPPROTO_TCP])),
        (_RTA_SPORT, source_port.to_bytes(2, "big")),
        (_RTA_DPORT, destination_port.to_bytes(2, "big")),
        *(((_RTA_SRC, source),) if with_source else ()),
    )
    header = struct.pack("=BBBBBBBBI", family, size, size if with_source else 0, 0, 0, 0, 0, 0, 0)
    request = header + b"".join(netlink.attribute(kind, value) for kind, value in values) + more
    with netlink.connect(patience_s=_PATIENCE_S) as sock:
        (answer,) = netlink.exchange(sock, netlink.GETROUTE, request, limit=1)
    return answer.payload


def _forwards_v6(came_by: int) -> bool:
    """Also what came in by one interface, since Linux 6.17. Raises OSError."""
    with suppress(FileNotFoundError), open(_FORCED_V6.format(socket.if_indextoname(came_by)), encoding="ascii") as file:
        if file.read().strip() != "0":
            return True
    with open(_FORWARDING_V6, encoding="ascii") as file:
        return file.read().strip() != "0"


def _has_rules_by(*kinds: int) -> bool:
    """Do rules choose tables by marks, or by VRFs, of which an address says nothing?"""
    with suppress(OSError), netlink.connect(patience_s=_PATIENCE_S) as sock:
        rules = netlink.exchange(sock, _GETRULE, struct.pack("=BBBBBBBBI", *[0] * 9), netlink.F_DUMP)
        found = (netlink.attributes(rule.payload, 12) for rule in rules if len(rule.payload) >= 12)
        return any(kind in one for one in found for kind in kinds)
    return True
