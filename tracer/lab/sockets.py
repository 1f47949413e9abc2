"""Real TCP sockets of the lab: Fast Open listeners and clients, and filters that make a port deaf."""

from __future__ import annotations

import ctypes
import socket
import struct

TCP_FASTOPEN = 23  # include/uapi/linux/tcp.h; qlen of a listener
TCP_FASTOPEN_KEY = 33  # 16 bytes, or 32: primary and backup (5.3)
TCP_FASTOPEN_NO_COOKIE = 34
MSG_FASTOPEN = 0x20000000
QUEUE = 64

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_TIMEOUT_S = 3

# Classic BPF on a TCP socket sees the packet from the TCP header on. A listener's filter also judges SYNs (tcp_v4_rcv,
# tcp_filter), and its children inherit it. Each instruction: code, jump if true, jump if false, constant.
Filter = tuple[tuple[int, int, int, int], ...]
_ACCEPT, _DROP = (0x06, 0, 0, 0x40000), (0x06, 0, 0, 0)
DROP_ALL: Filter = (_DROP,)
DROP_UNLESS_SYN: Filter = (
    (0x30, 0, 0, 13),  # A = flags
    (0x45, 0, 1, 0x02),  # SYN?
    _ACCEPT,
    _DROP,
)
DROP_SYN_WITH_DATA: Filter = (
    (0x30, 0, 0, 13),  # A = flags
    (0x45, 0, 6, 0x02),  # SYN? else accept
    (0x30, 0, 0, 12),  # A = data offset << 4
    (0x54, 0, 0, 0xF0),
    (0x74, 0, 0, 2),  # A = header length
    (0x07, 0, 0, 0),  # X = A
    (0x80, 0, 0, 0),  # A = length of header and payload
    (0x2D, 1, 0, 0),  # A > X: there is payload
    _ACCEPT,
    _DROP,
)


def stream(version: int) -> socket.socket:
    """A blocking TCP socket whose calls raise BlockingIOError after a few seconds instead of hanging."""
    made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    limit = struct.pack("ll", _TIMEOUT_S, 0)
    # SO_*TIMEO and not settimeout(): a non-blocking sendto(MSG_FASTOPEN) without a cookie forgets the data.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return made


def listener(
    version: int,
    ip: str,
    port: int,
    queue: int | None = QUEUE,
    key: bytes | None = None,
    no_cookie: bool = False,
    drop: Filter | None = None,
    backlog: int = 128,
    shared: bool = False,
) -> socket.socket:
    """A listener in the calling thread's namespace; `queue` is the Fast Open qlen, None leaves Fast Open off.

    `shared`: others that share may listen there as well.
    """
    made = stream(version)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if version == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((ip, port))
    if queue is not None:
        made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, queue)
    if key is not None:
        set_key(made, key)
    if no_cookie:
        made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    if drop is not None:
        attach(made, drop)
    made.listen(backlog)
    return made


def set_key(target: socket.socket, key: bytes, backup: bytes = b"") -> None:
    """Give a listener its own cookie keys, 16 bytes each. It still accepts cookies of the backup key."""
    target.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_KEY, key + backup)


def attach(target: socket.socket, program: Filter) -> None:
    """Filter what arrives at a socket."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    target.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(buffer)))


def detach(target: socket.socket) -> None:
    """Remove the socket's filter."""
    target.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def reset(target: socket.socket) -> None:
    """Close with RST."""
    target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    target.close()
