"""TCP sockets of the calling thread's network namespace, by sock_diag(7).

The kernel looks up one socket by its four numbers at once, and lists the listeners of some ports within half a
millisecond where there are 10,000 of them, for which /proc/net/tcp takes 30 ms. Addresses are 16 bytes in network byte
order, IPv4 as ::ffff:a.b.c.d. Sources: include/uapi/linux/inet_diag.h, net/ipv4/inet_diag.c.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tracer.linux import netlink
from tracer.vocabulary.addresses import IPV4_MAPPED

MODULE = "tcp_diag"  # where it is not there, a question would load it
CLIENT_FAIL_SINCE = (5, 5)

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_PATIENCE_S = 0.05
_SYN_SENT, _LISTEN = 2, 10
WENT_ON = -1
_INFO, _SKMEMINFO, _SKV6ONLY = 2, 7, 11  # INET_DIAG_*
_DROPS = 8  # SK_MEMINFO_DROPS: a number of 32 bits
_BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
_NOP, _JUMP, _S_GE = 0, 1, 2  # INET_DIAG_BC_*
_OP = struct.Struct("=BBH")  # struct inet_diag_bc_op: code, where to go if so, where to go if not
_PORT_MAX = 65535
_ANY_COOKIE = b"\xff" * 8
# struct inet_diag_req_v2 up to its inet_diag_sockid; struct inet_diag_msg before and behind it
_REQUEST = struct.Struct("=BBBxI")
_ID = struct.Struct("=2s2s16s16sI8s")
_STATE = struct.Struct("=BBBB")
_REST = struct.Struct("=IIIII")
_ATTRIBUTES = _STATE.size + _ID.size + _REST.size

# struct tcp_info: tcpi_retransmits, tcpi_options, and the byte of tcpi_delivery_rate_app_limited:1 and
# tcpi_fastopen_client_fail:2
_RETRANSMITS, _OPTIONS, _FAIL = 2, 5, 7
_SYN_DATA = 32
_FAIL_SHIFT = 1 if sys.byteorder == "little" else 5


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket. `inode` is 0 for the kernel's own.

    `v6only`: whether it leaves IPv4 alone; None if that is not known. `device`: index of the interface or VRF that it
    is bound to, 0 for none, None if that is not known. `queued` connections wait to be accepted; above `backlog` the
    queue is full. `drops`: how many segments it has dropped, for whatever reason. None if they are not known.
    """

    family: int
    address: bytes
    port: int
    inode: int
    v6only: bool | None = None
    device: int | None = 0
    queued: int | None = field(default=None, compare=False)
    backlog: int | None = field(default=None, compare=False)
    drops: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """TCP_INFO of a client's socket: tcpi_fastopen_client_fail, and whether the data of its SYN was acked."""

    fail: int
    syn_data_acked: bool


def connect() -> socket.socket:
    """A socket for the questions below. Raises OSError."""
    return netlink.connect(_NETLINK_SOCK_DIAG, _PATIENCE_S)


def listeners(ports: Iterable[int] | None, limit: int) -> list[Listener] | None:
    """The sockets that listen on any of these ports, or on any port; None if they are more than `limit`.

    Raises OSError.
    """
    filter_ = b"" if ports is None else netlink.attribute(_BYTECODE, _any_of(ports))
    found: list[Listener] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with connect() as sock:
            answers = _listening(sock, family, filter_, limit + 2)
        if len(found) + len(answers) > limit + 1:  # the last one says that it is the last
            return None
        found += _parsed_listeners(answers)
    return found


def _any_of(ports: Iterable[int]) -> bytes:
    """Byte code that takes the sockets of these ports (inet_diag_bc_run): each pair asks if the port is at least that.

    Jumps are relative; one to the end takes the socket, one beyond it does not.
    """
    ordered = sorted(set(ports))
    end = 16 * len(ordered) + 4
    code = b""
    for number, port in enumerate(ordered):
        left = end - 16 * number
        # smaller: then it is smaller than the following, too
        code += _OP.pack(_S_GE, 8, left + 4) + _OP.pack(0, 0, port)
        # the port itself: not larger
        if port < _PORT_MAX:
            code += _OP.pack(_S_GE, 8, left - 8) + _OP.pack(0, 0, port + 1)
        else:
            code += _OP.pack(_JUMP, 4, left - 8) + _OP.pack(_NOP, 4, 4)
    return code + _OP.pack(_JUMP, 4, 8)


def listening_inodes(limit: int) -> set[int] | None:
    """The inodes of all listening sockets; None if they are more than `limit`. Raises OSError."""
    found: set[int] = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        with connect() as sock:
            answers = _listening(sock, family, b"", limit + 2)
        if len(answers) > limit + 1:
            return None
        payloads = (answer.payload for answer in answers if len(answer.payload) >= _ATTRIBUTES)
        found.update(_REST.unpack_from(payload, _STATE.size + _ID.size)[-1] for payload in payloads)
    return found if len(found) <= limit else None


def _listening(sock: socket.socket, family: int, filter_: bytes, limit: float = math.inf) -> list[netlink.Message]:
    request = _request(family, 1 << (_SKMEMINFO - 1), 1 << _LISTEN, bytes(16), 0, bytes(16), 0) + filter_
    return netlink.exchange(sock, _BY_FAMILY, request, netlink.F_DUMP, limit)


def _parsed_listeners(answers: list[netlink.Message]) -> Iterator[Listener]:
    for answer in answers:
        payload = answer.payload
        if answer.type != _BY_FAMILY or len(payload) < _ATTRIBUTES:
            continue
        family, state, _, _ = _STATE.unpack_from(payload, 0)
        port, _, address, _, device, _ = _ID.unpack_from(payload, _STATE.size)
        _, queued, backlog, _, inode = _REST.unpack_from(payload, _STATE.size + _ID.size)
        if state != _LISTEN:
            continue
        more = netlink.attributes(payload, _ATTRIBUTES)
        v6only = more.get(_SKV6ONLY) if family == socket.AF_INET6 else None
        yield Listener(
            family, _sixteen(family, address), int.from_bytes(port, "big"), inode,
            None if v6only is None else bool(v6only[0]), device, queued, backlog, _drops(more.get(_SKMEMINFO, b"")),
        )  # fmt: skip


def _drops(memory: bytes) -> int | None:
    at = 4 * _DROPS
    return int.from_bytes(memory[at : at + 4], sys.byteorder) if len(memory) >= at + 4 else None


def client(sock: socket.socket, address: bytes, port: int, server: bytes, server_port: int) -> ClientInfo | None:
    """What the socket with these ends says; None if there is none that has its TCP_INFO. Raises OSError.

    One that is bound to an interface is not found.
    """
    payload = _find(sock, address, port, server, server_port)
    return None if payload is None else _parsed_client(payload, address, port, server, server_port)


def syns_sent(sock: socket.socket, address: bytes, port: int, server: bytes, server_port: int) -> int:
    """How many SYNs the socket with these ends has sent so far; WENT_ON if it was answered. Raises OSError.

    0: there is none, or it is bound to an interface.
    """
    payload = _find(sock, address, port, server, server_port)
    if payload is None or not _is_of(payload, address, port, server, server_port):
        return 0
    info = netlink.attributes(payload, _ATTRIBUTES).get(_INFO, b"")
    is_trying = payload[1] == _SYN_SENT and len(info) > _RETRANSMITS
    return 1 + info[_RETRANSMITS] if is_trying else WENT_ON


def _find(sock: socket.socket, address: bytes, port: int, server: bytes, server_port: int) -> bytes | None:
    """What the kernel answers about these ends; None: nothing. Raises OSError."""
    family = socket.AF_INET if address.startswith(IPV4_MAPPED) else socket.AF_INET6
    request = _request(family, 1 << (_INFO - 1), ~0, address, port, server, server_port)
    try:
        (answer, *_) = netlink.exchange(sock, _BY_FAMILY, request, limit=1)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return None
        raise
    return answer.payload


def _is_of(payload: bytes, address: bytes, port: int, server: bytes, server_port: int) -> bool:
    """Without such a connection, the kernel answers with the listener of that port."""
    if len(payload) < _ATTRIBUTES:
        return False
    family, state, _, _ = _STATE.unpack_from(payload, 0)
    own_port, peer_port, own, peer, _, _ = _ID.unpack_from(payload, _STATE.size)
    ends = (_sixteen(family, own), own_port, _sixteen(family, peer), peer_port)
    return state != _LISTEN and ends == (address, port.to_bytes(2, "big"), server, server_port.to_bytes(2, "big"))


def _parsed_client(payload: bytes, address: bytes, port: int, server: bytes, server_port: int) -> ClientInfo | None:
    if not _is_of(payload, address, port, server, server_port):
        return None
    info = netlink.attributes(payload, _ATTRIBUTES).get(_INFO, b"")
    if len(info) <= _FAIL:
        return None
    return ClientInfo(info[_FAIL] >> _FAIL_SHIFT & 3, bool(info[_OPTIONS] & _SYN_DATA))


def says_client_fail(release: str | None = None) -> bool:
    """Whether this kernel fills tcpi_fastopen_client_fail (Linux 5.5)."""
    try:
        major, minor = (release or os.uname().release).split(".")[:2]
        return (int(major), int("".join(filter(str.isdigit, minor)))) >= CLIENT_FAIL_SINCE
    except ValueError:
        return False


def _request(
    family: int, wanted: int, states: int, source: bytes, source_port: int, destination: bytes, destination_port: int
) -> bytes:
    ports = source_port.to_bytes(2, "big"), destination_port.to_bytes(2, "big")
    ends = (_packed(family, source), _packed(family, destination))
    head = _REQUEST.pack(family, socket.IPPROTO_TCP, wanted, states & 0xFFFFFFFF)
    return head + _ID.pack(*ports, *ends, 0, _ANY_COOKIE)


def _packed(family: int, address: bytes) -> bytes:
    """As in struct inet_diag_sockid: four words, of which IPv4 has the first."""
    return address[12:].ljust(16, b"\0") if family == socket.AF_INET else address


def _sixteen(family: int, address: bytes) -> bytes:
    return IPV4_MAPPED + address[:4] if family == socket.AF_INET else address
