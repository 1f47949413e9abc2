"""Two hosts in their own namespaces and real TCP connections between them, with and without Fast Open."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.netbox import NetBox
from tests.support.patience import SHORT_S

MSG_FASTOPEN = 0x20000000
TCP_FASTOPEN = 23
WIRE = "wire"  # the interface at both ends
ADDRESSES = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd00:99::1", "fd00:99::2")}  # client, server
REQUEST = b"GET / HTTP/1.1\r\nHost: host.test\r\n\r\n"
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_TEN_SECONDS = struct.pack("@ll", 10, 0)  # struct timeval


class Hosts:
    """`client` and `server`, joined by `join()`; Fast Open is on at both."""

    def __init__(self) -> None:
        self.client = NetBox()
        try:
            self.server = NetBox()
        except BaseException:
            self.client.close()
            raise
        for box in (self.client, self.server):
            box.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3", "net.ipv4.conf.all.rp_filter=0",
                    "net.ipv4.conf.default.rp_filter=0", "net.ipv6.conf.all.disable_ipv6=0",
                    "net.ipv6.conf.default.disable_ipv6=0", "net.ipv6.conf.default.accept_dad=0",
                    "net.ipv6.conf.default.router_solicitations=0", "net.ipv6.conf.default.accept_ra=0",
                    "net.ipv4.tcp_fastopen_blackhole_timeout_sec=0")  # fmt: skip
            box.run("ip", "link", "set", "lo", "up")

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def join(self, name: str = WIRE, addressed: bool = True) -> None:
        """A veth pair with this name at both ends, up."""
        self.client.run("ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", self.server.name)
        for box, number in ((self.client, 0), (self.server, 1)):
            box.run("ip", "link", "set", name, "up")
            if addressed:
                add_addresses(box, name, ADDRESSES[4][number], ADDRESSES[6][number])


def add_addresses(box: NetBox, interface: str, *addresses: str) -> None:
    for address in addresses:
        if ":" in address:
            box.run("ip", "address", "add", f"{address}/64", "dev", interface, "nodad")
        else:
            box.run("ip", "address", "add", f"{address}/24", "dev", interface)


@contextmanager
def two_hosts(joined: bool = True) -> Iterator[Hosts]:
    hosts = Hosts()
    try:
        if joined:
            hosts.join()
        yield hosts
    finally:
        hosts.close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@dataclass
class Service:
    """A listener, and clients of it: each exchange is a whole connection with an answer."""

    client: NetBox
    listener: socket.socket

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()[:2]
        return host, port

    def exchange(self, fast_open: bool = False, request: bytes = REQUEST, source: str = "") -> int:
        """Connect, ask, be answered, close; returns the client's port."""
        with self.client.inside():
            client = socket.socket(_family(self.address[0]), socket.SOCK_STREAM)
        with client:
            for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # settimeout() would make sendto(2) return early
                client.setsockopt(socket.SOL_SOCKET, limit, _TEN_SECONDS)
            client.bind((source, 0))
            if fast_open:
                client.sendto(request, MSG_FASTOPEN, self.address)
            else:
                client.connect(self.address)
                client.sendall(request)
            port: int = client.getsockname()[1]
            server, _ = self.listener.accept()
            with server:
                server.settimeout(SHORT_S)
                assert server.recv(len(request), socket.MSG_WAITALL) == request
                server.sendall(ANSWER)
            assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
        return port


@contextmanager
def service(client: NetBox, server: NetBox, address: str = ADDRESSES[4][1]) -> Iterator[Service]:
    """A listener with Fast Open at `address` of `server`, on a port that the kernel chose."""
    with server.inside():
        listener = socket.socket(_family(address), socket.SOCK_STREAM)
    with listener:
        listener.settimeout(SHORT_S)
        listener.bind((address, 0))
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
        listener.listen(16)
        yield Service(client, listener)


def tcp_counters(box: NetBox) -> dict[str, int]:
    """The TcpExt counters of a host (/proc/net/netstat)."""
    with box.inside():
        lines = Path("/proc/thread-self/net/netstat").read_text().splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("TcpExt:"))
    return dict(zip(names, map(int, values), strict=True))
