"""Cookies behind a router that translates the servers' address: a cookie covers the address that the server itself has.

One server behind the router knows every cookie again. Two take each other's for foreign, with one key as well as with
two, and the router, where both addresses are seen, can tell why.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from tests.support.netbox import NetBox
from tests.support.routed import WIRE, Routed, service_address, source_address
from tests.support.trials import (
    NO_FATE,
    Places,
    Said,
    Trial,
    counted,
    dial,
    fate,
    routed_places,
    said,
    serve,
    translations,
    trying,
)

pytestmark = [pytest.mark.root, pytest.mark.slow]

ROUTER, FIRST, SECOND = "10.98.0.1", "10.98.1.2", "10.98.2.2"
# of one network, as behind most balancers; the others are of two, as in a cloud of several zones
NEAR_FIRST, NEAR_SECOND = "10.98.6.11", "10.98.6.12"
KEYS = ("0f0e0d0c-0b0a0908-07060504-03020100", "1f1e1d1c-1b1a1918-17161514-13121110")
AT_ONE_SERVER = ("client", "near", "far", "server")
_numbers = count(1)
_rules = count()


@pytest.fixture(scope="module")
def hosts_and_places() -> Iterator[tuple[Routed, Places]]:
    with routed_places() as (hosts, places):
        for box, near, far in ((hosts.first, NEAR_FIRST, FIRST), (hosts.second, NEAR_SECOND, SECOND)):
            box.run("ip", "address", "add", f"{near}/24", "dev", WIRE)
            hosts.router.run("ip", "route", "add", f"{near}/32", "via", far)
        yield hosts, places


@pytest.fixture
def hosts(hosts_and_places: tuple[Routed, Places]) -> Routed:
    return hosts_and_places[0]


class Service:
    """An address that the router translates, and what stands behind it."""

    def __init__(
        self, hosts: Routed, trial: Trial, translation: str, *behind: tuple[NetBox, str], address: str = ""
    ) -> None:
        number = next(_numbers)
        self.target = address or service_address(number), trial.port
        self.source = source_address(number)  # a client without a past
        self._client = hosts.client
        self.listeners = [trial.enter_context(hosts.listen(box, ip, trial.port)) for box, ip in behind]
        table, rule = f"balancer-{next(_rules)}", f"ip daddr {self.target[0]} tcp dport {trial.port} {translation}"
        chain = f"chain c {{ type nat hook prerouting priority dstnat; {rule}; }}"
        hosts.router.run("nft", f"table ip {table} {{ {chain}; }}")
        trial.callback(hosts.router.run, "nft", "delete", "table", "ip", table)

    def exchange(self, fast_open: bool = True) -> int:
        """A whole connection; returns the client's port."""
        client = dial(self._client, self.target, fast_open=fast_open, source=self.source)
        return serve(client, *self.listeners)


@contextmanager
def keys(hosts: Routed, first: str, second: str) -> Iterator[None]:
    with hosts.sysctl(hosts.first, tcp_fastopen_key=first), hosts.sysctl(hosts.second, tcp_fastopen_key=second):
        yield


@pytest.mark.parametrize("own", [False, True], ids=["elsewhere", "its own address"])
def test_one_server_behind_a_translated_address(hosts: Routed, trial: Trial, own: bool) -> None:
    # as at home, or on a host of containers: the router itself has the address that is asked for
    address = ROUTER if own else ""
    service = Service(hosts, trial, f"dnat to {FIRST}", (hosts.first, FIRST), address=address)
    with counted(hosts.first, TCPFastOpenPassive=3, TCPFastOpenPassiveFail=0):
        ports = [service.exchange() for _ in range(4)]
    plain = service.exchange(fast_open=False)
    trial.nothing_said(AT_ONE_SERVER, *ports, plain)
    known = translations(hosts.router, trial.port)
    assert len(known) == 5
    assert all(f"dst={service.target[0]} " in line and f"src={FIRST} " in line for line in known)
    for place, server in zip(AT_ONE_SERVER, (service.target[0], service.target[0], FIRST, FIRST), strict=True):
        seen = [trial.at(place, port) for port in ports]
        assert [one.tfo.outcome for one in seen] == ["cookie_granted", *["data_acked"] * 3]
        assert {one.server.ip for one in seen} == {server}
        assert {one.vantage for one in seen} == {"server" if own and place == "near" else _VANTAGE[place]}
        # the keys of a host that forwards say nothing about cookies
        check = "valid" if place == "server" else None
        assert [one.tfo.cookie_check for one in seen] == [None, *[check] * 3]


_VANTAGE = {"client": "client", "near": "transit", "far": "transit", "server": "server"}


@dataclass
class Turn:
    """A refusal of one of two servers that take turns."""

    port: int  # the client's
    server: str  # place
    far: str  # the router's interface to this server


@dataclass
class Pool:
    """Two servers that took turns behind one address: six refusals."""

    kind: str
    trial: Trial
    asked: int  # the client's port when it asked for its first cookie
    turns: list[Turn]

    def told(self, place: str = "") -> list[Said]:
        """By the client, by the router before it translates, or by the server of each turn."""
        return [said(self.trial.at(place or one.server, one.port)) for one in self.turns]


@pytest.fixture(scope="module", params=["one key", "one key in two networks", "two keys"])
def pool(hosts_and_places: tuple[Routed, Places], request: pytest.FixtureRequest) -> Iterator[Pool]:
    hosts, places = hosts_and_places
    kind: str = request.param
    first, second = (FIRST, SECOND) if "networks" in kind else (NEAR_FIRST, NEAR_SECOND)
    ways = [("server 2", "far 2"), ("server", "far")]
    with trying(places) as trial, keys(hosts, KEYS[0], KEYS[kind == "two keys"]):
        alternate = f"dnat to numgen inc mod 2 map {{ 0 : {first}, 1 : {second} }}"
        service = Service(hosts, trial, alternate, (hosts.first, first), (hosts.second, second))
        asked = service.exchange()
        # each takes half of them, and none of the other's cookies
        three = {"TCPFastOpenPassive": 0, "TCPFastOpenPassiveFail": 3}
        with counted(hosts.first, **three), counted(hosts.second, **three):
            turns = []
            for number in range(6):
                turns.append(Turn(service.exchange(), *ways[number % 2]))
                for place in ("client", "near", turns[-1].far, turns[-1].server):  # each is judged on its own
                    trial.at(place, turns[-1].port)
        yield Pool(kind, trial, asked, turns)


def test_each_refuses_the_cookie_of_the_other(pool: Pool) -> None:
    pool.trial.nothing_said(AT_ONE_SERVER, pool.asked)
    for one in pool.turns:
        for place in ("client", "near", one.far, one.server):
            record = pool.trial.at(place, one.port)
            assert record.tfo.outcome == "data_not_acked_new_cookie"
            assert fate(record) == NO_FATE
        assert pool.trial.at(one.server, one.port).tfo.cookie_check == "invalid"


def test_the_client_accuses_nobody(pool: Pool) -> None:
    """The only server that it has ever tried refused it, for which there may be many reasons."""
    told = pool.told("client")
    assert told[0] == ("cookie_stale", "possible")
    assert set(told) <= {("cookie_stale", "possible"), ("key_not_shared", "possible")}


def test_the_router_knows_that_no_common_key_would_help(pool: Pool) -> None:
    for number, one in enumerate(pool.turns):
        both = [said(pool.trial.at("near", one.port)), said(pool.trial.at(one.far, one.port))]
        # the one that is settled first may not know of the other yet
        assert ("cookie_per_address", "likely") in both
        assert both[0][0] == both[1][0] == "cookie_per_address" or not number


def test_the_servers_know_whether_the_key_is_theirs(pool: Pool) -> None:
    told = pool.told()
    if pool.kind == "one key":  # it made the cookie, for an address beside this server's
        assert set(told) == {("cookie_per_address", "likely")}
    elif pool.kind == "two keys":  # this host never gave that cookie; a busy one may not have read all keys yet
        assert set(told) <= {("cookie_stale", "possible"), ("key_not_shared", "likely"), ("key_not_shared", "possible")}
    else:  # the same, as far as this host can see: so it must not be likely, since it is not so
        assert set(told) <= {("cookie_stale", "possible"), ("key_not_shared", "possible")}


def test_a_balancer_that_sends_each_client_to_one_server(hosts: Routed, trial: Trial) -> None:
    service = Service(
        hosts, trial, f"dnat to ip saddr map {{ {source_address(40)} : {FIRST}, {source_address(41)} : {SECOND} }}",
        (hosts.first, FIRST), (hosts.second, SECOND),
    )  # fmt: skip
    with keys(hosts, *KEYS):
        for number, server, far in ((40, "server", "far"), (41, "server 2", "far 2")):
            service.source = source_address(number)
            ports = [service.exchange() for _ in range(3)]
            trial.nothing_said(("client", "near", far, server), *ports)
            assert [trial.at(server, port).tfo.outcome for port in ports] == [
                "cookie_granted", "data_acked", "data_acked",
            ]  # fmt: skip


def test_a_key_rotated_behind_a_translated_address(hosts: Routed, trial: Trial) -> None:
    service = Service(hosts, trial, f"dnat to {FIRST}", (hosts.first, FIRST))
    trial.certain.add(("server", "cookie_stale"))  # the cookie proves it: it was made with the key before
    with hosts.sysctl(hosts.first, tcp_fastopen_key=KEYS[0]):
        trial.nothing_said(AT_ONE_SERVER, service.exchange(), service.exchange())
        hosts.first.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen_key={KEYS[1]}")
        stale, again = service.exchange(), service.exchange()
        # where the cookie had been accepted the address cannot be the reason
        for place in AT_ONE_SERVER:
            assert trial.said(place, stale) in [[("cookie_stale", "likely")], [("cookie_stale", "certain")]], place
        trial.nothing_said(AT_ONE_SERVER, again)


def test_servers_with_one_key_that_hold_the_address_themselves(hosts: Routed, trial: Trial) -> None:
    number = next(_numbers)
    address, source = service_address(number), source_address(number)
    listeners: list[socket.socket] = [
        trial.enter_context(hosts.listen(box, address, trial.port)) for box in (hosts.first, hosts.second)
    ]
    with keys(hosts, KEYS[0], KEYS[0]), counted(hosts.second, TCPFastOpenPassive=3, TCPFastOpenPassiveFail=0):
        for box, server, far in ((hosts.first, "server", "far"), (hosts.second, "server 2", "far 2")) * 3:
            hosts.send_to(box, address)
            port = serve(dial(hosts.client, (address, trial.port), source=source), *listeners)
            trial.nothing_said(("client", "near", far, server), port)
