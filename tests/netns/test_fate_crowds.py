"""Many handshakes at once: a thousand ordinary ones beside some that fail, and half-open ones from ever new addresses.

What fails is named, and nothing else. Half-open ones are a flood only where they are many, of many addresses, and more
than half of all that a listener gets.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.support.fates import (
    EVERYWHERE,
    NOTHING,
    TCP_DEFER_ACCEPT,
    Fate,
    Scenery,
    Watched,
    away,
    here,
    watched,
)
from tests.support.hosts import ANSWER, REQUEST
from tests.support.netbox import wait_until
from tests.support.patience import PATIENCE_S
from tests.support.stage import PORT
from tracer.lab.packet import MSS_1460, Flag, Segment
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

FORGED = "10.97"  # the first half of forged addresses
FLOOD = Fate("syn_flood", "likely", frozenset((None, "client", "path", "this_host", "server")))
UNFINISHED = away("ack_missing", "possible", "client", "path")
COOKIES = here("syn_cookies", "likely")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Watched]:
    with watched() as made:
        made.hosts.client.run("ip", "tcp_metrics", "flush")
        # answers to forged addresses go to the host that forged them, which takes no notice
        made.hosts.router.run("ip", "route", "add", f"{FORGED}.0.0/16", "via", "10.98.9.2")
        yield made


_numbers = iter(range(1, 30))


def another(hosts: Watched, version: int = 4) -> Scenery:
    """A service address that was not used before."""
    return Scenery(hosts, next(_numbers), version)


def told(hosts: Watched, place: str, address: str, number: int) -> list[Handshake]:
    """All records of a service address at a place, once there are so many."""
    wait_until(lambda: len(hosts.records(place, address)) >= number, f"{number} records at {place}", PATIENCE_S)
    return hosts.records(place, address)


# --- ordinary ones ---


def plainly(scene: Scenery, listener: socket.socket) -> None:
    scene.serve_one(listener)


def with_fast_open(scene: Scenery, listener: socket.socket) -> None:
    scene.hosts.exchange(listener)


def server_first(scene: Scenery, listener: socket.socket) -> None:
    with scene.client_from() as client:
        scene.dial(client)
        child, _ = listener.accept()
        with child:
            child.sendall(ANSWER)
            assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER


def health_check(scene: Scenery, listener: socket.socket) -> None:
    with scene.client_from() as client:
        scene.dial(client)
    listener.accept()[0].close()


def half_closed(scene: Scenery, listener: socket.socket) -> None:
    with scene.client_from() as client:
        scene.dial(client)
        client.sendall(REQUEST)
        client.shutdown(socket.SHUT_WR)
        child, _ = listener.accept()
        with child:
            while child.recv(100):
                pass
            child.sendall(ANSWER)
        assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER


def left_unread(scene: Scenery, listener: socket.socket) -> None:
    """The client resets, since it closes with an answer that it did not read."""
    with scene.client_from() as client:
        scene.dial(client)
        client.sendall(REQUEST)
        child, _ = listener.accept()
        with child:
            assert child.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
            child.sendall(ANSWER)
            assert client.recv(1, socket.MSG_PEEK)
            client.close()


KINDS = (
    (plainly, 4, 500), (plainly, 6, 100), (with_fast_open, 4, 100), (with_fast_open, 6, 50), (server_first, 4, 100),
    (health_check, 4, 50), (half_closed, 4, 50), (left_unread, 4, 50),
)  # fmt: skip


def test_a_thousand_ordinary_ones_beside_some_that_fail(hosts: Watched) -> None:
    assert sum(number for _, _, number in KINDS) == 1000
    with ExitStack() as opened:
        closed = opened.enter_context(another(hosts))
        dropped = opened.enter_context(another(hosts))
        dropped.listen(queue=None)
        dropped.drop(hosts.hosts.first, "input", dropped.to_server)
        late = dropped.begin_from()
        crowds = [(opened.enter_context(another(hosts, version)), number) for _, version, number in KINDS]
        listeners = [scene.listen() for scene, _ in crowds]
        listeners[0].setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 5)
        refused = []
        # in turn, as they come on a host
        for turn in range(50):
            for (exchange, _, number), (scene, _), listener in zip(KINDS, crowds, listeners, strict=True):
                for _ in range(number // 50):
                    exchange(scene, listener)
            if turn % 10 == 0:
                refused.append(closed.try_to(errno.ECONNREFUSED))
        port = dropped.fails(late, errno.ETIMEDOUT)
        for place in EVERYWHERE:
            for scene, number in crowds:
                records = told(hosts, place, scene.server_ip, number)
                assert len(records) == number
                wrong = [one for one in records if not NOTHING.fits(one) or one.handshake.drop or one.warnings]
                assert not wrong, (place, wrong[0])
        at_server = told(hosts, "server", closed.server_ip, len(refused))
        assert all(here("no_listener").fits(one) for one in at_server)
        assert here("host_dropped").fits(hosts.wait_told("server", dropped.server_ip, port))


# --- half-open ones ---


def leave_half_open(scene: Scenery, some: range, addresses: int) -> None:
    """Forged SYNs, whose answers go nowhere."""
    for at in some:
        source = f"{FORGED}.{scene.server_ip.split('.')[2]}.{at % addresses + 1}"
        syn = Segment(10_000 + at, PORT, at * 1_000_003, 0, Flag.SYN, MSS_1460)
        scene.forge(syn, source, scene.server_ip)


def half_open(records: Sequence[Handshake]) -> list[Handshake]:
    return [one for one in records if one.client.ip.startswith(FORGED)]


def causes(records: Sequence[Handshake]) -> Counter[str | None]:
    return Counter(one.handshake.cause for one in records)


def are_ordinary(records: Sequence[Handshake], number: int) -> None:
    """Those who are not forged."""
    others = [one for one in records if not one.client.ip.startswith(FORGED)]
    assert len(others) == number
    assert {one.handshake.result for one in others} <= {"established"}
    assert all(NOTHING.fits(one) for one in others), [one.handshake for one in others]


@dataclass
class Crowd:
    """So many half-open ones of so many addresses at a listener, and so many real ones among them."""

    number: int
    addresses: int
    real: int
    backlog: int = 1024
    scene: Scenery = field(init=False)

    def play(self) -> None:
        """The real ones among the others: then it makes no difference how long that takes."""
        listener = self.scene.listen(queue=None, backlog=self.backlog)
        turns = max(self.real, 1)
        for turn in range(turns):
            some = range(self.number * turn // turns, self.number * (turn + 1) // turns)
            leave_half_open(self.scene, some, self.addresses)
            if self.real:
                self.scene.serve_one(listener)


CROWDS = {
    "flood": Crowd(200, 200, 3),
    "cookies": Crowd(200, 200, 1, backlog=20),
    "of few addresses": Crowd(120, 40, 0),
    "not many": Crowd(90, 90, 0),
    "fewer than those that are served": Crowd(110, 110, 120),
    "one that vanishes": Crowd(1, 1, 1),
}


@pytest.fixture(scope="module")
def crowds(hosts: Watched) -> Iterator[dict[str, Crowd]]:
    """All of them at once: what is a flood at one listener is none at another."""
    with ExitStack() as opened:
        for name, crowd in CROWDS.items():
            crowd.scene = opened.enter_context(another(hosts))
            counters = ("SyncookiesSent",) if name == "cookies" else ()
            with crowd.scene.counting(hosts.hosts.first, *counters):
                crowd.play()
        yield CROWDS


def test_a_flood_beside_three_real_ones(hosts: Watched, crowds: dict[str, Crowd]) -> None:
    address = crowds["flood"].scene.server_ip
    for place in ("far", "server"):
        records = told(hosts, place, address, 203)
        forged = half_open(records)
        assert (len(records), len(forged)) == (203, 200)
        assert {one.handshake.result for one in forged} == {"half_open"}
        assert all(FLOOD.fits(one) or UNFINISHED.fits(one) for one in forged), causes(forged)
        # those that were settled after there were so many
        assert causes(forged)["syn_flood"] >= 100, (place, causes(forged))
        are_ordinary(records, 3)
    for place in ("client", "near"):
        are_ordinary(told(hosts, place, address, 3), 3)


def test_a_flood_that_is_answered_by_cookies(hosts: Watched, crowds: dict[str, Crowd]) -> None:
    records = told(hosts, "server", crowds["cookies"].scene.server_ip, 201)
    forged = half_open(records)
    assert all(any(fate.fits(one) for fate in (FLOOD, COOKIES, UNFINISHED)) for one in forged), causes(forged)
    assert causes(forged)["syn_flood"] + causes(forged)["syn_cookies"] >= 100, causes(forged)
    are_ordinary(records, 1)


@pytest.mark.parametrize("name", list(CROWDS)[2:])
def test_half_open_ones_that_are_no_flood(hosts: Watched, crowds: dict[str, Crowd], name: str) -> None:
    crowd = crowds[name]
    for place in ("far", "server"):
        records = told(hosts, place, crowd.scene.server_ip, crowd.number + crowd.real)
        forged = half_open(records)
        assert len(forged) == crowd.number
        assert all(UNFINISHED.fits(one) for one in forged), (place, causes(forged))
        are_ordinary(records, crowd.real)
