"""One ordinary connection by a socket of the kernel, with Fast Open or without, closed by FIN."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from contextlib import suppress

from tracer.lab.payloads import ClientHello, client_tls
from tracer.lab.sockets import TCP_FASTOPEN_NO_COOKIE
from tracer.linux.ecn_sockets import EcnSockets
from tracer.probe.model import Asks, Connection, Payload, Target
from tracer.version import __version__
from tracer.vocabulary.vocabulary import ClientFail

_TCP_INFO, _TCP_FASTOPEN_CONNECT = 11, 30  # include/uapi/linux/tcp.h
_IPPROTO_MPTCP = 262
_SYN_SENT, _CLOSE = 2, 7  # tcpi_state
# the byte of tcpi_delivery_rate_app_limited:1 and tcpi_fastopen_client_fail:2
_FAIL, _FAIL_SHIFT = 7, 1 if sys.byteorder == "little" else 5
_DRAINED_MAX = 1 << 20  # bytes of an answer that are read so that the end is no RST
_DRAIN_S = 2.0
_DISCARD_PORT = 9

Address = tuple[str, int] | tuple[str, int, int, int]  # as the socket module has it


class Payloads:
    """The first bytes for a target, anew for each connection."""

    def __init__(self, kind: Payload, target: Target) -> None:
        self._kind, self._target = kind, target
        self._tls = client_tls() if kind is Payload.TLS else None

    def next(self) -> bytes:
        """Raises ValueError where the name fits into no request."""
        if self._tls is not None:
            return ClientHello(self._tls, self._target.host.partition("%")[0]).first_flight
        if self._kind is Payload.NONE:
            return b""
        host, port = self._target.host.partition("%")[0], self._target.port
        name = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
        if not name.isprintable() or " " in name:
            raise ValueError("the name has characters that no request may have")
        shown = name if port == 80 else f"{name}:{port}"
        lines = (
            "HEAD / HTTP/1.1",
            f"Host: {shown}",
            f"User-Agent: tfotrace/{__version__}",
            "Connection: close",
            "",
            "",
        )
        return "\r\n".join(lines).encode("ascii")


def source_for(address: Address, interface: str | None) -> str:
    """The address that this host would use to reach another one. Raises OSError where there is no way."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as asking:  # sends nothing
        _bind_to(asking, interface)
        asking.connect((address[0], _DISCARD_PORT, *address[2:]))
        return str(asking.getsockname()[0])


def connect(
    address: Address,
    asks: Asks,
    payload: bytes,
    timeout_s: float,
    interface: str | None = None,
    ecn: EcnSockets | None = None,
) -> Connection:
    """Connect, send, wait for the first bytes of an answer, close. What fails is told in the result.

    `ecn` makes the socket where the connection asks for ECN.
    """
    made = Connection(asks, _plain(address))
    try:
        source = source_for(address, interface)
        with _socket(address, asks, ecn) as sock:
            limits = _timeval(timeout_s)
            # not settimeout(): with it the kernel would forget the SYN's data where it has no cookie
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limits)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limits)
            _bind_to(sock, interface)
            sock.bind((source, 0, *address[2:]))
            made.source = _plain(sock.getsockname())
            if asks in (Asks.FAST_OPEN, Asks.SYN_DATA):
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_CONNECT, 1)
            if asks is Asks.SYN_DATA:
                sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
            try:
                sock.connect(address)
                sock.sendall(payload) if payload else sock.send(b"")  # where a cookie is known, this sends the SYN
                made.connected = True
                made.answered = bool(payload and sock.recv(65536))
            except OSError as error:
                made.error = _number(error)
            info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _FAIL + 1)
            made.connected = made.connected or info[0] not in (_SYN_SENT, _CLOSE)
            made.client_fail = ClientFail(info[_FAIL] >> _FAIL_SHIFT & 3)
            _close(sock)
    except OSError as error:
        made.error = _number(error)
    return made


def _socket(address: Address, asks: Asks, ecn: EcnSockets | None) -> socket.socket:
    family = _family(address)
    if asks is Asks.ECN:
        if ecn is None:
            raise OSError(errno.EOPNOTSUPP, "no sockets that ask for ECN")
        return ecn.make(family)
    return socket.socket(family, socket.SOCK_STREAM, _IPPROTO_MPTCP if asks is Asks.MPTCP else 0)


def _close(sock: socket.socket) -> None:
    """By FIN: an answer that nobody read would make it RST."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        deadline, left = time.monotonic() + _DRAIN_S, _DRAINED_MAX
        while left > 0 and (seconds := deadline - time.monotonic()) > 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
            got = len(sock.recv(65536))
            if not got:
                return
            left -= got


def _timeval(seconds: float) -> bytes:
    """struct timeval; 0 would mean no limit."""
    return struct.pack("@ll", *divmod(max(1, int(seconds * 1e6)), 1_000_000))


def _number(error: OSError) -> int:
    """An errno; that of a time that ran out is always ETIMEDOUT."""
    return errno.ETIMEDOUT if isinstance(error, BlockingIOError) else error.errno or errno.EIO


def _plain(address: Address) -> tuple[str, int]:
    return address[0].partition("%")[0], address[1]


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if len(address) == 4 else socket.AF_INET


def _bind_to(sock: socket.socket, interface: str | None) -> None:
    if interface is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(interface) + b"\0")
