"""tc programs as clsact filters, where the kernel has no TCX: priority 1, a handle of our own, direct action.

This replaces (NLM_F_EXCL) and removes nothing of others. A clsact qdisc stays when it is empty, since somebody else may
count on it. A filter outlives its process, so `announce` gets its key before the filter is made.
Sources: tc-bpf(8), net/sched/cls_bpf.c (a new filter goes to the head of its priority), include/uapi/linux/pkt_cls.h.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from tracer.linux import bpfsys, netlink

PARENT_INGRESS, PARENT_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_PARENT_CLSACT, _HANDLE_CLSACT = 0xFFFFFFF1, 0xFFFF0000
_ETH_P_ALL = 0x0003
_TCMSG = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
_TCA_KIND, _TCA_OPTIONS, _TCA_CHAIN = 1, 2, 11
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_FLAGS_GEN, _BPF_ID = 6, 7, 8, 9, 11
_FLAG_DIRECT_ACTION, _SKIP_HARDWARE = 1, 1
_FIRST_HANDLE = 0x54464F00  # "TFO" and a count: several runs on one interface
_HANDLES = 256
_LAST_PRIORITY = 64

# the interface, its qdisc or the filter is gone
_GONE = frozenset((errno.ENODEV, errno.ENOENT, errno.EINVAL))


class NoEgressSideError(Exception):
    """The interface has an `ingress` qdisc in clsact's place, which has no egress side."""


@dataclass(frozen=True, slots=True)
class FilterKey:
    """Identifies one filter. `program_id` is 0 if it is not bpf."""

    ifindex: int
    parent: int
    priority: int
    handle: int
    program_id: int
    name: str
    kind: str = "bpf"


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)


def filters(ifindex: int, parent: int) -> list[FilterKey]:
    """Filters of chain 0 on one side of the interface, in the order in which they run. None without a clsact qdisc."""
    try:
        payloads = netlink.dump(netlink.GETTFILTER, _TCMSG.pack(0, ifindex, 0, parent, 0))
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise
    found = []
    for payload in payloads:
        _, _, handle, at, info = _TCMSG.unpack_from(payload, 0)
        fields = netlink.attributes(payload, _TCMSG.size)
        if handle == 0 or at != parent or _number(fields.get(_TCA_CHAIN, b"")):
            continue  # handle 0 is the head of a priority, not a filter
        kind = netlink.text(fields.get(_TCA_KIND, b""))
        options = netlink.attributes(fields.get(_TCA_OPTIONS, b"")) if kind == "bpf" else {}
        name, program_id = netlink.text(options.get(_BPF_NAME, b"")), _number(options.get(_BPF_ID, b""))
        found.append(FilterKey(ifindex, parent, info >> 16, handle, program_id, name, kind))
    return found


def ingress_qdisc(ifindex: int) -> str | None:
    """Kind of the qdisc in clsact's place; None if there is none."""
    # a dump would list those of all interfaces; before 6.8 the kernel answers only who asks for an echo
    header = _TCMSG.pack(0, ifindex, 0, _PARENT_CLSACT, 0)
    try:
        payload = netlink.get(netlink.GETQDISC, header, netlink.F_ECHO | netlink.F_ACK)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    return netlink.text(netlink.attributes(payload, _TCMSG.size).get(_TCA_KIND, b""))


def ensure_qdisc(ifindex: int, egress: bool) -> None:
    """Add a clsact qdisc if there is none. Raises NoEgressSideError, OSError."""
    header = _TCMSG.pack(0, ifindex, _HANDLE_CLSACT, _PARENT_CLSACT, 0)
    kind = netlink.attribute(_TCA_KIND, b"clsact\0")
    try:
        netlink.request(netlink.NEWQDISC, header + kind, netlink.F_CREATE | netlink.F_EXCL)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        if egress and ingress_qdisc(ifindex) == "ingress":
            raise NoEgressSideError from None


class ClsactFilter:
    """One program on one side of an interface. Attach and detach in the same network namespace."""

    def __init__(
        self, ifindex: int, egress: bool, prog_fd: int, name: str, announce: Callable[[FilterKey], None]
    ) -> None:
        """Attach at the first priority that takes our filter: 1, unless a filter of another kind is there.

        Raises NoEgressSideError, OSError.
        """
        ensure_qdisc(ifindex, egress)
        parent = PARENT_EGRESS if egress else PARENT_INGRESS
        program_id = bpfsys.program_info(prog_fd).id
        self.key: FilterKey | None = None
        for priority in range(1, _LAST_PRIORITY):
            if self._try_priority(FilterKey(ifindex, parent, priority, 0, program_id, name), prog_fd, announce):
                return
        raise OSError(errno.EBUSY, f"the first {_LAST_PRIORITY - 1} tc priorities are taken")

    def _try_priority(
        self,
        base: FilterKey,
        prog_fd: int,
        announce: Callable[[FilterKey], None],
    ) -> bool:
        for handle in range(_FIRST_HANDLE, _FIRST_HANDLE + _HANDLES):
            key = replace(base, handle=handle)
            announce(key)
            try:
                _add(key, prog_fd)
            except OSError as error:
                if error.errno == errno.EEXIST:
                    continue  # another run has the handle
                # a filter of another kind or protocol has this priority; without one, the fault is elsewhere
                if error.errno == errno.EINVAL and any(
                    there.priority == key.priority for there in filters(key.ifindex, key.parent)
                ):
                    return False
                raise
            self.key = key
            return True
        return False

    def is_intact(self) -> bool:
        """False once somebody deleted the filter or its qdisc."""
        return self.key is not None and exists(self.key)

    def detach(self) -> None:
        """Delete the filter if it is still ours. Harmless the second time, and if it or its interface is gone."""
        if self.key is not None:
            remove(self.key)
        self.key = None


def _header(key: FilterKey) -> bytes:
    info = key.priority << 16 | socket.htons(_ETH_P_ALL)
    return _TCMSG.pack(0, key.ifindex, key.handle, key.parent, info) + netlink.attribute(_TCA_KIND, b"bpf\0")


def _add(key: FilterKey, prog_fd: int) -> None:
    options = netlink.nested(
        _TCA_OPTIONS,
        netlink.attribute(_BPF_FD, struct.pack("=I", prog_fd)),
        netlink.attribute(_BPF_NAME, key.name.encode() + b"\0"),
        netlink.attribute(_BPF_FLAGS, struct.pack("=I", _FLAG_DIRECT_ACTION)),
        netlink.attribute(_BPF_FLAGS_GEN, struct.pack("=I", _SKIP_HARDWARE)),
    )
    netlink.request(netlink.NEWTFILTER, _header(key) + options, netlink.F_CREATE | netlink.F_EXCL)


def exists(key: FilterKey) -> bool:
    """Is exactly this filter, with this name and program, on its interface?"""
    return key in filters(key.ifindex, key.parent)


def remove(key: FilterKey) -> bool:
    """Delete exactly this filter; False if it is not there (any more) or not ours. Raises OSError."""
    if key.handle == 0 or not exists(key):  # for the kernel, handle 0 means every filter of the priority
        return False
    try:
        netlink.request(netlink.DELTFILTER, _header(key))
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True
