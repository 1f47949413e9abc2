"""What the root part and the user part say to each other: msgpack over a SOCK_SEQPACKET pair, descriptors beside it.

Root -> user: Ready once, then Counters every sweep, Host every second, Interfaces, Addresses and Notice as things
change, an Answer to each Ask, Owners to each WhoHolds, Ended last; or Failed. User -> root: Ask, WhoHolds, Stop. In a
replay also Frames, each answered by FramesDone. The death of either end is the end of file at the other.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import TypeAlias

import msgspec

from tracer.errors import EndedEarlyError
from tracer.ipc.traced import TracedInterface
from tracer.vocabulary.vocabulary import Transport

MESSAGE_MAX = 1 << 20  # bytes: thousands of interfaces or addresses
_SO_SNDBUFFORCE = 32
DESCRIPTORS_MAX = 250  # SCM_MAX_FD is 253


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Every program is attached. Descriptors: of the rings for events, payloads and (if asked for) packets; perf: one
    of each a CPU."""

    interfaces: list[TracedInterface]
    transport: Transport
    event_ring_bytes: int
    payload_ring_bytes: int
    table_size: int
    packet_ring_bytes: int = 0  # there are packets


class Addresses(msgspec.Struct, tag=True, frozen=True):
    """Addresses local to the traced namespace, 16 bytes each, and networks all of which is local (127.0.0.0/8)."""

    addresses: list[bytes]
    networks: list[tuple[bytes, int]] = []


class Interfaces(msgspec.Struct, tag=True, frozen=True):
    """The interfaces traced from now on."""

    interfaces: list[TracedInterface]


class Counters(msgspec.Struct, tag=True, frozen=True):
    """Sums over all CPUs by name (struct counters), and the entries that were open in the last sweep."""

    values: dict[str, int]
    still_open: int


class Host(msgspec.Struct, tag=True, frozen=True):
    """The traced namespace's own counters and sysctls (tracer/linux/hoststate.py).

    `begun_ns`, `taken_ns`: CLOCK_MONOTONIC before and after they were read (`begun_ns` 0: at once); `key_changes`: how
    often other Fast Open keys than before were seen.
    """

    counters: dict[str, int]
    sysctls: dict[str, str]
    taken_ns: int = 0
    key_changes: int = 0
    begun_ns: int = 0


class Answer(msgspec.Struct, tag=True, frozen=True):
    """To an Ask: the host's state as of now, and CookieCheck numbers for its cookies; fewer if there were too many."""

    serial: int
    host: Host
    checks: list[int]


class Notice(msgspec.Struct, tag=True, frozen=True):
    """Something people want to know: one sentence, and a word for programs."""

    kind: str
    text: str
    interface: str | None = None


class Failed(msgspec.Struct, tag=True, frozen=True):
    """Tracing could not begin, or had to end: the sentence and the exit code."""

    text: str
    exit_code: int


class Ended(msgspec.Struct, tag=True, frozen=True):
    """Detached, all entries flushed into the ring: the last sums. `reason` is set if not the user part asked."""

    values: dict[str, int]
    still_open: int
    reason: str | None = None
    exit_code: int = 0


class SocketOwner(msgspec.Struct, frozen=True):
    """The process that holds a socket, by the number of the socket's inode; pid 0: nobody was found, or too many."""

    socket: int
    pid: int = 0
    name: str = ""
    uid: int = 0
    cgroup: str | None = None


class Owners(msgspec.Struct, tag=True, frozen=True):
    """What was found, after the question of that number came; names of cgroups by their numbers, None = not known."""

    number: int
    sockets: list[SocketOwner]
    cgroups: dict[int, str | None]


class WhoHolds(msgspec.Struct, tag=True, frozen=True):
    """Who holds these sockets, and what are these cgroups called? Questions are numbered upwards from 1."""

    number: int
    sockets: list[int]
    cgroups: list[int]


class Stop(msgspec.Struct, tag=True, frozen=True):
    """Detach, flush, say Ended."""


class Frames(msgspec.Struct, tag=True, frozen=True):
    """Replay: packets wait in the shared slot, as tracer/linux/libpcap.py's Dump writes them, up to byte `end`.

    `word`, where it is not 0, says for all of them what otherwise each says in its last header field
    (replay/root_part.py).
    """

    slot: int
    end: int
    ethernet: bool
    word: int = 0


class FramesDone(msgspec.Struct, tag=True, frozen=True):
    """Replay: every packet of the slot went through the programs. `refused`: too short, or not taken by the kernel."""

    slot: int
    packets: int
    refused: int


class CookieQuestion(msgspec.Struct, array_like=True, frozen=True):
    """Is this the cookie that the host's keys make for these addresses (16 bytes each)?

    `given` is the cookie of the SYN-ACK, empty if there was none; `accepted`: the SYN's data was acked.
    """

    client: bytes
    server: bytes
    cookie: bytes
    given: bytes
    accepted: bool
    syn_ns: int


class Ask(msgspec.Struct, tag=True, frozen=True):
    """How does the host stand now, and what of these cookies? Root answers by an Answer of the same serial."""

    serial: int
    cookies: list[CookieQuestion] = []


ToUser: TypeAlias = (
    Ready | Addresses | Interfaces | Counters | Host | Answer | Notice | Failed | Ended | Owners | FramesDone
)
ToRoot: TypeAlias = Stop | Ask | WhoHolds | Frames

_encoder = msgspec.msgpack.Encoder()
_from_root: msgspec.msgpack.Decoder[ToUser] = msgspec.msgpack.Decoder(ToUser)
_from_user: msgspec.msgpack.Decoder[ToRoot] = msgspec.msgpack.Decoder(ToRoot)


class Channel:
    """One end of the pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        """For poll: readable when a message or the end is there."""
        return self._socket.fileno()

    def send(self, message: ToUser | ToRoot, fds: list[int] | None = None) -> bool:
        """Send one message; False if the other end is gone."""
        try:
            socket.send_fds(self._socket, [_encoder.encode(message)], fds or [])
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def offer(self, message: ToUser | ToRoot) -> bool:
        """Send unless the other end is not reading just now (stopped, say): then False, and nothing was sent."""
        try:
            self._socket.send(_encoder.encode(message), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            return True  # nobody is left to read it, which the next poll tells
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return True  # it will never fit; a later one may
        return True

    def _receive(self) -> tuple[bytes, list[int]]:
        for _ in range(2):
            # an end that closes without having read everything resets the other: once, ahead of what it sent before
            with suppress(ConnectionResetError):
                data, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_MAX, DESCRIPTORS_MAX)
                return data, list(fds)
        return b"", []

    def from_root(self) -> tuple[ToUser | None, list[int]]:
        """The next message of the root part and its descriptors; None at its end.

        Raises:
            EndedEarlyError: it is none.
        """
        data, fds = self._receive()
        try:
            return (_from_root.decode(data) if data else None), fds
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            for fd in fds:
                os.close(fd)
            raise EndedEarlyError("the root part said what this version does not understand") from None

    def from_user(self) -> ToRoot | None:
        """The next message of the user part; None at its end. Descriptors are not expected and closed.

        Raises:
            EndedEarlyError: it is none: who parses strangers' bytes may have been taken over by them.
        """
        data, fds = self._receive()
        for fd in fds:
            os.close(fd)
        try:
            return _from_user.decode(data) if data else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise EndedEarlyError("the user part said what the root part does not understand") from None

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def channel_pair() -> tuple[Channel, Channel]:
    """Both ends: root's and the user part's."""
    root, user = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with suppress(
        OSError
    ):  # the largest message is what the send buffer holds; without the right to, the default stays
        root.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, MESSAGE_MAX)
    return Channel(root), Channel(user)
