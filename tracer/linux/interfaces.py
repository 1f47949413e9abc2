"""Network interfaces and local addresses of the calling thread's network namespace, and what changes in them.

Sources: rtnetlink(7), include/uapi/linux/{if_link,if_addr,rtnetlink}.h. Addresses are 16 bytes in network byte order,
IPv4 as ::ffff:a.b.c.d.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from tracer.errors import UsageError
from tracer.linux import netlink
from tracer.vocabulary.addresses import IPV4_MAPPED
from tracer.vocabulary.near import did_you_mean

_IFF_UP = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_PROP_LIST, _IFLA_ALT_IFNAME = 3, 4, 52, 53

_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
# Devices whose packets begin with the IP header: PPP, raw IP (modems), IP tunnels of every kind, and "none" (tun,
# WireGuard, XFRM). If they have a link header, they add it below the hooks that we use.
_ARPHRD_RAW_IP = frozenset((512, 519, 768, 769, 776, 778, 823, 0xFFFE))
_ARPHRD_NAMES = {32: "InfiniBand", 280: "CAN bus", 801: "802.11", 803: "802.11 monitor", 824: "netlink"}

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NDA_DST = 1
_RTA_DST, _RTA_TABLE = 1, 15
_RT_TABLE_LOCAL = 255
_RTN_LOCAL, _RTN_ANYCAST = 2, 4

_EVENTS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
GROUP_SIGN = "+"
_FEW = 10  # so many interfaces are named in a sentence


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface as it was read. `arp_type` is ARPHRD_*."""

    index: int
    name: str
    arp_type: int
    up: bool
    alt_names: tuple[str, ...] = ()
    mtu: int = 0  # 0 = unknown

    @property
    def is_loopback(self) -> bool:
        return self.arp_type == _ARPHRD_LOOPBACK

    @property
    def has_ethernet_header(self) -> bool:
        """False where packets begin with the IP header (tun, WireGuard)."""
        return self.arp_type in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK)

    @property
    def untraceable(self) -> str | None:
        """A sentence on why no TCP handshake can be read here; None if it can."""
        if self.has_ethernet_header or self.arp_type in _ARPHRD_RAW_IP:
            return None
        what = _ARPHRD_NAMES.get(self.arp_type, f"link type {self.arp_type}")
        return f"{self.name} carries {what} frames, neither Ethernet nor plain IP; trace another interface"


@dataclass(frozen=True, slots=True)
class LinkUp:
    """An interface came up, or appeared and is up."""

    interface: Interface


@dataclass(frozen=True, slots=True)
class LinkDown:
    """An interface went down and is still there."""

    interface: Interface


@dataclass(frozen=True, slots=True)
class LinkGone:
    """An interface was removed, or moved to another namespace. Its links and filters are gone."""

    interface: Interface


@dataclass(frozen=True, slots=True)
class LinkRenamed:
    """An interface has a new name; its index stays."""

    interface: Interface
    old_name: str


@dataclass(frozen=True, slots=True)
class MtuChanged:
    """An interface has another MTU."""

    interface: Interface


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """Read local_addresses() again."""


Change = LinkUp | LinkDown | LinkGone | LinkRenamed | MtuChanged | AddressesChanged


def _parse_link(payload: bytes) -> Interface | None:
    if len(payload) < netlink.LINK_HEADER.size:
        return None
    family, arp_type, index, flags, _ = netlink.LINK_HEADER.unpack_from(payload, 0)
    if family != socket.AF_UNSPEC:
        return None  # a message about a bridge port: one that leaves its bridge would look deleted
    fields = netlink.attributes(payload, netlink.LINK_HEADER.size)
    names = [
        netlink.text(v) for k, v in netlink.each_attribute(fields.get(_IFLA_PROP_LIST, b"")) if k == _IFLA_ALT_IFNAME
    ]
    return Interface(
        index=index,
        name=netlink.text(fields.get(_IFLA_IFNAME, b"")),
        arp_type=arp_type,
        up=bool(flags & _IFF_UP),
        alt_names=tuple(names),
        mtu=int.from_bytes(fields.get(_IFLA_MTU, b""), sys.byteorder),
    )


def all_interfaces() -> tuple[Interface, ...]:
    """Every interface of this namespace, by index."""
    found = (_parse_link(payload) for payload in netlink.dump(netlink.GETLINK, netlink.LINK_HEADER.pack(0, 0, 0, 0, 0)))
    return tuple(sorted((link for link in found if link is not None), key=lambda link: link.index))


def all_up() -> tuple[Interface, ...]:
    """What `any` means now: every interface that is up and carries Ethernet or plain IP."""
    return tuple(link for link in all_interfaces() if link.up and link.untraceable is None)


def find(name: str) -> Interface:
    """The interface with that name or alternative name. Raises UsageError, which names some that exist."""
    links = all_interfaces()
    for link in links:
        if name == link.name:
            return link
    for link in links:
        if name in link.alt_names:
            return link
    names = [link.name for link in links]
    near = did_you_mean(name, names)
    known = ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "") or "none"
    raise UsageError(f'no interface named "{name}" here{near or f"; there are: {known}"}')


def find_members(word: str) -> list[Interface]:
    """The members of a group (`eth0+eth1`), or the interface with that name, which may contain a plus sign itself.

    Raises UsageError.
    """
    try:
        return [find(word)]
    except UsageError:
        if GROUP_SIGN not in word:
            raise
        return [find(name) for name in word.split(GROUP_SIGN)]


def by_index(index: int) -> Interface | None:
    """The interface with that index; None if it is gone."""
    try:
        return _parse_link(netlink.get(netlink.GETLINK, netlink.LINK_HEADER.pack(0, 0, index, 0, 0)))
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL):
            return None
        raise


# --- local addresses ---


@dataclass(frozen=True, slots=True)
class LocalAddresses:
    """The namespace's own addresses, and its own networks as (first address, prefix length out of 128)."""

    addresses: frozenset[bytes]
    networks: tuple[tuple[bytes, int], ...]


def _sixteen(address: bytes) -> bytes | None:
    if len(address) == 4:
        return IPV4_MAPPED + address
    return address if len(address) == 16 else None


def _interface_addresses() -> Iterable[bytes]:
    for payload in netlink.dump(netlink.GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
        fields = netlink.attributes(payload, 8)
        # on a point-to-point interface, IFA_ADDRESS is the peer's
        address = _sixteen(fields.get(_IFA_LOCAL, fields.get(_IFA_ADDRESS, b"")))
        if address is not None:
            yield address


def _local_routes(family: int) -> Iterable[tuple[bytes, int]]:
    header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _RT_TABLE_LOCAL, 0, 0, 0, 0)
    # strict: otherwise a router's kernel would send its whole table
    request = header + netlink.attribute(_RTA_TABLE, struct.pack("=I", _RT_TABLE_LOCAL))
    try:
        routes = netlink.dump(netlink.GETROUTE, request, strict=True)
    except OSError:
        return  # no local table (IPv6 is off), or the kernel dumps no routes
    for payload in routes:
        _, length, _, _, table, _, _, kind, _ = struct.unpack_from("=BBBBBBBBI", payload, 0)
        if table != _RT_TABLE_LOCAL or kind not in (_RTN_LOCAL, _RTN_ANYCAST):
            continue
        size = 4 if family == socket.AF_INET else 16
        destination = _sixteen(netlink.attributes(payload, 12).get(_RTA_DST, bytes(size)))
        if destination is not None:
            yield destination, length + 128 - 8 * size


def local_addresses() -> LocalAddresses:
    """What is local here: the local routing table and every interface address (VRFs use other tables).

    127.0.0.0/8 is always included.
    """
    addresses = set(_interface_addresses())
    networks = {(IPV4_MAPPED + bytes((127, 0, 0, 0)), 104)}
    for family in (socket.AF_INET, socket.AF_INET6):
        for destination, length in _local_routes(family):
            if length == 128:
                addresses.add(destination)
            else:
                networks.add((destination, length))
    return LocalAddresses(frozenset(addresses), tuple(sorted(networks)))


_PATIENCE_S = 0.02  # where somebody waits for the answer; some kernels take a lock for it


def near_ipv6(limit: int) -> set[bytes]:
    """IPv6 addresses of this namespace and of its neighbours, up to `limit` entries of each. Raises OSError."""
    found: set[bytes] = set()
    requests = (
        (netlink.GETADDR, struct.pack("=BBBBI", socket.AF_INET6, 0, 0, 0, 0), 8, _IFA_ADDRESS),
        (netlink.GETNEIGH, struct.pack("=BxxxiHBB", socket.AF_INET6, 0, 0, 0, 0), 12, _NDA_DST),
    )
    for kind, header, size, attribute in requests:
        with netlink.connect(patience_s=_PATIENCE_S) as sock:
            answers = netlink.exchange(sock, kind, header, netlink.F_DUMP, limit)
        found.update(netlink.attributes(answer.payload, size).get(attribute, b"") for answer in answers)
    return {address for address in found if len(address) == 16}


# --- following ---


class Follower:
    """Follows interfaces and addresses of the namespace in which it was made. `fileno()` is for select and poll.

    `interfaces` (by index) is the state after the last read().
    """

    def __init__(self, receive_buffer: int = 1 << 20) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._socket.bind((0, _EVENTS))
            # subscribe first, then read: that misses nothing, and what comes twice changes nothing
            self.interfaces = {link.index: link for link in all_interfaces()}
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Stop following. May be called twice."""
        self._socket.close()

    def read(self) -> list[Change]:
        """What changed since the last call, in order. Never blocks. Call it in the namespace of __init__.

        If the kernel had to drop messages, this reads everything again and compares.
        """
        changes: list[Change] = []
        addresses = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # queued messages are older than what is read now, and those that followed were dropped
                self._discard_queued()
                changes += self._read_all_again()
                addresses = True
                continue
            for message in netlink.messages(data):
                if message.type in (netlink.NEWADDR, netlink.DELADDR):
                    addresses = True
                elif message.type in (netlink.NEWLINK, netlink.DELLINK):
                    link = _parse_link(message.payload)
                    if link is not None:
                        changes += self._gone(link.index) if message.type == netlink.DELLINK else self._seen(link)
        if addresses:
            changes.append(AddressesChanged())
        return changes

    def _discard_queued(self) -> None:
        while True:
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:  # noqa: PERF203 - ends the loop
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def _read_all_again(self) -> list[Change]:
        now = {link.index: link for link in all_interfaces()}
        changes: list[Change] = []
        for index in sorted(self.interfaces.keys() - now.keys()):
            changes += self._gone(index)
        for link in now.values():
            changes += self._seen(link)
        return changes

    def _gone(self, index: int) -> list[Change]:
        known = self.interfaces.pop(index, None)
        return [LinkGone(known)] if known is not None else []

    def _seen(self, link: Interface) -> list[Change]:
        known = self.interfaces.get(link.index)
        self.interfaces[link.index] = link
        changes: list[Change] = []
        if known is not None and known.name != link.name:
            changes.append(LinkRenamed(link, known.name))
        if known is not None and known.mtu != link.mtu:
            changes.append(MtuChanged(link))
        if link.up and (known is None or not known.up):
            changes.append(LinkUp(link))
        elif known is not None and known.up and not link.up:
            changes.append(LinkDown(link))
        return changes
