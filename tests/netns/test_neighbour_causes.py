"""Noisy neighbours: listeners of one host, each with a trouble of its own, under traffic at once.

Counters are the whole host's, and each listener's clients must not be told of what another's suffer from.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import pytest

from tests.support.hosts import tcp_counters
from tests.support.netbox import NetBox, wait_until
from tests.support.routed import Routed, service_address, source_address
from tests.support.stage import accept_queue
from tests.support.trials import (
    DROPPED,
    NO_FATE,
    NO_QUEUE,
    NOTHING,
    PERHAPS_NO_QUEUE,
    UNANSWERED,
    Crowd,
    Fate,
    Places,
    Said,
    Trial,
    begin,
    dial,
    dropping,
    fate,
    routed_places,
    said,
    trying,
)
from tracer.lab.sockets import DROP_UNLESS_SYN, attach, detach

pytestmark = [pytest.mark.root, pytest.mark.slow]

EACH = 10  # connections of each listener
AWAY = ("client", "near", "far")
EVERYWHERE = (*AWAY, "server")
QUEUES = ("ListenOverflows", "ListenDrops", "TCPReqQFullDrop")
FULL: Said = ("queue_overflow", "likely")
PERHAPS_FULL: Said = ("queue_overflow", "possible")
UNSUPPORTED: Said = ("not_supported", "possible")
LOST: tuple[Said, ...] = (("packet_loss", "possible"), ("path_drops_syn_data", "likely"))
BARE_SYN = "tcp flags & (syn|ack) == syn"
_numbers = count(1)


@pytest.fixture(scope="module")
def hosts_and_places() -> Iterator[tuple[Routed, Places]]:
    with routed_places() as made:
        yield made


@pytest.fixture
def hosts(hosts_and_places: tuple[Routed, Places]) -> Routed:
    return hosts_and_places[0]


@dataclass
class Neighbour:
    """A listener with clients of its own, and their ports."""

    trial: Trial
    crowd: Crowd
    ports: list[int]

    def outcomes(self, place: str) -> set[str | None]:
        return {self.trial.at(place, port).tfo.outcome for port in self.ports}

    def told(self, place: str) -> set[Said]:
        return {said(self.trial.at(place, port)) for port in self.ports}

    def fates(self, place: str) -> set[Fate]:
        return {fate(self.trial.at(place, port)) for port in self.ports}


Street = Mapping[str, Neighbour]


@pytest.fixture
def street(hosts_and_places: tuple[Routed, Places]) -> Iterator[Street]:
    """Five listeners. Where Fast Open works the clients have a cookie."""
    hosts, places = hosts_and_places
    queues = {"healthy": 64, "overflowing": 1, "firewalled": 64, "deaf": 64, "without": None}
    trials = [trying(places) for _ in queues]
    made = {}
    with trials[0] as a, trials[1] as b, trials[2] as c, trials[3] as d, trials[4] as e:
        for trial, (name, queue) in zip((a, b, c, d, e), queues.items(), strict=True):
            number = next(_numbers)
            listener = trial.enter_context(hosts.listen(hosts.first, service_address(number), trial.port, queue))
            made[name] = Neighbour(trial, Crowd(hosts.client, listener, source_address(number)), [])
            if queue is not None:
                trial.nothing_said(EVERYWHERE, made[name].crowd.exchange())
            else:
                trial.come_to("server", NO_QUEUE, made[name].crowd.exchange, PERHAPS_NO_QUEUE)
        yield made


def moved(box: NetBox, before: Mapping[str, int], *names: str) -> dict[str, int]:
    after = tcp_counters(box)
    return {name: after[name] - before[name] for name in names}


def fill_fast_open_queue(hosts: Routed, one: Neighbour) -> socket.socket:
    """A connection that is accepted and never established keeps its place in the queue of one."""
    attach(one.crowd.listener, DROP_UNLESS_SYN)
    one.trial.enter_context(dial(hosts.client, one.crowd.target, source=source_address(40)))
    child = one.trial.enter_context(one.crowd.listener.accept()[0])  # has inherited the filter
    detach(one.crowd.listener)
    return child


def test_five_listeners_of_one_host(hosts: Routed, street: Street) -> None:
    firewalled, deaf = street["firewalled"], street["deaf"]
    deaf.trial.may_drop.add("server")
    source = source_address(40)
    # the client that fills the queue needs a cookie too
    overflowing = street["overflowing"]
    serve_one = Crowd(hosts.client, overflowing.crowd.listener, source)
    serve_one.exchange()
    fill_fast_open_queue(hosts, overflowing)
    # that it has a queue at all must be known
    overflowing.trial.come_to("server", FULL, overflowing.crowd.exchange, PERHAPS_FULL)
    before = tcp_counters(hosts.first)
    with (
        dropping(hosts.first, f"ip daddr {firewalled.crowd.target[0]} meta length > 100 {BARE_SYN}"),
        dropping(hosts.first, f"ip daddr {deaf.crowd.target[0]}") as dropped,
    ):
        given_up = []
        for _ in range(EACH):
            for name, one in street.items():
                if name != "deaf":
                    one.ports.append(one.crowd.send())
            client = begin(hosts.client, deaf.crowd.target, source=source)
            deaf.ports.append(client.getsockname()[1])
            given_up.append(client)
        wait_until(lambda: dropped.packets >= EACH, "the SYNs that the firewall drops")
        for client in given_up:
            client.close()
        for name, one in street.items():
            if name != "deaf":
                one.crowd.finish()
    # the kernel's word: one queue was full, each time that it was tried, and no other queue ever
    assert moved(hosts.first, before, "TCPFastOpenListenOverflow", *QUEUES) == {
        "TCPFastOpenListenOverflow": EACH, **dict.fromkeys(QUEUES, 0),
    }  # fmt: skip

    healthy, without = street["healthy"], street["without"]
    for place in EVERYWHERE:
        assert (healthy.outcomes(place), healthy.told(place)) == ({"data_acked"}, {NOTHING}), place
        assert overflowing.outcomes(place) == {"data_not_acked"}
        assert without.outcomes(place) <= {"cookie_not_granted"}
        assert firewalled.outcomes(place) == {"syn_timeout_fallback"}
        for one in (healthy, overflowing, without):
            assert one.fates(place) == {NO_FATE}, place
        # a later SYN was answered
        assert firewalled.fates(place) <= {NO_FATE, ("syn_or_synack_lost", "possible", None)}, place
    assert overflowing.told("server") == {FULL}
    assert without.told("server") == {NO_QUEUE}
    assert firewalled.told("server") == deaf.told("server") == {NOTHING}
    assert deaf.fates("server") == {DROPPED}
    for place in AWAY:
        assert overflowing.told(place) == {NOTHING}  # it has worked before
        assert without.told(place) == {UNSUPPORTED}
        assert firewalled.told(place) <= set(LOST)
        assert deaf.told(place) == {NOTHING}
        assert {cause for cause, _, _ in deaf.fates(place)} <= set(UNANSWERED), place


def test_a_firewalled_listener_beside_one_whose_accept_queue_is_full(hosts: Routed, street: Street) -> None:
    """The counters could be of either: then nothing is said of the one whose SYN found no answer."""
    healthy, deaf = street["healthy"], street["deaf"]
    trial, number = street["without"].trial, next(_numbers)
    crowded = trial.enter_context(hosts.listen(hosts.first, service_address(number), trial.port + 1000, backlog=0))
    waiting = [trial.enter_context(begin(hosts.client, crowded.getsockname(), source=source_address(number)))]
    wait_until(lambda: accept_queue(crowded) == 1, "the accept queue")
    before = tcp_counters(hosts.first)
    with dropping(hosts.first, f"ip daddr {deaf.crowd.target[0]}") as dropped:
        client = begin(hosts.client, deaf.crowd.target, source=source_address(number))
        deaf.ports.append(client.getsockname()[1])
        dropped.wait()
        waiting.append(trial.enter_context(begin(hosts.client, crowded.getsockname(), source=source_address(number))))
        wait_until(lambda: moved(hosts.first, before, "ListenOverflows")["ListenOverflows"] > 0, "an overflow")
        client.close()
        for one in waiting:
            one.close()
        healthy.ports.append(healthy.crowd.exchange())
        for place in EVERYWHERE:
            assert deaf.told(place) == {NOTHING}
            assert {cause for cause, _, at in deaf.fates(place) if at == "this_host"} == set(), place
            assert {"accept_queue_full", "host_dropped"}.isdisjoint(cause for cause, *_ in deaf.fates(place)), place
            assert healthy.told(place) == {NOTHING}
