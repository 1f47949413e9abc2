"""Scenes of handshakes that fail, take long, or only look so, and what each place may say of them (TFO.md section 8).

All scenes of a file are played at once between a client, a router and a server, each at a service address of its own;
each judges by socket errors and counters of the kernel whether it is what it claims. Other connections that a scene
makes are ordinary: nobody may be accused of anything in them.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import msgspec
import pytest

from tests.support.heard import Judge, judge
from tests.support.hosts import REQUEST, tcp_counters
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import FACTOR, PATIENCE_S
from tests.support.routed import TO_CLIENT, TO_FIRST, WIRE, Routed, routed, service_address
from tests.support.scenes import field_of
from tests.support.stage import PORT, Forger, Stage
from tests.support.tracing import INFERRING, Run, tracing
from tracer.lab.packet import Segment, encode
from tracer.lab.stage import RawEnd, answer_syn, talk_by_hand
from tracer.records.record import Handshake

RESPONSE_TIMEOUT_S = 2.5 * FACTOR
TCP_SYNCNT, TCP_DEFER_ACCEPT, TCP_MD5SIG = 7, 9, 14
BARE_SYN = "tcp flags & (syn|ack|rst) == syn"
SYN_ACK = "tcp flags & (syn|ack) == syn|ack"
ECN_SYN = "tcp flags & (syn|ack|ecn|cwr) == syn|ecn|cwr"
BARE_ACK = "tcp flags & (syn|ack|rst|fin|psh) == ack"
AFTER_SYN = "tcp flags & (syn|rst) == 0"
_LAST = 39  # number of the service address where runs learn to name places of the kernel


class Fate(NamedTuple):
    """`handshake.cause` and `cause_confidence`, and what `cause_at` may be."""

    cause: str | None
    confidence: str | None
    at: frozenset[str | None]

    def __str__(self) -> str:
        return f"{self.cause} ({self.confidence}, at {' or '.join(sorted(map(str, self.at)))})"

    def fits(self, one: Handshake) -> bool:
        told = one.handshake
        return (told.cause, told.cause_confidence) == self[:2] and told.cause_at in self.at


NOTHING = Fate(None, None, frozenset((None,)))


def here(cause: str, confidence: str = "certain") -> Fate:
    """This host's own kernel or sockets tell it."""
    return Fate(cause, confidence, frozenset(("this_host",)))


def away(cause: str, confidence: str, *at: str) -> Fate:
    """Told by what was seen on the wire: it may lie at one of these, or it is not known where."""
    return Fate(cause, confidence, frozenset((None, *at)))


@dataclass(frozen=True)
class Seen:
    """What a place must say of one handshake: its result ("" for any), one of these fates, and other fields."""

    result: str
    fates: tuple[Fate, ...]
    fields: Mapping[str, object] = field(default_factory=dict)

    def differences(self, one: Handshake) -> list[str]:
        told, found = one.handshake, []
        if self.result not in ("", told.result):
            found.append(f"result is {told.result} instead of {self.result}")
        if not any(fate.fits(one) for fate in self.fates):
            got = f"{told.cause} ({told.cause_confidence}, at {told.cause_at})"
            found.append(f"{got} instead of {' or '.join(map(str, self.fates))}; drop {told.drop}, after {told.after}")
        record = msgspec.to_builtins(one)
        for path, wanted in self.fields.items():
            got_field = field_of(record, path)
            if not (wanted(got_field) if callable(wanted) else got_field == wanted):
                found.append(f"{path} is {got_field!r}")
        return found


def seen(result: str, *fates: Fate, **fields: object) -> Seen:
    """Without a fate nothing may be said."""
    return Seen(result, fates or (NOTHING,), fields)


ORDINARY = seen("established")
EVERYWHERE = ("client", "near", "far", "server")
BEFORE, BEYOND = ("client", "near", "far"), ("far", "server")
# What who sees no answer may say: where the server has answered nobody here, where it has, and where it was passed on.
DOWN = away("filtered_or_down", "possible", "server", "path")
LOST = away("packet_loss", "possible", "server", "path")
NOT_ANSWERED = away("no_answer_beyond", "likely", "server", "path")
UNFINISHED = away("ack_missing", "possible", "client", "path")
SOMETHING_LOST = away("syn_or_synack_lost", "possible", "path")


def at(places: Sequence[str], one: Seen | Sequence[Expected]) -> dict[str, Expected | Sequence[Expected]]:
    """They all say the same."""
    return dict.fromkeys(places, one)


Expected = Seen | None  # None: nothing of it comes to that place
Play = Callable[["Scenery"], "int | Sequence[int]"]


class Scenery(Stage):
    """One scene's part of the hosts."""

    def __init__(self, watched: Watched, number: int, version: int) -> None:
        super().__init__(watched.hosts, watched.forger, number, version, lambda: 0)
        self._watched = watched
        self.also: list[tuple[str, str, int, Seen]] = []

    # --- clients ---

    def try_to(self, error: int, *, source: str = "", port: int = PORT, client_port: int = 0, retries: int = 0) -> int:
        """A connect(2) that fails so; returns the client's port. `retries`: SYNs after the first one."""
        client = self.client_from(source, client_port)
        if retries:
            client.setsockopt(socket.IPPROTO_TCP, TCP_SYNCNT, retries)
        found: int = client.getsockname()[1]
        got = client.connect_ex((self.server_ip, port))
        assert got == error, f"{errno.errorcode.get(got, 'connected')}, not {errno.errorcode[error]}"
        client.close()
        return found

    def client_from(self, source: str = "", port: int = 0) -> socket.socket:
        """A client's socket, bound to an address."""
        with self.hosts.client.inside():
            made = self.enter_context(socket.socket(socket.AF_INET if self.version == 4 else socket.AF_INET6))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((source or self.client_ip, port))
        return made

    def serve_one(self, listener: socket.socket, source: str = "") -> int:
        """A whole ordinary connection; returns the client's port."""
        client = self.client_from(source)
        client.settimeout(PATIENCE_S)
        self.dial(client)
        client.sendall(REQUEST)
        child = listener.accept()[0]
        with child:
            child.settimeout(PATIENCE_S)
            assert child.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
            self.answer(child, client)
        port: int = client.getsockname()[1]
        client.close()
        return port

    def serve_in_turn(self, listener: socket.socket, places: Sequence[str], number: int) -> list[int]:
        """Whole connections, each after all these places have told the one before."""
        ports = []
        for _ in range(number):
            ports.append(self.serve_one(listener))
            for place in places:
                self.wait_told(place, ports[-1])
        return ports

    def begin_from(self, made: socket.socket | None = None, retries: int = 0) -> socket.socket:
        """A client that has sent its SYN, and does not wait."""
        made = made or self.client_from()
        if retries:
            made.setsockopt(socket.IPPROTO_TCP, TCP_SYNCNT, retries)
        made.setblocking(False)
        with suppress(BlockingIOError):
            self.dial(made)
        made.settimeout(PATIENCE_S)
        return made

    def fails(self, client: socket.socket, error: int) -> int:
        """Wait until a connection that was begun has failed so; returns the client's port."""
        port = port_of(client)
        assert select.select([], [client], [], PATIENCE_S)[1]
        got = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert got == error, f"{errno.errorcode.get(got, 'connected')}, not {errno.errorcode[error]}"
        client.close()
        return port

    def listen_at(self, port: int, backlog: int = 64) -> socket.socket:
        """A listener without Fast Open at a port of this scene's address."""
        return self.enter_context(self.hosts.listen(self.hosts.first, self.server_ip, port, None, backlog))

    @contextmanager
    def dropping_first(self, match: str) -> Iterator[None]:
        """Meanwhile the router drops the first packet of each client that matches."""
        first = f"{match} add @ports {{ tcp sport }} drop"
        with self.rules(self.hosts.router, "forward", f"{match} tcp sport @ports accept", first):
            yield

    # --- made by hand ---

    def answer_by_hand(self, server: RawEnd, syn: Segment, client: socket.socket, options: bytes = b"") -> None:
        """A SYN-ACK, the answer to the client's request, and the end."""
        synack = answer_syn(server, syn, 0, options)
        client.sendall(REQUEST)
        talk_by_hand(server, syn, synack, client)

    def forge(self, segment: Segment, source: str, target: str, ttl: int = 64) -> None:
        """In anybody's name, from a host at the router."""
        self._forger.send(source, target, encode(segment, source, target), ttl=ttl)

    # --- what is told ---

    def wait_told(self, place: str, port: int) -> Handshake:
        """What a place says of the handshake of a client's port, once it does."""
        return self._watched.wait_told(place, self.server_ip, port)

    def expect_also(self, place: str, server_ip: str, port: int, what: Seen) -> None:
        """A handshake with another address than this scene's must be told so there."""
        self.also.append((place, server_ip, port, what))

    def kernel_freed(self, reason: str, place: str) -> bool:
        """Does the kernel's own trace have such a packet?"""
        return self._watched.judge.knows(reason, place)

    @contextmanager
    def counting(self, box: NetBox, *names: str) -> Iterator[None]:
        """Between its start and its end these TcpExt counters of a host rise."""
        before = tcp_counters(box)
        yield
        after = tcp_counters(box)
        resting = [name for name in names if after[name] <= before[name]]
        assert not resting, f"counters that did not move: {resting}"


def port_of(client: socket.socket) -> int:
    """A socket's own port."""
    found: int = client.getsockname()[1]
    return found


@dataclass(frozen=True)
class Scene:
    """What is played, and what each place must say of the handshakes whose ports the play returns."""

    play: Play
    expected: Mapping[str, Sequence[Expected]]
    number: int  # of its service address
    version: int
    turn: int

    @property
    def name(self) -> str:
        return self.play.__name__

    def wanted(self, place: str, number: int) -> Sequence[Expected]:
        """What a place must say of so many handshakes."""
        found = self.expected.get(place, (None,))
        if tuple(found) == (None,):
            return [None] * number
        assert len(found) == number, f"{self.name}: {number} handshakes, and {len(found)} expected at {place}"
        return found


class Scenes(list[Scene]):
    """The scenes of a file. Those of a turn are played at once, and the next turn begins when they have been told."""

    turn = 0

    def next_turn(self) -> None:
        """What follows must not be played beside what was before, since they share counters or settings of a host."""
        self.turn += 1

    def scene(self, **expected: Expected | Sequence[Expected]) -> Callable[[Play], Play]:
        """Decorates the function that plays it; each place says one thing of each handshake."""
        return self._adding(4, expected)

    def scene_by_ipv6(self, **expected: Expected | Sequence[Expected]) -> Callable[[Play], Play]:
        return self._adding(6, expected)

    def _adding(self, version: int, expected: Mapping[str, Expected | Sequence[Expected]]) -> Callable[[Play], Play]:
        told = {place: _sequence(one) for place, one in expected.items()}
        assert told.keys() <= set(PLACES), told.keys()

        def add(play: Play) -> Play:
            self.append(Scene(play, told, len(self) + 1, version, self.turn))
            assert len(self) < _LAST
            return play

        return add


def _sequence(one: Expected | Sequence[Expected]) -> Sequence[Expected]:
    return (one,) if one is None or isinstance(one, Seen) else one


# The client's host, the router's interfaces to the client and to the server, the server's host; the same without the
# kernel's reasons.
PLACES = ("client", "near", "far", "server", "near_inferring", "far_inferring", "server_inferring")


@dataclass
class Watched:
    """The hosts, and a run of tfotrace at each place."""

    hosts: Routed
    forger: Forger
    judge: Judge
    places: Mapping[str, tuple[Run, tuple[str | None, ...]]]

    def records(self, place: str, address: str) -> list[Handshake]:
        """All so far of a service address."""
        run, interfaces = self.places[place]
        return [one for one in run.handshakes if one.server.ip == address and one.interface in interfaces]

    def wait_told(self, place: str, address: str, port: int) -> Handshake:
        run, interfaces = self.places[place]
        ends = address, port
        return run.wait_handshake(lambda one: (one.server.ip, one.client.port) == ends and one.interface in interfaces)


@contextmanager
def watched(*inferring: str) -> Iterator[Watched]:
    """The hosts, traced everywhere; `inferring`: "router", "server" also by runs that do not hear the kernel's reasons.

    What is tried is what they say, not how soon: so many runs on one machine wait longer for each other.
    """
    with ExitStack() as opened:
        hosts = opened.enter_context(routed())
        hosts.client.run("sysctl", "-qw", "net.ipv4.tcp_syn_retries=1", "net.ipv4.tcp_ecn=2")
        hosts.first.run("sysctl", "-qw", "net.ipv4.tcp_synack_retries=1")
        for box in (hosts.router, hosts.first):  # scenes that are played at once share a client
            box.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        forger = Forger(hosts)
        opened.callback(forger.close)
        trace = opened.enter_context(judge())
        patience = {"TFOTRACE_PATIENCE": str(5 * FACTOR)}

        def run(box: NetBox, *words: str) -> Run:
            timeout = "--response-timeout", str(RESPONSE_TIMEOUT_S)
            return opened.enter_context(tracing(*words, "--json", "--netns", box.name, *timeout, env=patience))

        places: dict[str, tuple[Run, tuple[str | None, ...]]] = {}
        # what a host's own kernel drops has been at no interface
        places["client"] = run(hosts.client, WIRE), (WIRE, None)
        places["server"] = run(hosts.first, WIRE), (WIRE, None)
        router = run(hosts.router, TO_CLIENT, TO_FIRST)
        places |= {"near": (router, (TO_CLIENT,)), "far": (router, (TO_FIRST,))}
        if "server" in inferring:
            places["server_inferring"] = run(hosts.first, WIRE, INFERRING), (WIRE,)
        if "router" in inferring:
            router = run(hosts.router, TO_CLIENT, TO_FIRST, INFERRING)
            places |= {"near_inferring": (router, (TO_CLIENT,)), "far_inferring": (router, (TO_FIRST,))}
        made = Watched(hosts, forger, trace, places)
        wait_until(lambda: _places_have_names(made), "names of places: this kernel may hide its addresses", PATIENCE_S)
        yield made


def _places_have_names(watched: Watched) -> bool:
    """Do all runs name the place where the kernel drops a SYN to a closed port?"""
    address = service_address(_LAST)
    with watched.hosts.client.inside():
        client = socket.socket()
    with client, suppress(ConnectionRefusedError):
        client.bind(("10.98.0.2", 0))
        port = client.getsockname()[1]
        client.connect((address, PORT))
    drops = [watched.wait_told(place, address, port).handshake.drop for place in ("client", "near", "far", "server")]
    return all(drop is not None and drop.at is not None for drop in drops)


@dataclass
class Played:
    """What came of the scenes of a file."""

    watched: Watched
    ports: dict[str, Sequence[int]] = field(default_factory=dict)  # by scene
    addresses: dict[str, str] = field(default_factory=dict)
    also: dict[str, list[tuple[str, str, int, Seen]]] = field(default_factory=dict)
    faults: dict[str, BaseException] = field(default_factory=dict)

    def check(self, scene: Scene) -> None:
        """Every place says what it must, and no more."""
        if scene.name in self.faults:
            raise self.faults[scene.name]
        ports, found = self.ports[scene.name], []
        for place in self.watched.places:
            if place not in scene.expected and place.endswith("_inferring"):
                continue
            records = self.watched.records(place, self.addresses[scene.name])
            for number, (port, expected) in enumerate(zip(ports, scene.wanted(place, len(ports)), strict=True)):
                ours = [one for one in records if one.client.port == port]
                found += [f"{place}, {number}: {line}" for line in _differences(expected, ours)]
            others = [one for one in records if one.client.port not in ports and not NOTHING.fits(one)]
            found += [f"{place}, another handshake: {one.handshake}" for one in others]
        for place, address, port, expected in self.also[scene.name]:
            ours = [one for one in self.watched.records(place, address) if one.client.port == port]
            found += [f"{place}, {address}: {line}" for line in _differences(expected, ours)]
        if found:
            pytest.fail("\n".join([scene.name, *found]), pytrace=False)


def _differences(expected: Expected, records: Sequence[Handshake]) -> list[str]:
    if expected is None:
        return [f"a record of what did not come there: {one.handshake}" for one in records]
    if not records:
        return ["no record"]
    # a client's port that was used again, or an attempt that went on: what counts is the last one
    return expected.differences(records[-1])


def _all_told(played: Played, scenes: Sequence[Scene]) -> bool:
    for scene in scenes:
        address, ports = played.addresses[scene.name], played.ports[scene.name]
        for place in scene.expected.keys() & played.watched.places.keys():
            wanted = scene.wanted(place, len(ports))
            known = {one.client.port for one in played.watched.records(place, address)}
            if any(one is not None and port not in known for one, port in zip(wanted, ports, strict=True)):
                return False
        for place, address, port, _ in played.also[scene.name]:
            if port not in {one.client.port for one in played.watched.records(place, address)}:
                return False
    return True


def play(scenes: Sequence[Scene], watched: Watched) -> Played:
    """Play all scenes, those of a turn at once."""
    played = Played(watched)
    for _, some in groupby(scenes, lambda scene: scene.turn):
        with ExitStack() as opened:
            _play_at_once([*some], played, opened)
    return played


def _play_at_once(scenes: Sequence[Scene], played: Played, opened: ExitStack) -> None:
    def one(scene: Scene, stage: Scenery) -> None:
        try:
            ports = scene.play(stage)
            played.ports[scene.name] = [ports] if isinstance(ports, int) else ports
        except BaseException as error:  # noqa: BLE001 - its test raises it
            played.faults[scene.name] = error
        played.addresses[scene.name], played.also[scene.name] = stage.server_ip, stage.also

    threads = []
    for scene in scenes:
        stage = opened.enter_context(Scenery(played.watched, scene.number, scene.version))
        threads.append(threading.Thread(target=one, args=(scene, stage), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = [scene for scene in scenes if scene.name not in played.faults]
    with suppress(AssertionError):  # what is missing is said by the scene's test
        wait_until(lambda: _all_told(played, good), "the records of all scenes", 2 * PATIENCE_S)
