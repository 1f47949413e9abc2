"""Listeners of one address with Fast Open keys of their own (TCP_FASTOPEN_KEY): a client keeps one cookie an address.

What one of them grants the other refuses, though nobody rotated a key and no pool of servers is there.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.hosts import TCP_FASTOPEN
from tests.support.routed import Routed, service_address, source_address
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
    trying,
)
from tracer.lab.sockets import set_key

pytestmark = [pytest.mark.root, pytest.mark.slow]

AWAY = ("client", "near", "far")
EVERYWHERE = (*AWAY, "server")
DIFFERS: Said = ("listener_key_differs", "likely")
PROVEN_STALE: Said = ("cookie_stale", "certain")  # by the cookie itself, which the key before has made
STALE: Said = ("cookie_stale", "likely")
MAY_BE_STALE: Said = ("cookie_stale", "possible")
MAY_DIFFER: Said = ("listener_key_differs", "possible")
MAY_BE_A_POOL: Said = ("key_not_shared", "possible")
_numbers = count(1)


@pytest.fixture(scope="module")
def hosts_and_places() -> Iterator[tuple[Routed, Places]]:
    with routed_places() as made:
        yield made


@pytest.fixture
def hosts(hosts_and_places: tuple[Routed, Places]) -> Routed:
    return hosts_and_places[0]


@pytest.fixture
def pair(hosts_and_places: tuple[Routed, Places]) -> Iterator[tuple[Trial, Trial]]:
    """A trial for each of two ports."""
    with trying(hosts_and_places[1]) as one, trying(hosts_and_places[1]) as other:
        yield one, other


class Pair:
    """Two listeners of one address, and a client without a past."""

    def __init__(self, hosts: Routed, trials: tuple[Trial, Trial], *keys: bytes | None) -> None:
        number = next(_numbers)
        self._hosts, self.trials = hosts, trials
        self.address, self._source = service_address(number), source_address(number)
        self.listeners = []
        for trial, key in zip(trials, keys, strict=True):
            listener = trial.enter_context(hosts.listen(hosts.first, self.address, trial.port))
            if key is not None:
                set_key(listener, key)
            self.listeners.append(listener)

    def exchange(self, which: int) -> int:
        """A whole connection with one of them; returns the client's port."""
        target = self.address, self.trials[which].port
        return serve(dial(self._hosts.client, target, source=self._source), self.listeners[which])

    def refused(self, which: int) -> dict[str, Said]:
        """What each place says of a connection whose cookie is refused."""
        with counted(self._hosts.first, TCPFastOpenPassive=0, TCPFastOpenPassiveFail=1):
            port = self.exchange(which)
        seen = {place: self.trials[which].at(place, port) for place in EVERYWHERE}
        assert {one.tfo.outcome for one in seen.values()} == {"data_not_acked_new_cookie"}
        assert {fate(one) for one in seen.values()} == {NO_FATE}
        return {place: said(one) for place, one in seen.items()}

    def accepted(self, which: int) -> None:
        """A connection whose cookie is accepted, with which nothing is wrong."""
        with counted(self._hosts.first, TCPFastOpenPassive=1, TCPFastOpenPassiveFail=0):
            port = self.exchange(which)
        self.trials[which].nothing_said(EVERYWHERE, port)
        assert self.trials[which].at("client", port).tfo.outcome == "data_acked"


@pytest.mark.parametrize("of_the_host", [False, True], ids=["each its own", "one has the host's"])
def test_two_listeners_with_keys_of_their_own(hosts: Routed, pair: tuple[Trial, Trial], of_the_host: bool) -> None:
    one, other = secrets.token_bytes(16), secrets.token_bytes(16)
    both = Pair(hosts, pair, one, None if of_the_host else other)
    pair[0].nothing_said(EVERYWHERE, both.exchange(0))
    both.accepted(0)
    for number, which in enumerate((1, 0, 1, 0)):
        told = both.refused(which)
        # until the host has read the listeners' keys, one refusal may be a rotation's
        assert told["server"] == DIFFERS or (number == 0 and told["server"] == MAY_DIFFER)
        # elsewhere it looks like a pool of servers as well, or like a rotation
        for place in AWAY:
            assert told[place] in (MAY_BE_STALE, STALE, MAY_BE_A_POOL, MAY_DIFFER, DIFFERS), place
    # the last one's cookie is what the client has now
    both.accepted(0)


def test_two_listeners_with_one_key(hosts: Routed, pair: tuple[Trial, Trial]) -> None:
    key = secrets.token_bytes(16)
    both = Pair(hosts, pair, key, key)
    pair[0].nothing_said(EVERYWHERE, both.exchange(0))
    for which in (0, 1, 0, 1):
        both.accepted(which)


def test_a_listener_whose_own_key_was_rotated(hosts: Routed, pair: tuple[Trial, Trial]) -> None:
    both = Pair(hosts, pair, secrets.token_bytes(16), secrets.token_bytes(16))
    pair[0].nothing_said(EVERYWHERE, both.exchange(0))
    both.accepted(0)
    set_key(both.listeners[0], secrets.token_bytes(16))
    pair[0].certain.add(("server", "cookie_stale"))
    # no other listener gave that cookie
    told = both.refused(0)
    assert told["server"] in (PROVEN_STALE, STALE, MAY_BE_STALE)
    assert {told[place] for place in AWAY} == {STALE}
    both.accepted(0)


def test_a_hosts_key_rotated_beside_a_listener_with_its_own(hosts: Routed, pair: tuple[Trial, Trial]) -> None:
    both = Pair(hosts, pair, None, secrets.token_bytes(16))
    pair[0].nothing_said(EVERYWHERE, both.exchange(0))
    both.accepted(0)
    key = "-".join(secrets.token_hex(4) for _ in range(4))
    pair[0].certain.add(("server", "cookie_stale"))
    with hosts.sysctl(hosts.first, tcp_fastopen_key=key):
        told = both.refused(0)
        assert told.pop("server") in (PROVEN_STALE, STALE)
        assert told == dict.fromkeys(AWAY, STALE)
        both.accepted(0)


def test_listeners_that_share_a_port_with_keys_of_their_own(hosts: Routed, pair: tuple[Trial, Trial]) -> None:
    """Workers with SO_REUSEPORT: the kernel gives each connection to one of them."""
    trial, number = pair[0], next(_numbers)
    address, source = service_address(number), source_address(number)
    listeners = []
    for _ in range(2):
        with hosts.first.inside():
            listener = trial.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address, trial.port))
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 64)
        set_key(listener, secrets.token_bytes(16))
        listener.listen(64)
        listeners.append(listener)
    ports = [serve(dial(hosts.client, (address, trial.port), source=source), *listeners) for _ in range(24)]
    told = {outcome: set[Said]() for outcome in ("cookie_granted", "data_acked", "data_not_acked_new_cookie")}
    for port in ports:
        record = trial.at("server", port)
        told[str(record.tfo.outcome)].add(said(record))
    assert told["cookie_granted"] | told["data_acked"] <= {(None, None)}
    assert told["data_not_acked_new_cookie"] <= {DIFFERS}
    for place in AWAY:  # a pool of servers without a shared key looks like this
        for port in ports:
            assert trial.at(place, port).tfo.cause in (None, "cookie_stale", "key_not_shared", "listener_key_differs")
