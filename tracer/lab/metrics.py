"""Forget a client's Fast Open cookie: the `tcp_metrics` generic netlink family (include/uapi/linux/tcp_metrics.h).

The kernel keeps the cookie per (source, destination) and network namespace. pyroute2 has no class for this family.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct

_NETLINK_GENERIC = 16
_CTRL_ID, _CTRL_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
_METRICS_DEL, _METRICS_ATTR_IPV4, _METRICS_ATTR_IPV6 = 2, 1, 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLMSG_ERROR = 1, 4, 2
_HEADER = struct.Struct("=IHHIIBBH")  # nlmsghdr and genlmsghdr


class TcpMetrics:
    """The metrics cache of the network namespace that the creating thread is in. Raises OSError if there is none."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_GENERIC)
        self._socket.bind((0, 0))
        self._family = _CTRL_ID
        self._family = self._family_id("tcp_metrics")

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def forget(self, address: str) -> None:
        """Drop cookie, MSS and all else remembered about the destination `address`; unknown ones are fine."""
        packed = ipaddress.ip_address(address).packed
        kind = _METRICS_ATTR_IPV4 if len(packed) == 4 else _METRICS_ATTR_IPV6
        try:
            self._request(_METRICS_DEL, kind, packed, _NLM_F_ACK)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise

    def _request(self, command: int, kind: int, value: bytes, flags: int) -> bytes:
        attribute = struct.pack("=HH", 4 + len(value), kind) + value
        attribute += b"\0" * (-len(attribute) % 4)
        length = _HEADER.size + len(attribute)
        head = _HEADER.pack(length, self._family, _NLM_F_REQUEST | flags, 0, 0, command, 1, 0)
        self._socket.send(head + attribute)
        answer = self._socket.recv(65536)
        if struct.unpack_from("=H", answer, 4)[0] == _NLMSG_ERROR:
            number = -struct.unpack_from("=i", answer, 16)[0]
            if number:
                raise OSError(number, os.strerror(number))
        return answer

    def _family_id(self, name: str) -> int:
        answer = self._request(_CTRL_GETFAMILY, _CTRL_ATTR_FAMILY_NAME, name.encode() + b"\0", 0)
        position = _HEADER.size
        while position + 4 <= len(answer):
            length, kind = struct.unpack_from("=HH", answer, position)
            if kind == _CTRL_ATTR_FAMILY_ID:
                return int(struct.unpack_from("=H", answer, position + 4)[0])
            position += max(4, (length + 3) & ~3)
        raise OSError(errno.ENOENT, f"generic netlink family {name} without an id")
