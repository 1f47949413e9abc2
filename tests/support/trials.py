"""Trials of verdicts: connections whose true story a test knows, and what the record at each place says of them.

Whatever else a test asserts, none of a trial's records may be certain without a witness, nor say that a host dropped
what it forwarded or answered. A test names the places where either is allowed.
"""

from __future__ import annotations

import secrets
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count

from tests.support.hosts import ANSWER, MSG_FASTOPEN, REQUEST, tcp_counters
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S, SHORT_S
from tests.support.routed import TO_CLIENT, TO_FIRST, TO_SECOND, WIRE, Routed, routed
from tests.support.tracing import INFERRING, Run, tracing
from tracer.records.record import Handshake

Said = tuple[str | None, str | None]
Fate = tuple[str | None, str | None, str | None]
NOTHING: Said = (None, None)
NO_FATE: Fate = (None, None, None)
NO_QUEUE: Said = ("listener_disabled", "likely")
PERHAPS_NO_QUEUE: Said = ("listener_disabled", "possible")  # while it is not known
UNANSWERED = (None, "filtered_or_down", "packet_loss", "no_answer_beyond", "not_forwarded")
DROPPED: Fate = ("host_dropped", "possible", "this_host")

_IP_BIND_ADDRESS_NO_PORT = 24
_TEN_SECONDS = struct.pack("@ll", 10, 0)  # struct timeval
_ports = count(20001)
_tables = count()


def said(record: Handshake) -> Said:
    """Cause of the Fast Open outcome and confidence."""
    return record.tfo.cause, record.tfo.cause_confidence


def fate(record: Handshake) -> Fate:
    """Cause of the handshake's fate, confidence, and where it lies."""
    return record.handshake.cause, record.handshake.cause_confidence, record.handshake.cause_at


class Places:
    """Runs of tfotrace, and the interfaces that they trace, by the name of a place."""

    def __init__(self, places: Mapping[str, tuple[Run, str]]) -> None:
        self._places = places

    def record(self, place: str, service_port: int, port: int, match: Callable[[Handshake], bool]) -> Handshake:
        run, interface = self._places[place]
        ends = interface, port, service_port
        return run.wait_handshake(lambda one: (one.interface, one.client.port, one.server.port) == ends and match(one))

    def records(self, service_port: int) -> dict[str, list[Handshake]]:
        """All so far of a service port."""
        return {
            name: [one for one in run.handshakes if one.interface == interface and one.server.port == service_port]
            for name, (run, interface) in self._places.items()
        }


class Trial(ExitStack):
    """One test's connections: to a port that no other test uses."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.port = next(_ports)
        self.certain: set[tuple[str, str]] = set()  # place and cause, where there is a witness
        self.may_drop: set[str] = set()  # places whose host did drop a SYN
        self._places = places

    def at(
        self, place: str, port: int, server: str | None = None, match: Callable[[Handshake], bool] = lambda _: True
    ) -> Handshake:
        """The record of a client's port there; `server`: where the same place sees it under two addresses."""
        return self._places.record(place, self.port, port, lambda one: server in (None, one.server.ip) and match(one))

    def said(self, place: str, *ports: int) -> list[Said]:
        return [said(self.at(place, port)) for port in ports]

    def nothing_said(self, places: Iterator[str] | tuple[str, ...], *ports: int) -> None:
        """Fast Open worked, or was not asked for: nobody is accused there, of anything."""
        for place in places:
            for port in ports:
                record = self.at(place, port)
                assert (said(record), fate(record)) == (NOTHING, NO_FATE), (place, record)

    def nobody_answers(self, places: tuple[str, ...], *ports: int) -> None:
        """Likewise where no answer was seen, which says little from afar."""
        for place in places:
            for port in ports:
                record = self.at(place, port)
                assert said(record) == NOTHING, (place, record)
                assert record.handshake.cause in UNANSWERED, (place, record)
                assert record.handshake.cause_at != "this_host" or place in ("near", "far"), (place, record)

    def come_to(self, place: str, expected: Said, exchange: Callable[[], int], *less: Said) -> int:
        """Repeat a connection until its record there says what it must; returns the client's port.

        Of a listener that is new, or a setting that has just changed, the host must have a look first. Until then it
        says nothing, or what `less` has.
        """
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            port = exchange()
            told = said(self.at(place, port))
            if told == expected:
                return port
            assert told in (NOTHING, *less), told
        raise AssertionError(f"not within {PATIENCE_S} s: {expected}")

    def check(self) -> None:
        """No false certainty, and no false drop."""
        for place, records in self._places.records(self.port).items():
            for one in records:
                for cause, confidence in (said(one), fate(one)[:2]):
                    assert confidence != "certain" or (place, cause) in self.certain, (place, cause, one)
                if one.handshake.cause == "host_dropped":
                    assert fate(one) == DROPPED, (place, one)
                    assert place in self.may_drop, (place, one)


@contextmanager
def trying(places: Places) -> Iterator[Trial]:
    made = Trial(places)
    with made:
        yield made
    made.check()


@contextmanager
def routed_places(*words: str) -> Iterator[tuple[Routed, Places]]:
    """The hosts of routed.py, traced at the client, at the router's three interfaces, and at both servers.

    At the first one also on its loopback, where nothing passes but what a proxy of its own sends on.
    """
    with ExitStack() as opened:
        hosts = opened.enter_context(routed())
        # what is asked of the router must not be judged by its own settings
        hosts.router.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=1")
        # a server that has had no key yet makes one unseen, and could not say later that a cookie is nobody's here
        for server in (hosts.first, hosts.second):
            key = "-".join(secrets.token_hex(4) for _ in range(4))
            server.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen_key={key}")

        def run(box: NetBox, *interfaces: str) -> Run:
            return opened.enter_context(tracing(*interfaces, "--json", INFERRING, "--netns", box.name, *words))

        server = run(hosts.first, WIRE, "lo")
        router = run(hosts.router, TO_CLIENT, TO_FIRST, TO_SECOND)
        yield hosts, Places({
            "client": (run(hosts.client, WIRE), WIRE),
            "near": (router, TO_CLIENT), "far": (router, TO_FIRST), "far 2": (router, TO_SECOND),
            "server": (server, WIRE), "loopback": (server, "lo"), "server 2": (run(hosts.second, WIRE), WIRE),
        })  # fmt: skip


@contextmanager
def counted(box: NetBox, **expected: int) -> Iterator[None]:
    """The kernel's own word: how far its TcpExt counters rise meanwhile."""
    before = tcp_counters(box)
    yield
    after = tcp_counters(box)
    assert {name: after[name] - before[name] for name in expected} == expected


def translations(box: NetBox, service_port: int) -> list[str]:
    """What conntrack knows of connections to a port."""
    with box.inside(), open("/proc/thread-self/net/nf_conntrack") as lines:
        return [line for line in lines if f"dport={service_port} " in line]


def _client(box: NetBox, target: tuple[str, int], source: str, port: int = 0) -> socket.socket:
    with box.inside():
        client = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_STREAM)
    for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # settimeout() would make sendto(2) return early
        client.setsockopt(socket.SOL_SOCKET, limit, _TEN_SECONDS)
    # with the address alone the kernel chooses the port when it connects, and none again soon
    client.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, port == 0)
    client.bind((source, port))
    return client


def dial(box: NetBox, target: tuple[str, int], *, fast_open: bool = True, source: str = "") -> socket.socket:
    """A client that has sent its request, with Fast Open or after an ordinary handshake."""
    client = _client(box, target, source)
    try:
        if fast_open:
            client.sendto(REQUEST, MSG_FASTOPEN, target)
        else:
            client.connect(target)
            client.sendall(REQUEST)
    except BaseException:
        client.close()
        raise
    return client


def begin(box: NetBox, target: tuple[str, int], *, asking: bool = False, source: str = "") -> socket.socket:
    """A client that has sent its SYN, in which it may ask for a cookie, and no request yet."""
    client = _client(box, target, source)
    client.setblocking(False)
    with suppress(BlockingIOError):
        if asking:  # without a cookie the kernel takes no data here
            client.sendto(b"", MSG_FASTOPEN, target)
        else:
            client.connect(target)
    client.setblocking(True)
    return client


def serve(client: socket.socket, *listeners: socket.socket) -> int:
    """Whichever listener gets the request answers it, and both close; returns the client's port."""
    port: int = client.getsockname()[1]
    with client:
        ready, _, _ = select.select(listeners, [], [], SHORT_S)
        assert ready, "no listener got the connection"
        child, _ = ready[0].accept()
        with child:
            child.settimeout(SHORT_S)
            assert child.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
            child.sendall(ANSWER)
        assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
    return port


class Dropping:
    """An nft rule that drops at a host, and counts."""

    def __init__(self, box: NetBox, table: str) -> None:
        self._box, self._table = box, table

    @property
    def packets(self) -> int:
        listed = self._box.json("nft", "-j", "list", "table", "ip", self._table)["nftables"]
        (rule,) = (one["rule"] for one in listed if "rule" in one)
        (packets,) = (one["counter"]["packets"] for one in rule["expr"] if "counter" in one)
        return int(packets)

    def wait(self) -> None:
        """Until it has dropped something."""
        wait_until(lambda: self.packets > 0, "a dropped packet")


@contextmanager
def dropping(box: NetBox, match: str, hook: str = "input") -> Iterator[Dropping]:
    """The host's own firewall, or a router's, drops what matches."""
    table = f"drops-{next(_tables)}"
    rule = f"{match} counter drop"
    box.run("nft", f"table ip {table} {{ chain c {{ type filter hook {hook} priority 0; {rule}; }}; }}")
    try:
        yield Dropping(box, table)
    finally:
        box.run("nft", "delete", "table", "ip", table)


class Crowd:
    """Clients of one listener that wait all at once, and are then served one after the other."""

    def __init__(self, box: NetBox, listener: socket.socket, source: str = "") -> None:
        self._box, self._source = box, source
        self.listener = listener
        self.target: tuple[str, int] = listener.getsockname()[:2]
        self._clients: list[tuple[socket.socket, bool]] = []  # has it sent its request?

    def exchange(self) -> int:
        """A whole connection alone; returns the client's port."""
        return serve(dial(self._box, self.target, source=self._source), self.listener)

    def send(self, fast_open: bool = True, source: str = "", port: int = 0) -> int:
        """One more client, which sends its SYN: with the request in it if it has a cookie. Returns its port."""
        client = _client(self._box, self.target, source or self._source, port)
        client.setblocking(False)
        asked = False
        with suppress(BlockingIOError):
            if fast_open:
                client.sendto(REQUEST, MSG_FASTOPEN, self.target)
                asked = True
            else:
                client.connect(self.target)
        client.setblocking(True)
        self._clients.append((client, asked))
        found: int = client.getsockname()[1]
        return found

    def finish(self) -> None:
        """Every one of them is answered, and both ends close."""
        with ThreadPoolExecutor(1) as server, ExitStack() as opened:
            clients = [(opened.enter_context(client), asked) for client, asked in self._clients]
            served = server.submit(self._serve, len(clients))
            for client, asked in clients:
                if not asked:
                    client.sendall(REQUEST)
            for client, _ in clients:
                assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
            served.result()
        self._clients.clear()

    def _serve(self, number: int) -> None:
        for _ in range(number):
            child, _ = self.listener.accept()
            with child:
                child.settimeout(SHORT_S)
                assert child.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
                child.sendall(ANSWER)
