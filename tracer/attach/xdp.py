"""XDP programs by link (Linux 5.9), else by netlink; they never replace another program.

Sources: net/core/dev.c (dev_xdp_attach), include/uapi/linux/if_link.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from tracer.linux import bpfsys, netlink

_IFLA_XDP = 43
_XDP_FD, _XDP_FLAGS, _XDP_EXPECTED_FD = 1, 3, 8
_LEVELS = {7: "hardware", 5: "driver", 6: "generic"}  # by the attribute with the program's id: IFLA_XDP_*_PROG_ID
_TAKEN = frozenset((errno.EBUSY, errno.EEXIST))
_NO_LINK = frozenset((errno.EINVAL, errno.EOPNOTSUPP, bpfsys.ENOTSUPP))
_GONE = frozenset((errno.ENODEV, errno.ENOENT))


class XdpTakenError(Exception):
    """Another program has the interface's XDP hook."""


@dataclass(frozen=True, slots=True)
class XdpKey:
    """Identifies one netlink attachment. `flags` is XDP_FLAGS_DRV_MODE or _SKB_MODE."""

    ifindex: int
    flags: int
    program_id: int


@dataclass(frozen=True, slots=True)
class XdpProgram:
    """A program on an interface; `level` is driver, generic or hardware."""

    program_id: int
    level: str


def programs(ifindex: int) -> list[XdpProgram]:
    """XDP programs of the interface; none if it is gone."""
    try:
        payload = netlink.get(netlink.GETLINK, netlink.LINK_HEADER.pack(0, 0, ifindex, 0, 0))
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise
    fields = netlink.attributes(netlink.attributes(payload, netlink.LINK_HEADER.size).get(_IFLA_XDP, b""))
    return [
        XdpProgram(struct.unpack("=I", fields[kind])[0], level) for kind, level in _LEVELS.items() if kind in fields
    ]


class XdpAttachment:
    """A program on an interface. Attach and detach in the same network namespace."""

    def __init__(
        self, ifindex: int, prog_fd: int, flags: int, announce: Callable[[XdpKey], None], use_link: bool = True
    ) -> None:
        """Attach at the level of `flags`; `prog_fd` must stay open until detach.

        Raises XdpTakenError, and OSError with the driver's reason if it refuses.
        `use_link=False` uses netlink, as on kernels before 5.9.
        """
        self._fd = -1
        self._prog_fd = prog_fd
        self.key: XdpKey | None = None
        if use_link:
            try:
                self._fd = bpfsys.link_create_xdp(prog_fd, ifindex, flags)
                return
            except OSError as error:
                if error.errno in _TAKEN:
                    raise XdpTakenError from error
                if error.errno not in _NO_LINK:
                    raise
        # the kernel has no links, or the driver refuses: netlink says which, with the driver's own sentence
        key = XdpKey(ifindex, flags, bpfsys.program_info(prog_fd).id)
        announce(key)
        try:
            _set(ifindex, prog_fd, flags | bpfsys.XDP_FLAGS_UPDATE_IF_NOEXIST)
        except OSError as error:
            if error.errno in _TAKEN:
                raise XdpTakenError from error
            raise
        self.key = key

    def is_intact(self) -> bool:
        """False once the interface is gone or another program took the place, and after detach."""
        if self._fd >= 0:
            return bpfsys.link_info(self._fd).ifindex != 0
        return self.key is not None and _is_there(self.key)

    def detach(self) -> None:
        """Take off the program if it is still ours. Harmless the second time, and if the interface is gone."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self.key is not None:
            _remove(self.key, self._prog_fd)
        self.key = None


def _set(ifindex: int, prog_fd: int, flags: int, expected_fd: int | None = None) -> None:
    parts = [
        netlink.attribute(_XDP_FD, struct.pack("=i", prog_fd)),
        netlink.attribute(_XDP_FLAGS, struct.pack("=I", flags)),
    ]
    if expected_fd is not None:
        parts.append(netlink.attribute(_XDP_EXPECTED_FD, struct.pack("=i", expected_fd)))
    header = netlink.LINK_HEADER.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0)
    netlink.request(netlink.SETLINK, header + netlink.nested(_IFLA_XDP, *parts))


def _is_there(key: XdpKey) -> bool:
    return any(program.program_id == key.program_id for program in programs(key.ifindex))


def remove(key: XdpKey) -> bool:
    """Take off exactly this program; False if it is not there (any more). Raises OSError."""
    try:
        expected = bpfsys.program_by_id(key.program_id)
    except FileNotFoundError:
        return False
    try:
        return _remove(key, expected)
    finally:
        os.close(expected)


def _remove(key: XdpKey, prog_fd: int) -> bool:
    if not _is_there(key):
        return False
    try:
        _set(key.ifindex, -1, key.flags | bpfsys.XDP_FLAGS_REPLACE, prog_fd)
    except OSError as error:
        if error.errno in _GONE or error.errno == errno.EEXIST:  # it is gone, or was replaced since we looked
            return False
        if error.errno != errno.EINVAL or not _is_there(key):
            raise
        _set(key.ifindex, -1, key.flags)  # before 5.7 the kernel cannot compare; a moment ago the id was ours
    return True
