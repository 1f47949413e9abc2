"""What a run of a scenario uses: addresses, sockets on both hosts, hand-made ends. All are closed after it."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from tracer.lab import netns, sockets
from tracer.lab.packet import MSS_1460, Flag, Segment, decode, encode
from tracer.lab.payloads import HTTP_ANSWER, HTTP_REQUEST
from tracer.lab.topology import Namespaces, Place

PORT = 8443  # the scenario's own listener
PLAIN_PORT = 8080  # a second listener where a scenario needs one
_RECEIVE_S = 2.0


class RawEnd:
    """One end of a connection, with hand-made segments.

    The kernel on that host is quiet, because the port belongs to a listener that drops everything. A raw socket sees
    packets before that filter does (ip_local_deliver_finish).
    """

    def __init__(self, raw: socket.socket, local: tuple[str, int], remote_ip: str) -> None:
        self._raw = raw
        self.local_ip, self.port = local
        self._remote_ip = remote_ip

    def send(
        self,
        remote_port: int,
        flags: Flag,
        seq: int,
        ack: int = 0,
        options: bytes = b"",
        payload: bytes = b"",
    ) -> Segment:
        """Put one segment on the wire and return it."""
        segment = Segment(self.port, remote_port, seq, ack, flags, options, payload)
        self._raw.send(encode(segment, self.local_ip, self._remote_ip))
        return segment

    def receive(self, flags: Flag) -> Segment:
        """The next segment to this port with all of `flags`. Raises TimeoutError after two seconds."""
        deadline = time.monotonic() + _RECEIVE_S
        while (left := deadline - time.monotonic()) > 0:
            self._raw.settimeout(left)
            data = self._raw.recv(65536)
            if self._raw.family == socket.AF_INET:  # with the IP header, unlike IPv6
                data = data[(data[0] & 0x0F) * 4 :]
            segment = decode(data)
            if segment.target_port == self.port and segment.flags & flags == flags:
                return segment
        raise TimeoutError(f"no segment with {flags!r} arrived at port {self.port}")


class Stage(ExitStack):
    """One run of a scenario. Client sockets live in the calling thread's namespace, server sockets in the server's."""

    def __init__(self, version: int, client_ip: str, server_ip: str, place: Place, spaces: Namespaces) -> None:
        super().__init__()
        self.version = version
        self.client_ip = client_ip
        self.server_ip = server_ip
        self._space = spaces.far if place is Place.FAR else spaces.server

    def forget(self) -> None:
        """Make the client forget this server address: its cookie, its MSS, and to ask with kind 254."""
        from tracer.linux import tcp_metrics  # here, since only the lab's processes use pyroute2

        tcp_metrics.forget(self.server_ip)

    def listen(
        self,
        port: int = PORT,
        queue: int | None = sockets.QUEUE,
        key: bytes | None = None,
        no_cookie: bool = False,
        drop: sockets.Filter | None = None,
    ) -> socket.socket:
        """A listener at the scenario's server address; `queue` None = without Fast Open."""
        with netns.entered(self._space):
            made = sockets.listener(self.version, self.server_ip, port, queue, key, no_cookie, drop)
        return self.enter_context(made)

    def fast_open(
        self, port: int = PORT, data: bytes = HTTP_REQUEST, no_cookie: bool = False, wait: bool = True
    ) -> socket.socket:
        """A client that opens with MSG_FASTOPEN: it sends a cookie, or asks for one.

        With `wait`, this returns after the handshake, or at once if the SYN carried the data. Without, it returns at
        once, and does not send the data unless it has a cookie. Raises OSError if the server refuses.
        """
        there = (self.server_ip, port)
        return self._client(lambda client: client.sendto(data, sockets.MSG_FASTOPEN, there), wait, no_cookie)

    def connect(self, port: int = PORT, wait: bool = True) -> socket.socket:
        """A client with an ordinary handshake. Raises OSError if the server refuses."""
        return self._client(lambda client: client.connect((self.server_ip, port)), wait)

    def _client(self, begin: Callable[[socket.socket], object], wait: bool, no_cookie: bool = False) -> socket.socket:
        client = self.enter_context(sockets.stream(self.version))
        if no_cookie:
            client.setsockopt(socket.IPPROTO_TCP, sockets.TCP_FASTOPEN_NO_COOKIE, 1)
        client.setblocking(wait)
        try:
            begin(client)
        except BlockingIOError:
            if wait:
                raise
        client.setblocking(True)
        return client

    def serve(self, listener: socket.socket, client: socket.socket, expect: bytes = HTTP_REQUEST) -> None:
        """Play both ends after the handshake: receive the request, answer, close the client."""
        child, _ = listener.accept()
        with child:
            got = b""
            while len(got) < len(expect):
                more = child.recv(65536)
                if not more:
                    raise ConnectionError(f"the client ended after {len(got)} of {len(expect)} bytes")
                got += more
            if got != expect:
                raise ConnectionError("the server got other bytes than the client sent")
            child.sendall(HTTP_ANSWER)
            self.finish(client)

    def finish(self, client: socket.socket) -> None:
        """Read the start of the answer and close the client."""
        if not client.recv(65536):
            raise ConnectionError("the server closed without an answer")
        client.close()

    def prime(self, listener: socket.socket) -> None:
        """Make a first connection, after which the client has a cookie."""
        self.serve(listener, self.fast_open())

    def raw_server(self, port: int = PORT) -> RawEnd:
        """A server whose segments the scenario makes. The kernel there takes packets and answers nothing."""
        self.listen(port, queue=None, drop=sockets.DROP_ALL)
        with netns.entered(self._space):
            raw = self._raw_socket(self.server_ip, self.client_ip)
        return RawEnd(raw, (self.server_ip, port), self.client_ip)

    def raw_client(self, deaf: bool = True) -> RawEnd:
        """A client whose segments the scenario makes, on a free port. Without `deaf`, the kernel resets answers."""
        if deaf:
            holder = sockets.listener(self.version, self.client_ip, 0, queue=None, drop=sockets.DROP_ALL)
        else:
            holder = sockets.stream(self.version)
            holder.bind((self.client_ip, 0))  # reserves the port, takes no packets
        self.enter_context(holder)
        return self.raw_port(holder.getsockname()[1])

    def raw_port(self, port: int) -> RawEnd:
        """Hand-made segments from a client port that belongs to another socket."""
        return RawEnd(self._raw_socket(self.client_ip, self.server_ip), (self.client_ip, port), self.server_ip)

    def _raw_socket(self, local_ip: str, remote_ip: str) -> socket.socket:
        family = socket.AF_INET if self.version == 4 else socket.AF_INET6
        raw = self.enter_context(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP))
        raw.bind((local_ip, 0))
        raw.connect((remote_ip, 0))  # keeps out packets of other scenarios, as each has its own server address
        return raw


def isn() -> int:
    """A random initial sequence number."""
    return random.getrandbits(32)


def cookie_key() -> bytes:
    """A random key for TCP_FASTOPEN_KEY."""
    return os.urandom(16)


def answer_syn(server: RawEnd, syn: Segment, acked: int, options: bytes = b"", payload: bytes = b"") -> Segment:
    """Send a SYN-ACK that acks `acked` bytes of the SYN's data, and may carry data itself."""
    ack = syn.seq + 1 + acked
    return server.send(syn.source_port, Flag.SYN | Flag.ACK, isn(), ack, MSS_1460 + options, payload)


def talk_by_hand(server: RawEnd, syn: Segment, synack: Segment, client: socket.socket) -> None:
    """Go on after a hand-made SYN-ACK: take the client's ACK and all its data, answer, and let the client reset.

    The kernel behind `client` repeats what the SYN-ACK did not acknowledge.
    """
    wanted = (syn.seq + 1 + len(HTTP_REQUEST)) & 0xFFFFFFFF if syn.payload else syn.seq + 1
    while True:
        ack = server.receive(Flag.ACK)
        if ack.ack != synack.next_seq:
            raise ConnectionError(f"the client acked {ack.ack}, not {synack.next_seq}")
        if (ack.next_seq - wanted) & 0x80000000 == 0:
            break
    server.send(ack.source_port, Flag.PSH | Flag.ACK, synack.next_seq, ack.next_seq, payload=HTTP_ANSWER)
    if not client.recv(65536):
        raise ConnectionError("the client saw the end before the answer")
    sockets.reset(client)
    server.receive(Flag.RST)


def finish_by_hand(client: RawEnd, synack: Segment, listener: socket.socket) -> None:
    """Acknowledge the SYN-ACK by hand; then the server's real socket answers, and the client resets."""
    client.send(synack.source_port, Flag.ACK, synack.ack, synack.next_seq)
    child, _ = listener.accept()
    with child:
        child.sendall(HTTP_ANSWER)
        answer = client.receive(Flag.PSH)
        client.send(synack.source_port, Flag.RST | Flag.ACK, synack.ack, answer.next_seq)
