"""What the kernel says of sockets, as bytes."""

from __future__ import annotations

import socket
import struct

import pytest

from tracer.linux import netlink, sock_diag
from tracer.linux.sock_diag import ClientInfo, Listener, says_client_fail
from tracer.vocabulary.addresses import IPV4_MAPPED

CLIENT, SERVER = IPV4_MAPPED + b"\x0a\0\0\1", IPV4_MAPPED + b"\x0a\0\0\2"


def message(family: int, state: int, ends: tuple[bytes, int, bytes, int], *attributes: bytes, device: int = 0) -> bytes:
    own, port, peer, peer_port = ends
    packed = [end[12:].ljust(16, b"\0") if family == socket.AF_INET else end for end in (own, peer)]
    head = struct.pack("=BBBB", family, state, 0, 0) + struct.pack("!HH", port, peer_port) + packed[0] + packed[1]
    rest = struct.pack("=I8sIIIII", device, bytes(8), 0, 0, 0, 33, 77)
    return head + rest + b"".join(attributes)


def info(options: int, fail: int, size: int = 104) -> bytes:
    raw = bytearray(size)
    raw[5:8] = bytes((options, 0, fail << sock_diag._FAIL_SHIFT | 0x81))[:3]
    return netlink.attribute(2, bytes(raw[:size]))


def parsed(payload: bytes) -> ClientInfo | None:
    return sock_diag._parsed_client(payload, CLIENT, 4000, SERVER, 443)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize(("options", "fail"), [(0, 0), (32, 0), (7, 1), (39, 2), (0, 3)])
def test_a_clients_word(family: int, options: int, fail: int) -> None:
    found = parsed(message(family, 1, (CLIENT, 4000, SERVER, 443), info(options, fail)))
    assert found == ClientInfo(fail, bool(options & 32))


def test_no_word() -> None:
    ends = (CLIENT, 4000, SERVER, 443)
    assert parsed(message(socket.AF_INET, 10, ends, info(0, 1))) is None  # a listener
    assert parsed(message(socket.AF_INET, 1, (CLIENT, 4001, SERVER, 443), info(0, 1))) is None
    assert parsed(message(socket.AF_INET, 6, ends)) is None  # TIME_WAIT has no TCP_INFO
    assert parsed(message(socket.AF_INET, 1, ends, info(0, 1, 7))) is None
    assert parsed(b"") is None


def test_listeners() -> None:
    nobody = (bytes(16), 0)
    payloads = [
        message(socket.AF_INET, 10, (SERVER, 443, *nobody), device=3),
        message(socket.AF_INET6, 10, (bytes(16), 443, *nobody), netlink.attribute(11, b"\0")),
        message(socket.AF_INET6, 10, (bytes(16), 80, *nobody), netlink.attribute(11, b"\1")),
        message(socket.AF_INET, 1, (SERVER, 443, CLIENT, 4000)),
        b"",
    ]
    answers = [netlink.Message(20, 2, payload) for payload in payloads]
    assert list(sock_diag._parsed_listeners([*answers, netlink.Message(3, 2, payloads[0])])) == [
        Listener(socket.AF_INET, SERVER, 443, 77, None, 3),
        Listener(socket.AF_INET6, bytes(16), 443, 77, False),
        Listener(socket.AF_INET6, bytes(16), 80, 77, True),
    ]


@pytest.mark.parametrize(
    ("release", "says"),
    [("5.4.0-150-generic", False), ("5.5.0", True), ("6.1.0-18-amd64", True), ("5.10", True), ("5.15-rc1", True),
     ("4.19.0", False), ("odd", False)],
)  # fmt: skip
def test_since_when_the_kernel_says_why(release: str, says: bool) -> None:
    assert says_client_fail(release) is says
