"""Messages between the root part and the user part: msgpack over a SOCK_SEQPACKET pair, with descriptors.

Root -> user: InterfacesChanged with what does not fit into Ready, Ready once, then Counters at every sweep, Host and
RootCost every second, InterfacesChanged, Addresses and Notice when things change, a HostAnswer to each HostQuestion,
an OwnerAnswer to each OwnerQuestion, PlaceAnswers to PlaceQuestions, an OpenAnswer to each OpenQuestion, and Ended
last; or Failed. User -> root: HostQuestion, OwnerQuestion, PlaceQuestion, OpenQuestion, Stop. In a replay also
Frames, each answered by FramesDone. If one end dies, the other sees the end of file.
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
from tracer.records.interface_sums import InterfaceSums
from tracer.records.without import Without
from tracer.vocabulary.vocabulary import Transport

MESSAGE_MAX = 1 << 20  # bytes: thousands of addresses
INTERFACES_TOLD = 200  # in one message: some 60 kB, which the socket takes without a larger buffer, too
_SO_SNDBUFFORCE = 32
DESCRIPTORS_MAX = 250  # SCM_MAX_FD is 253


class Evidence(msgspec.Struct, frozen=True):
    """What the kernel says of dropped segments and resets, by the programs of bpf/drops.bpf.c.

    Names of reasons by number, empty where the kernel gives none; `places`: it shows where it dropped; `netns`: inode
    number of the traced namespace. Without any of it `why` says why, unless it was not asked for.
    """

    ring_bytes: int = 0  # 0: nothing is heard
    drop_reasons: dict[int, str] = {}
    reset_reasons: dict[int, str] = {}
    places: bool = False
    netns: int = 0
    why: str = ""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Every program is attached. Descriptors: the rings for events, payloads and, if requested, packets; for perf one
    of each per CPU. Last, the ring for drops, if there is evidence."""

    interfaces: list[TracedInterface]
    transport: Transport
    event_ring_bytes: int
    payload_ring_bytes: int
    table_size: int
    packet_ring_bytes: int = 0  # 0: no packets
    evidence: Evidence = Evidence()
    without: list[Without] = []  # what this run lacks


class Addresses(msgspec.Struct, tag=True, frozen=True):
    """Addresses local to the traced namespace, 16 bytes each, and networks that are local as a whole (127.0.0.0/8).

    `taken_ns`: CLOCK_MONOTONIC when they were read; 0: always so.
    """

    addresses: list[bytes]
    networks: list[tuple[bytes, int]] = []
    taken_ns: int = 0


class InterfacesChanged(msgspec.Struct, tag=True, frozen=True):
    """Interfaces that are traced from now on, or whose name, hook or MTU changed; and indexes of those that are not."""

    there: list[TracedInterface]
    gone: list[int] = []


class Counters(msgspec.Struct, tag=True, frozen=True):
    """Sums over all CPUs by name (struct counters), and the entries still open in the last sweep."""

    values: dict[str, int]
    still_open: int


class Host(msgspec.Struct, tag=True, frozen=True):
    """The traced namespace's counters and sysctls (tracer/linux/hoststate.py).

    `begun_ns`, `taken_ns`: CLOCK_MONOTONIC before and after the reading (`begun_ns` 0: the same); `key_changes`: how
    often the Fast Open keys were seen to change.
    """

    counters: dict[str, int]
    sysctls: dict[str, str]
    taken_ns: int = 0
    key_changes: int = 0
    begun_ns: int = 0


class RootCost(msgspec.Struct, tag=True, frozen=True):
    """CPU time of the root part and of its children that have ended, microseconds; `taken_ns`: CLOCK_MONOTONIC.

    `programs`: runs and nanoseconds of each program that ran; None where the kernel does not measure them.
    """

    taken_ns: int
    cpu_us: float
    loading_cpu_us: float
    programs: dict[str, tuple[int, int]] | None = None


class Drops(msgspec.Struct, array_like=True, frozen=True):
    """A listener dropped segments between these times (CLOCK_MONOTONIC); `alone`: no other one did."""

    after_ns: int
    until_ns: int
    alone: bool


class FullQueue(msgspec.Struct, array_like=True, frozen=True):
    """A listener's accept queue was seen full."""

    seen_ns: int
    queued: int
    backlog: int


class QueueAnswer(msgspec.Struct, array_like=True, frozen=True):
    """A listening socket: how many connections wait to be accepted, and how many may.

    `full`: when it was last seen full. `known_ns`: from when until when each of its drops is known, the latest of which
    are in `dropped`; None: they are not known.
    """

    inode: int
    address: bytes
    port: int
    queued: int
    backlog: int
    full: FullQueue | None = None
    known_ns: tuple[int, int] | None = None
    dropped: list[Drops] = []


class ListenerAnswer(msgspec.Struct, array_like=True, frozen=True):
    """The sockets of the traced namespace that listen for a SYN, and whether the host sends that SYN elsewhere.

    `sockets`: how many; None if that is not known. `queues`: their TCP_FASTOPEN queue lengths, without those that
    cannot be read. `translated`: conntrack has the connection with another destination; None if that is not known.
    `leaves_by`: the interface by which the host would answer; 0: it has no route; None if that is not known.
    `accept`: their accept queues, as far as they are known; `alone`: nobody else listens on this host; `defers`: one of
    them has TCP_DEFER_ACCEPT.
    """

    sockets: int | None = None
    queues: list[int] = []
    translated: bool | None = None
    leaves_by: int | None = None
    accept: list[QueueAnswer] = []
    alone: bool = False
    defers: bool | None = None


class ClientAnswer(msgspec.Struct, array_like=True, frozen=True):
    """What the client's socket says: ClientFail, and whether the SYN's data was acked (TCPI_OPT_SYN_DATA)."""

    fail: int
    syn_data_acked: bool


class HostAnswer(msgspec.Struct, tag=True, frozen=True):
    """The host's state now, and an answer to each question in order; fewer if there were too many.

    `checks` are CookieCheck numbers, `origins` CookieOrigin numbers of the same cookies; a client is None whose socket
    is gone. `ways`: the interfaces by which forwarded SYNs leave; 0: the host does not pass it on; None
    where that is not known.
    """

    serial: int
    host: Host
    checks: list[int] = []
    origins: list[int] = []
    listeners: list[ListenerAnswer] = []
    clients: list[ClientAnswer | None] = []
    ways: list[int | None] = []


class Notice(msgspec.Struct, tag=True, frozen=True):
    """News for people: one sentence, and a word for programs."""

    kind: str
    text: str
    interface: str | None = None


class Failed(msgspec.Struct, tag=True, frozen=True):
    """Tracing could not start or had to end: the sentence and the exit code."""

    text: str
    exit_code: int


class Ended(msgspec.Struct, tag=True, frozen=True):
    """Detached, with all entries flushed into the ring: the last sums. `reason` is set unless the user part asked.

    `interfaces` is None in a replay.
    """

    values: dict[str, int]
    still_open: int
    reason: str | None = None
    exit_code: int = 0
    interfaces: InterfaceSums | None = None


class SocketOwner(msgspec.Struct, frozen=True):
    """The process that owns a socket, given by its inode number; pid 0: none was found, or too many."""

    socket: int
    pid: int = 0
    name: str = ""
    uid: int = 0
    cgroup: str | None = None


class OwnerAnswer(msgspec.Struct, tag=True, frozen=True):
    """Answers the OwnerQuestion of that number; names of cgroups by their numbers, None = unknown."""

    number: int
    sockets: list[SocketOwner]
    cgroups: dict[int, str | None]


class OwnerQuestion(msgspec.Struct, tag=True, frozen=True):
    """Asks who owns these sockets and what these cgroups are called. Questions are numbered from 1."""

    number: int
    sockets: list[int]
    cgroups: list[int]


class PlaceQuestion(msgspec.Struct, tag=True, frozen=True):
    """Asks in which functions of the kernel these addresses lie."""

    addresses: list[int]


class PlaceAnswer(msgspec.Struct, tag=True, frozen=True):
    """The functions' names; None = unknown."""

    names: dict[int, str | None]


class OpenQuestion(msgspec.Struct, tag=True, frozen=True):
    """Asks whether the pending table has entries that look like these: set, and tag within it (struct drop_event).

    And what the clients' sockets of these handshakes say.
    """

    number: int
    entries: list[tuple[int, int]]
    clients: list[FlowQuestion] = []


class OpenAnswer(msgspec.Struct, tag=True, frozen=True):
    """Answers the OpenQuestion of that number, in its order. No is certain, yes may be another connection.

    `syns`: how many SYNs each client's socket has sent; 0: there is none, -1: it was answered, None: not known.
    """

    number: int
    are_open: list[bool]
    syns: list[int | None] = []


class Stop(msgspec.Struct, tag=True, frozen=True):
    """Detach, flush, say Ended."""


class FrameInterface(msgspec.Struct, array_like=True, frozen=True):
    """Replay: a number for packets of an interface of the capture, and whether Ethernet headers begin them."""

    number: int
    group: int
    ethernet: bool


class Frames(msgspec.Struct, tag=True, frozen=True):
    """Replay: packets are in the shared slot, as tracer/linux/libpcap.py's Dump writes them, up to byte `end`.

    If `word` is not 0, it replaces the last header field of each packet (replay/root_part.py). `interfaces`: those that
    no earlier message named.
    """

    slot: int
    end: int
    interfaces: list[FrameInterface] = []
    word: int = 0


class FramesDone(msgspec.Struct, tag=True, frozen=True):
    """Replay: every packet of the slot went through the programs. `refused`: too short, or refused by the kernel."""

    slot: int
    packets: int
    refused: int


class CookieQuestion(msgspec.Struct, array_like=True, frozen=True):
    """Is this the cookie that the host's keys give for these addresses (16 bytes each)?

    `given` is the cookie of the SYN-ACK, empty if there was none; `accepted`: the SYN's data was acked. `port`: the
    server's, whose listener may have keys of its own.
    """

    client: bytes
    server: bytes
    cookie: bytes
    given: bytes
    accepted: bool
    syn_ns: int
    port: int = 0


class FlowQuestion(msgspec.Struct, array_like=True, frozen=True):
    """Asks about a connection of this host, by its 4-tuple (addresses of 16 bytes)."""

    client: bytes
    server: bytes
    client_port: int
    server_port: int


class ForwardQuestion(msgspec.Struct, array_like=True, frozen=True):
    """Asks by which interface the host sends on a SYN that came in by another (its index)."""

    flow: FlowQuestion
    came_by: int


class HostQuestion(msgspec.Struct, tag=True, frozen=True):
    """Asks for the host's state, and what it knows of these. Root sends a HostAnswer with the same serial."""

    serial: int = 0
    cookies: list[CookieQuestion] = []
    listeners: list[FlowQuestion] = []  # at their servers' end, which is this host
    clients: list[FlowQuestion] = []  # at their clients' end
    forwarded: list[ForwardQuestion] = []


ToUser: TypeAlias = (
    Ready
    | Addresses
    | InterfacesChanged
    | Counters
    | Host
    | RootCost
    | HostAnswer
    | Notice
    | Failed
    | Ended
    | OwnerAnswer
    | PlaceAnswer
    | OpenAnswer
    | FramesDone
)
ToRoot: TypeAlias = Stop | HostQuestion | OwnerQuestion | PlaceQuestion | OpenQuestion | Frames

_encoder = msgspec.msgpack.Encoder()
_from_root: msgspec.msgpack.Decoder[ToUser] = msgspec.msgpack.Decoder(ToUser)
_from_user: msgspec.msgpack.Decoder[ToRoot] = msgspec.msgpack.Decoder(ToRoot)


class Channel:
    """One end of the pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        """For poll: readable at a message or at the end."""
        return self._socket.fileno()

    def send(self, message: ToUser | ToRoot, fds: list[int] | None = None) -> bool:
        """Send one message; False if the other end is gone."""
        try:
            socket.send_fds(self._socket, [_encoder.encode(message)], fds or [])
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def offer(self, message: ToUser | ToRoot) -> bool:
        """Send without waiting; False if the other end does not read now, perhaps because it is stopped."""
        try:
            self._socket.send(_encoder.encode(message), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            return True  # the other end is gone, which the next poll shows
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return True  # it will never fit; a later one may
        return True

    def _receive(self) -> tuple[bytes, list[int]]:
        for _ in range(2):
            # an end that closes with unread data resets the other once, before what it sent earlier
            with suppress(ConnectionResetError):
                data, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_MAX, DESCRIPTORS_MAX)
                return data, list(fds)
        return b"", []

    def from_root(self) -> tuple[ToUser | None, list[int]]:
        """The next message of the root part and its descriptors; None at its end.

        Raises:
            EndedEarlyError: it is not a valid message.
        """
        data, fds = self._receive()
        try:
            return (_from_root.decode(data) if data else None), fds
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            for fd in fds:
                os.close(fd)
            raise EndedEarlyError("the root part sent a message that this version does not understand") from None

    def from_user(self) -> ToRoot | None:
        """The next message of the user part; None at its end. Unexpected descriptors are closed.

        Raises:
            EndedEarlyError: it is not a valid message: the user part parses untrusted bytes and may be compromised.
        """
        data, fds = self._receive()
        for fd in fds:
            os.close(fd)
        try:
            return _from_user.decode(data) if data else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise EndedEarlyError("the user part sent a message that the root part does not understand") from None

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def channel_pair() -> tuple[Channel, Channel]:
    """Both ends: root's and the user part's."""
    root, user = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with suppress(OSError):  # the send buffer limits the size of a message; without the capability the default stays
        root.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, MESSAGE_MAX)
    return Channel(root), Channel(user)
