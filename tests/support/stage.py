"""What a scene uses (scenes.py): a service address of its own, sockets, nft rules, a look at the wire, forged segments.

Everything is closed after the handshakes of all scenes have been settled, so that no FIN of the end disturbs them.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count

from tests.support.hosts import ANSWER, MSG_FASTOPEN, REQUEST
from tests.support.netbox import NetBox, wait_until
from tests.support.packets import address, ipv4, ipv6
from tests.support.patience import SHORT_S
from tests.support.routed import TO_CLIENT, WIRE, Routed, service_address
from tracer.lab import sockets
from tracer.lab.packet import MSS_1460, Flag, Segment, decode, encode, internet_checksum
from tracer.lab.stage import RawEnd

PORT = 8443
BARE_SYN = "tcp flags & (syn|ack) == syn"  # ends of nft rules
SYN_ACK = "tcp flags & (syn|ack) == syn|ack"
AFTER_SYN = "tcp flags & syn == 0"
CLIENT_IPS = {4: "10.98.0.2", 6: "fd00:98:0::2"}
FAR_OFF = 1 << 30  # further than any window, in both directions
_TCP_SYNCNT, _TCP_INFO, _TCP_REPAIR = 7, 11, 19
_INFO_UNACKED = 24  # offset of tcpi_unacked: of a listener the length of its accept queue
_IPPROTO_RAW, _IPPROTO_ICMP = 255, 1
_PACKET_ANY = 3  # ETH_P_ALL
_tables = count()


class Forger:
    """A third host on the router, which sends segments in anybody's name."""

    def __init__(self, hosts: Routed) -> None:
        self.box = NetBox()
        try:
            self.box.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=0",
                         "net.ipv6.conf.default.accept_dad=0")  # fmt: skip
            hosts.router.run(
                "ip", "link", "add", "to-third", "type", "veth", "peer", "name", WIRE, "netns", self.box.name
            )
            for box, link, last in ((hosts.router, "to-third", 1), (self.box, WIRE, 2)):
                box.run("ip", "link", "set", link, "up")
                box.run("ip", "address", "add", f"10.98.9.{last}/24", "dev", link)
                box.run("ip", "address", "add", f"fd00:98:9::{last}/64", "dev", link, "nodad")
            self.box.run("ip", "route", "add", "default", "via", "10.98.9.1")
            self.box.run("ip", "-6", "route", "add", "default", "via", "fd00:98:9::1")
            with self.box.inside():
                self._raw = {
                    4: socket.socket(socket.AF_INET, socket.SOCK_RAW, _IPPROTO_RAW),
                    6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, _IPPROTO_RAW),
                }
        except BaseException:
            self.box.close()
            raise

    def close(self) -> None:
        for raw in self._raw.values():
            raw.close()
        self.box.close()

    def send(self, source: str, target: str, payload: bytes, protocol: int = socket.IPPROTO_TCP, ttl: int = 64) -> None:
        version = 6 if ":" in target else 4
        if version == 6:
            packet = ipv6(address(source), address(target), payload, protocol=protocol, hops=ttl)
        else:
            packet = ipv4(address(source), address(target), payload, protocol=protocol, ttl=ttl)
        self._raw[version].sendto(packet, (target, 0))


class Tap:
    """The segments of one service address on a host's wire, in both directions."""

    def __init__(self, box: NetBox, server: str) -> None:
        with box.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_PACKET_ANY))
        self._socket.bind((WIRE, _PACKET_ANY))
        self._server = socket.inet_pton(socket.AF_INET6 if ":" in server else socket.AF_INET, server)

    def close(self) -> None:
        self._socket.close()

    def next(self, flags: Flag, without: int = 0, match: Callable[[Segment], bool] = lambda _: True) -> Segment:
        """The next segment with all of `flags` and none of `without`."""
        deadline = time.monotonic() + SHORT_S
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                packet = self._socket.recv(65536)
            except TimeoutError:
                break
            found = self._segment(packet)
            if found is not None and found.flags & flags == flags and not found.flags & without and match(found):
                return found
        raise AssertionError(f"no segment with {flags!r} on the wire")

    def _segment(self, packet: bytes) -> Segment | None:
        if packet[0] >> 4 == 4:
            protocol, ends = packet[9], packet[12:20]
            start, end = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        else:
            protocol, ends = packet[6], packet[8:40]
            start, end = 40, 40 + int.from_bytes(packet[4:6], "big")
        half = len(ends) // 2
        if protocol != socket.IPPROTO_TCP or self._server not in (ends[:half], ends[half:]):
            return None
        return decode(packet[start:end])


class Stage(ExitStack):
    """One scene's part of the hosts."""

    def __init__(self, hosts: Routed, forger: Forger, number: int, version: int, told: Callable[[], int]) -> None:
        super().__init__()
        self.told = told  # how many records of this scene there are at the first place
        self.hosts = hosts
        self.version = version
        self.server_ip = service_address(number, version)
        self.client_ip = CLIENT_IPS[version]
        protocol = "ip" if version == 4 else "ip6"
        self.to_server = f"{protocol} daddr {self.server_ip}"  # beginnings of nft rules
        self.to_client = f"{protocol} saddr {self.server_ip}"
        self._forger = forger

    # --- sockets ---

    def listen(
        self,
        queue: int | None = 64,
        backlog: int = 64,
        synack_retries: int | None = None,
        box: NetBox | None = None,
    ) -> socket.socket:
        """A listener, at the first server unless `box` says where; `queue` None leaves Fast Open off."""
        made = self.enter_context(self.hosts.listen(box or self.hosts.first, self.server_ip, PORT, queue, backlog))
        if synack_retries is not None:
            made.setsockopt(socket.IPPROTO_TCP, _TCP_SYNCNT, synack_retries)
        return made

    def client_socket(self, port: int = 0) -> socket.socket:
        """A client's socket, bound to a port."""
        with self.hosts.client.inside():
            made = sockets.stream(self.version)
        self.enter_context(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self.client_ip, port))
        return made

    def connect(self, port: int = 0) -> socket.socket:
        """A client with an ordinary handshake."""
        made = self.client_socket(port)
        self.dial(made)
        return made

    def begin(self) -> socket.socket:
        """A client that has sent its SYN; to send the request it waits for the end of the handshake."""
        made = self.client_socket()
        made.setblocking(False)
        with suppress(BlockingIOError):
            self.dial(made)
        made.settimeout(SHORT_S)
        return made

    def dial(self, client: socket.socket) -> None:
        client.connect((self.server_ip, PORT))

    def fast_open(self, client: socket.socket | None = None, wait: bool = True) -> socket.socket:
        """A client that opens with MSG_FASTOPEN: it asks for a cookie, or uses the one that it has. Without `wait` this
        does not wait for the end of the handshake, and needs the cookie."""
        made = client or self.client_socket()
        made.sendto(REQUEST, MSG_FASTOPEN | (0 if wait else socket.MSG_DONTWAIT), (self.server_ip, PORT))
        return made

    def accept(self, listener: socket.socket, read: int = len(REQUEST)) -> socket.socket:
        """The server's end, after `read` bytes of a request."""
        child = self.enter_context(listener.accept()[0])
        child.settimeout(SHORT_S)
        if read:
            assert len(child.recv(read, socket.MSG_WAITALL)) == read
        return child

    def answer(self, child: socket.socket, client: socket.socket) -> None:
        """The server answers, and the client gets it."""
        child.sendall(ANSWER)
        assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER

    def fast_open_without_cookie(self) -> socket.socket:
        """A client whose SYN has data, but no option."""
        made = self.client_socket()
        made.setsockopt(socket.IPPROTO_TCP, sockets.TCP_FASTOPEN_NO_COOKIE, 1)
        return self.fast_open(made, wait=False)

    def prime(self, listener: socket.socket) -> None:
        """A whole connection, after which the client has a cookie."""
        client = self.fast_open()
        self.answer(self.accept(listener), client)

    def finish(self, listener: socket.socket, client: socket.socket, ask: bool = True) -> None:
        """The request and its answer."""
        if ask:
            client.sendall(REQUEST)
        self.answer(self.accept(listener), client)

    def vanish(self, client: socket.socket) -> int:
        """Let a client's end vanish without FIN or RST; returns its port."""
        port: int = client.getsockname()[1]
        client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        client.close()
        return port

    def raw_server(self) -> RawEnd:
        """A server whose segments the scene makes; the kernel takes packets and answers nothing."""
        with self.hosts.first.inside():
            self.enter_context(sockets.listener(self.version, self.server_ip, PORT, queue=None, drop=sockets.DROP_ALL))
            raw = self._raw(self.server_ip, self.client_ip)
        return RawEnd(raw, (self.server_ip, PORT), self.client_ip)

    def raw_client(self) -> RawEnd:
        """A client whose segments the scene makes, at a port where the kernel answers nothing."""
        with self.hosts.client.inside():
            holder = sockets.listener(self.version, self.client_ip, 0, queue=None, drop=sockets.DROP_ALL)
            self.enter_context(holder)
            raw = self._raw(self.client_ip, self.server_ip)
        return RawEnd(raw, (self.client_ip, holder.getsockname()[1]), self.server_ip)

    def raw_port(self, port: int) -> RawEnd:
        """Segments that the scene makes from a client's port which belongs to another socket, or to none."""
        with self.hosts.client.inside():
            raw = self._raw(self.client_ip, self.server_ip)
        return RawEnd(raw, (self.client_ip, port), self.server_ip)

    def _raw(self, local: str, remote: str) -> socket.socket:
        family = socket.AF_INET if self.version == 4 else socket.AF_INET6
        raw = self.enter_context(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP))
        raw.bind((local, 0))
        raw.connect((remote, 0))
        return raw

    # --- the path ---

    @contextmanager
    def rules(self, box: NetBox, hook: str, *rules: str) -> Iterator[None]:
        """nft rules at a hook (input, forward), which may use the set @ports, and their removal."""
        table = f"scene-{next(_tables)}"
        ports = "set ports { type inet_service; flags dynamic; size 64; }"
        chain = f"chain c {{ type filter hook {hook} priority 0; {'; '.join(rules)}; }}"
        box.run("nft", f"table inet {table} {{ {ports}; {chain}; }}")
        try:
            yield
        finally:
            box.run("nft", "delete", "table", "inet", table)

    def drop(self, box: NetBox, hook: str, match: str) -> ExitStack:
        """Drop what matches, until the end or until this is closed."""
        stack = self.enter_context(ExitStack())
        stack.enter_context(self.rules(box, hook, f"{match} drop"))
        return stack

    def drop_first(self, match: str, port: str = "tcp sport", verdict: str = "drop") -> None:
        """The router drops the first packet that matches, of each client; `port` is where the client's stands."""
        first = f"{match} add @ports {{ {port} }} {verdict}"
        self.enter_context(self.rules(self.hosts.router, "forward", f"{match} {port} @ports accept", first))

    def hold(self, match: str) -> ExitStack:
        """The router drops what comes from the client and matches, until this is closed."""
        return self.drop(self.hosts.router, "forward", f"iifname {TO_CLIENT} {self.to_server} {match}")

    def drop_after_the_synack(self) -> None:
        """The router lets pass the SYN and one SYN-ACK of each client, and nothing after it."""
        self.enter_context(
            self.rules(
                self.hosts.router, "forward",
                f"{self.to_server} tcp sport @ports drop",
                f"{self.to_client} tcp dport @ports drop",
                f"{self.to_client} {SYN_ACK} add @ports {{ tcp dport }} accept",
            )
        )  # fmt: skip

    def tap(self, box: NetBox) -> Tap:
        made = Tap(box, self.server_ip)
        self.callback(made.close)
        return made

    # --- a third host ---

    def forge_from_server(self, port: int, flags: Flag, seq: int, ack: int = 0) -> None:
        """To the client, in the server's name; returns when the client's host has it."""
        self._forge(Segment(PORT, port, seq, ack, flags, _options(flags)), self.server_ip, self.client_ip)

    def forge_from_client(self, port: int, flags: Flag, seq: int, ack: int = 0) -> None:
        """To the server, in the client's name; returns when the server's host has it."""
        self._forge(Segment(port, PORT, seq, ack, flags, _options(flags)), self.client_ip, self.server_ip)

    def _forge(self, segment: Segment, source: str, target: str) -> None:
        tap = self.tap(self.hosts.first if target == self.server_ip else self.hosts.client)
        self._forger.send(source, target, encode(segment, source, target))
        tap.next(segment.flags, match=lambda one: one.seq == segment.seq & 0xFFFFFFFF)

    def forge_unreachable(self, port: int, seq: int) -> None:
        """An ICMP error that quotes a SYN of this number, from the server to the client (IPv4)."""
        quoted = ipv4(
            address(self.client_ip), address(self.server_ip), struct.pack("!HHI", port, PORT, seq & 0xFFFFFFFF)
        )
        body = struct.pack("!BBHI", 3, 3, 0, 0) + quoted
        body = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
        self._forger.send(self.server_ip, self.client_ip, body, _IPPROTO_ICMP)


def _options(flags: Flag) -> bytes:
    return MSS_1460 if Flag.SYN in flags else b""


def nothing_for(seconds: float, end: socket.socket) -> None:
    """Let time pass in which the other end must say nothing."""
    end.settimeout(seconds)
    with suppress(TimeoutError):
        raise AssertionError(f"the other end said {end.recv(1)!r}")
    end.settimeout(SHORT_S)


def accept_queue(listener: socket.socket) -> int:
    """How many connections wait to be accepted."""
    info = listener.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 104)
    return int(struct.unpack_from("=I", info, _INFO_UNACKED)[0])


def wait_for_queue(listener: socket.socket, length: int) -> None:
    wait_until(lambda: accept_queue(listener) == length, "the accept queue")


SYN_OPTIONS = MSS_1460
reset = sockets.reset
