"""Both sides of a host that passes handshakes on: how records point to each other, and what went no further.

Real kernels: a host of containers (containers.py) and a router (routed.py), traced on all their interfaces.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.containers import BRIDGE, HOST, ONE, OUTSIDE, TWO, Containers, container_places, listen
from tests.support.hosts import ANSWER, REQUEST
from tests.support.netbox import NetBox
from tests.support.patience import SHORT_S
from tests.support.replays import replay
from tests.support.routed import TO_CLIENT, TO_FIRST, WIRE, Routed, routed
from tests.support.tracing import INFERRING, Run, tracing
from tests.support.trials import NO_FATE, Fate, Places, Trial, begin, dial, dropping, fate, serve, trying
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

BEYOND: Fate = ("no_answer_beyond", "likely", None)
ONE_WAY: Fate = ("nat_one_way", "likely", None)
LIKELY_HERE: Fate = ("not_forwarded", "likely", "this_host")
CERTAINLY_HERE: Fate = ("not_forwarded", "certain", "this_host")
NO_ROUTE: Fate = ("no_route_back", "certain", "this_host")
FIRST = "10.98.1.2"


@pytest.fixture(scope="module")
def hosts_and_places() -> Iterator[tuple[Containers, Places]]:
    with container_places() as made:
        yield made


@pytest.fixture
def hosts(hosts_and_places: tuple[Containers, Places]) -> Containers:
    return hosts_and_places[0]


@pytest.fixture
def trial(hosts_and_places: tuple[Containers, Places]) -> Iterator[Trial]:
    with trying(hosts_and_places[1]) as made:
        yield made


def joined(one: Handshake, *others: Handshake) -> None:
    """Records of the two sides name each other's ends and ids; at least those that were settled later."""
    told = 0
    for here, there in [(one, other) for other in others] + [(other, one) for other in others]:
        if here.nat is None:
            continue
        told += 1
        assert here.nat.id == there.id != here.id
        for end in ("client", "server"):
            mine, theirs = getattr(here.nat, end), getattr(there, end)
            assert (mine.ip, mine.port) == (theirs.ip, theirs.port)
    assert told >= len(others), (one, others)


# --- a host of containers ---


def test_a_forwarded_port(hosts: Containers, trial: Trial) -> None:
    trial.enter_context(hosts.forward(trial.port, ONE))
    listener = trial.enter_context(listen(hosts.one, ONE, trial.port))
    for _ in range(20):
        port = serve(dial(hosts.outside, (HOST, trial.port), fast_open=False), listener)
        front, bridge, behind = (trial.at(place, port) for place in ("uplink", "bridge", "port of one"))
        assert (front.server.ip, bridge.server.ip, behind.server.ip) == (HOST, ONE, ONE)
        joined(front, bridge, behind)
        # at either end there is one side only
        assert trial.at("outside", port).nat is None is trial.at("one", port).nat


def test_a_masqueraded_container(hosts: Containers, trial: Trial) -> None:
    listener = trial.enter_context(listen(hosts.outside, OUTSIDE, trial.port))
    port = serve(dial(hosts.one, (OUTSIDE, trial.port), fast_open=False), listener)
    left = trial.at("uplink", port)
    assert left.client.ip == HOST
    joined(left, trial.at("bridge", port), trial.at("port of one", port))


def test_from_one_container_by_the_hosts_address_to_the_other(hosts: Containers, trial: Trial) -> None:
    trial.enter_context(hosts.forward(trial.port, TWO))
    listener = trial.enter_context(listen(hosts.two, TWO, trial.port))
    port = serve(dial(hosts.one, (HOST, trial.port), fast_open=False), listener)
    came, left = (trial.at("bridge", port, server) for server in (HOST, TWO))
    assert (came.client.ip, left.client.ip) == (ONE, BRIDGE)
    joined(came, left, trial.at("port of two", port))
    assert trial.at("port of one", port).nat is not None or came.nat is not None


def test_a_bridge_and_the_host_itself_translate_nothing(hosts: Containers, trial: Trial) -> None:
    inside = trial.enter_context(listen(hosts.two, TWO, trial.port))
    port = serve(dial(hosts.one, (TWO, trial.port), fast_open=False), inside)
    records = [trial.at(place, port) for place in ("port of one", "port of two", "one", "two")]
    # sent elsewhere within the host
    host = trial.enter_context(listen(hosts.host, "0.0.0.0", trial.port))
    with _rule(hosts.host, f"ip daddr {HOST} tcp dport {trial.port + 1000} redirect to :{trial.port}"):
        sent = dial(hosts.outside, (HOST, trial.port + 1000), fast_open=False)
        port = serve(sent, host)
    run = trial.at("uplink", serve(dial(hosts.outside, (HOST, trial.port), fast_open=False), host))
    assert [one.nat for one in (*records, run)] == [None] * 5


def test_a_proxy_opens_a_connection_of_its_own(hosts: Containers, trial: Trial) -> None:
    behind = trial.enter_context(listen(hosts.one, ONE, trial.port))
    front = trial.enter_context(listen(hosts.host, HOST, trial.port))

    def proxy() -> None:
        child, _ = front.accept()
        with child, dial(hosts.host, (ONE, trial.port), fast_open=False) as onward:
            child.settimeout(SHORT_S)
            assert child.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
            served, _ = behind.accept()
            with served:
                served.sendall(ANSWER)
            child.sendall(onward.recv(len(ANSWER), socket.MSG_WAITALL))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(proxy)
        with dial(hosts.outside, (HOST, trial.port), fast_open=False) as client:
            port = client.getsockname()[1]
            assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
        done.result()
    assert trial.at("uplink", port).nat is None


def test_nobody_answers_behind_a_translation(hosts: Containers, trial: Trial) -> None:
    trial.enter_context(hosts.forward(trial.port, ONE))
    trial.enter_context(listen(hosts.one, ONE, trial.port))
    trial.may_drop.add("one")
    with dropping(hosts.one, f"tcp dport {trial.port}"), begin(hosts.outside, (HOST, trial.port)) as client:
        port = client.getsockname()[1]
    records = [trial.at(place, port) for place in ("uplink", "bridge", "port of one")]
    joined(*records)
    assert [fate(one) for one in records] == [BEYOND] * 3


def test_an_answer_that_goes_past_the_translation(hosts: Containers, trial: Trial) -> None:
    trial.enter_context(hosts.forward(trial.port, TWO))
    trial.enter_context(listen(hosts.two, TWO, trial.port))
    with hosts.no_masquerade(), begin(hosts.one, (HOST, trial.port)) as client:
        port = client.getsockname()[1]
        assert trial.at("port of two", port).handshake.result == "aborted"
    came = trial.at("bridge", port, HOST)
    assert (fate(came), came.nat and came.nat.server.ip) == (ONE_WAY, TWO)


# --- a router ---


class Way:
    """A router traced on two of its interfaces, and the first server with the service that it passes SYNs on to."""

    def __init__(self, hosts: Routed, run: Run, listener: socket.socket) -> None:
        self.hosts, self.run, self.listener = hosts, run, listener
        self.target: tuple[str, int] = listener.getsockname()[:2]

    def exchange(self) -> int:
        return serve(dial(self.hosts.client, self.target, fast_open=False), self.listener)

    def try_in_vain(self, target: tuple[str, int] | None = None) -> int:
        """A client that gives up after its first SYN; returns its port."""
        with begin(self.hosts.client, target or self.target) as client:
            port: int = client.getsockname()[1]
        return port

    def at(self, interface: str, port: int) -> Handshake:
        return self.run.wait_handshake(lambda one: (one.interface, one.client.port) == (interface, port))

    def sides(self, port: int) -> list[Fate]:
        return [fate(self.at(interface, port)) for interface in (TO_CLIENT, TO_FIRST)]


@pytest.fixture(scope="module")
def router() -> Iterator[Routed]:
    with routed() as hosts:
        yield hosts


@contextmanager
def way(hosts: Routed, *words: str, box: NetBox | None = None) -> Iterator[Way]:
    interfaces = [one for one in words if not one.startswith("-")] or [TO_CLIENT, TO_FIRST]
    options = [one for one in words if one.startswith("-")]
    with ExitStack() as opened:
        listener = opened.enter_context(hosts.listen(hosts.first, FIRST))
        box = box or hosts.router
        run = opened.enter_context(tracing(*interfaces, "--json", "--netns", box.name, *options))
        yield Way(hosts, run, listener)


@contextmanager
def _rule(box: NetBox, rule: str) -> Iterator[None]:
    box.run("nft", f"table ip sends-elsewhere {{ chain c {{ type nat hook prerouting priority dstnat; {rule}; }}; }}")
    try:
        yield
    finally:
        box.run("nft", "delete", "table", "ip", "sends-elsewhere")


def test_a_router_that_passes_on(router: Routed) -> None:
    with way(router) as on:
        port = on.exchange()
        assert on.sides(port) == [NO_FATE] * 2
        assert on.at(TO_CLIENT, port).nat is None is on.at(TO_FIRST, port).nat
        with dropping(router.first, f"tcp dport {on.target[1]}"):
            assert on.sides(on.try_in_vain()) == [BEYOND] * 2


def test_a_router_that_drops(router: Routed) -> None:
    with way(router) as on, dropping(router.router, f"tcp dport {on.target[1]}", "forward"):
        record = on.at(TO_CLIENT, on.try_in_vain())
        assert fate(record) == CERTAINLY_HERE, record


@pytest.mark.parametrize("kind", ["unreachable", "blackhole"])
def test_a_router_without_a_route(router: Routed, kind: str) -> None:
    with way(router) as on:
        address = "10.97.77.1"
        router.router.run("ip", "route", "add", kind, f"{address}/32")
        try:
            # the reason is told once the name of the place has been read
            while (record := on.at(TO_CLIENT, on.try_in_vain((address, 80)))).handshake.drop is None:
                assert fate(record)[0] != "host_dropped"
        finally:
            router.router.run("ip", "route", "del", f"{address}/32")
        assert fate(record) == CERTAINLY_HERE


def test_a_router_that_drops_and_does_not_say_so(router: Routed) -> None:
    with way(router, INFERRING) as on:
        with dropping(router.router, f"tcp dport {on.target[1]}", "forward"):
            # it has not been seen to pass on anything
            assert fate(on.at(TO_CLIENT, on.try_in_vain()))[0] in (None, "filtered_or_down")
        router.router.run("ip", "route", "add", "blackhole", "10.97.78.1/32")
        try:
            assert fate(on.at(TO_CLIENT, on.try_in_vain(("10.97.78.1", 80)))) == LIKELY_HERE
        finally:
            router.router.run("ip", "route", "del", "10.97.78.1/32")
        on.exchange()
        with dropping(router.router, f"tcp dport {on.target[1]}", "forward"):
            assert fate(on.at(TO_CLIENT, on.try_in_vain())) == LIKELY_HERE


def test_where_the_other_interface_is_not_traced(router: Routed) -> None:
    with way(router, INFERRING, TO_CLIENT, "to-second") as on:
        on.exchange()
        with dropping(router.first, f"tcp dport {on.target[1]}"):
            assert fate(on.at(TO_CLIENT, on.try_in_vain()))[0] not in ("not_forwarded", "no_answer_beyond")


def test_a_mirror_port_sees_what_is_for_others(router: Routed) -> None:
    """The second server gets a copy of all that comes to the router, and has forwarding on."""
    sysctl = ("sysctl", "-qw")
    router.second.run(*sysctl, "net.ipv4.ip_forward=1")
    chain = f"chain c {{ type filter hook ingress device {TO_CLIENT} priority 0; dup to to-second; }}"
    router.router.run("nft", f"table netdev mirror {{ {chain}; }}")
    try:
        with way(router, WIRE, "lo", box=router.second) as on, dropping(router.first, f"tcp dport {on.target[1]}"):
            record = on.at(WIRE, on.try_in_vain())
            assert record.vantage == "transit"
            assert fate(record)[0] not in ("not_forwarded", "no_answer_beyond")
    finally:
        router.router.run("nft", "delete", "table", "netdev", "mirror")
        router.second.run(*sysctl, "net.ipv4.ip_forward=0")


def test_an_answer_from_an_address_that_the_client_did_not_ask(router: Routed) -> None:
    """The router translates the server's address, and passes the answers on as they are."""
    front, port = "10.97.88.1", 4711
    match = f"ip saddr {FIRST} tcp sport {port}"
    raw = f"chain r {{ type filter hook prerouting priority -300; {match} notrack; }}"
    dnat = f"ip daddr {front} tcp dport {port} dnat to {FIRST}"
    table = f"{raw}; chain c {{ type nat hook prerouting priority dstnat; {dnat}; }}"
    router.router.run("nft", f"table ip one-way {{ {table}; }}")
    try:
        with router.listen(router.first, FIRST, port), way(router, WIRE, box=router.client) as at_client, \
                way(router) as on:  # fmt: skip
            client_port = at_client.try_in_vain((front, port))
            assert fate(at_client.at(WIRE, client_port)) == ONE_WAY
            came = on.at(TO_CLIENT, client_port)
            assert (fate(came), came.server.ip) == (ONE_WAY, front)
    finally:
        router.router.run("nft", "delete", "table", "ip", "one-way")


def test_a_server_without_a_route_back(router: Routed) -> None:
    with way(router, WIRE, box=router.first) as on:
        on.exchange()
        router.first.run("ip", "route", "del", "default")
        try:
            record = on.at(WIRE, on.try_in_vain())
        finally:
            router.first.run("ip", "route", "add", "default", "via", "10.98.1.1")
        assert fate(record) == NO_ROUTE


def test_a_replay_of_what_a_host_of_containers_wrote(hosts: Containers, trial: Trial) -> None:
    """The file says by which interface each packet came or left, so that its replay joins the sides, too."""
    trial.enter_context(hosts.forward(trial.port, ONE))
    listener = trial.enter_context(listen(hosts.one, ONE, trial.port))
    words = ("uplink", "bridge0", "--json", "-w", "{folder}/f.pcapng", "--netns", hosts.host.name)
    with tracing(*words) as run:
        port = serve(dial(hosts.outside, (HOST, trial.port), fast_open=False), listener)
        live = [run.wait_handshake(lambda one, at=at: one.interface == at and one.client.port == port)
                for at in ("uplink", "bridge0")]  # fmt: skip
        run.stop()
        replayed, _, _ = replay(run.folder / "f.pcapng")
    joined(*live)
    front, behind = sorted(
        (one for one in replayed if one.client.port == port), key=lambda one: one.interface != "uplink"
    )
    assert (front.nat and front.nat.id, behind.nat and behind.nat.id) == (behind.id, front.id)
