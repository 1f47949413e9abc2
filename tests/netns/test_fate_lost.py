"""Segments that get lost on the way, late answers, and a path that takes no SYN which asks for ECN.

Who sends a SYN again cannot know what was lost. The server can, once it has answered; timestamps tell a late answer.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.fates import (
    AFTER_SYN,
    BARE_ACK,
    BARE_SYN,
    BEFORE,
    BEYOND,
    ECN_SYN,
    EVERYWHERE,
    LOST,
    NOTHING,
    ORDINARY,
    SOMETHING_LOST,
    SYN_ACK,
    UNFINISHED,
    Fate,
    Played,
    Scene,
    Scenery,
    Scenes,
    at,
    away,
    here,
    play,
    port_of,
    seen,
    watched,
)
from tests.support.hosts import REQUEST
from tests.support.routed import TO_CLIENT
from tests.support.stage import PORT
from tracer.lab.packet import MSS_1460, Flag, Segment
from tracer.lab.stage import isn

pytestmark = [pytest.mark.root, pytest.mark.slow]

SCENES = Scenes()
SYN, ACK = Flag.SYN, Flag.ACK
NEAR_THE_CLIENT = ("client", "near")
LOST_ANSWER = away("synack_lost", "likely", "path")
SLOW = Fate("slow_answer", "likely", frozenset((None, "server", "path", "this_host")))
ECN_ONCE, ECN_AGAIN = away("ecn_blocked", "possible", "path"), away("ecn_blocked", "likely", "path")
PERHAPS_FULL = away("accept_queue_full", "possible", "server")
PERHAPS_DEFERRED = away("accept_deferred", "possible", "server")
# The router drops in these scenes, and its kernel says so.
DROPPED_HERE = here("not_forwarded"), here("not_forwarded", "likely"), here("host_dropped")
GREETING = b"220 mail.example ESMTP\r\n"


# --- SYNs and SYN-ACKs ---


@SCENES.scene(
    **at(NEAR_THE_CLIENT, seen("established", SOMETHING_LOST, syn_count=2, answered_syn=2)), **at(BEYOND, ORDINARY)
)
def a_syn(scene: Scenery) -> int:
    listener = scene.listen(queue=None)
    scene.drop_first(f"iifname {TO_CLIENT} {scene.to_server} {BARE_SYN}")
    return scene.serve_one(listener)


@SCENES.scene_by_ipv6(
    **at(NEAR_THE_CLIENT, seen("established", SOMETHING_LOST, syn_count=2, answered_syn=2)), **at(BEYOND, ORDINARY)
)
def a_syn_by_ipv6(scene: Scenery) -> int:
    listener = scene.listen(queue=None)
    scene.drop_first(f"iifname {TO_CLIENT} {scene.to_server} {BARE_SYN}")
    return scene.serve_one(listener)


@SCENES.scene(
    # a SYN-ACK that is sent again echoes the first SYN, as a late one does; but something was lost, or late
    **at(NEAR_THE_CLIENT, seen("established", SOMETHING_LOST, SLOW)),
    far=seen("established", LOST_ANSWER, SOMETHING_LOST), server=seen("established", LOST_ANSWER),
)  # fmt: skip
def a_synack(scene: Scenery) -> int:
    """The client's second SYN reaches a server that has answered."""
    listener = scene.listen(queue=None, synack_retries=5)
    tap = scene.tap(scene.hosts.first)
    with scene.drop(scene.hosts.router, "forward", f"{scene.to_client} {SYN_ACK}"):
        client = scene.begin_from(retries=5)
        for _ in range(2):
            tap.next(SYN, without=ACK)
    client.sendall(REQUEST)
    scene.answer(scene.accept(listener), client)
    return port_of(client)


# --- ACKs ---


@SCENES.scene(
    far=seen("half_open", UNFINISHED, *DROPPED_HERE), server=seen("half_open", UNFINISHED),
    client=seen("established", PERHAPS_DEFERRED), near=seen("established", PERHAPS_DEFERRED, *DROPPED_HERE),
)  # fmt: skip
def all_acks_of_a_client_that_waits(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.hold(AFTER_SYN)
    return port_of(scene.connect())


@SCENES.scene(
    far=seen("half_open", UNFINISHED, *DROPPED_HERE), server=seen("half_open", UNFINISHED),
    client=seen("established", PERHAPS_FULL), near=seen("established", PERHAPS_FULL, *DROPPED_HERE),
)  # fmt: skip
def all_acks_of_a_client_that_asks(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.hold(AFTER_SYN)
    client = scene.connect()
    client.sendall(REQUEST)
    return port_of(client)


@SCENES.scene(
    client=seen("half_open", UNFINISHED, here("host_dropped")), near=seen("half_open", UNFINISHED),
    **at(BEYOND, seen("half_open", UNFINISHED)),
)  # fmt: skip
def a_client_that_vanishes(scene: Scenery) -> int:
    """It never answers the SYN-ACK, which its host drops, and says nothing more."""
    scene.listen(queue=None)
    client = scene.raw_client()
    client.send(PORT, SYN, isn(), options=MSS_1460)
    client.receive(SYN | ACK)
    return client.port


@SCENES.scene(**at(NEAR_THE_CLIENT, seen("established", NOTHING, PERHAPS_DEFERRED)), **at(BEYOND, ORDINARY))
def one_ack_before_the_server_speaks(scene: Scenery) -> int:
    """The server sends its SYN-ACK again, gets another ACK, and then its turn comes."""
    listener = scene.listen(queue=None)
    scene.drop_first(f"iifname {TO_CLIENT} {scene.to_server} {BARE_ACK}")
    client = scene.connect()
    child = scene.accept(listener, read=0)
    child.sendall(GREETING)
    assert client.recv(len(GREETING)) == GREETING
    return port_of(client)


@SCENES.scene(**at(EVERYWHERE, ORDINARY))
def one_ack_before_the_request(scene: Scenery) -> int:
    """The request acks as well."""
    listener = scene.listen(queue=None)
    scene.drop_first(f"iifname {TO_CLIENT} {scene.to_server} {BARE_ACK}")
    return scene.serve_one(listener)


# --- answers that come late ---


@SCENES.scene(**at(EVERYWHERE, seen("established", SLOW, syn_count=2, answered_syn=1)))
def a_server_that_answers_the_first_syn_late(scene: Scenery) -> int:
    server = scene.raw_server()
    client = scene.begin_from()
    first = server.receive(SYN)
    again = server.receive(SYN)
    time.sleep(0.4)  # a SYN-ACK that is sent again comes at once, or with the client's second SYN
    scene.answer_by_hand(server, again, client, echo(first))
    return again.source_port


@SCENES.scene(**at(EVERYWHERE, ORDINARY))
def a_server_that_takes_its_time(scene: Scenery) -> int:
    """But not so long that the client sends its SYN again."""
    server = scene.raw_server()
    client = scene.begin_from()
    syn = server.receive(SYN)
    time.sleep(0.5)  # what is tried is that time
    scene.answer_by_hand(server, syn, client, echo(syn))
    return syn.source_port


def echo(syn: Segment) -> bytes:
    """A timestamp option that echoes this SYN's."""
    at = syn.options.index(b"\x08\x0a")
    return b"\x01\x01\x08\x0a" + bytes((0, 0, 0, 9)) + syn.options[at + 2 : at + 6]


# --- ECN ---


@contextmanager
def asking_for_ecn(scene: Scenery) -> Iterator[None]:
    """The client asks this server, by its route."""
    address = f"{scene.server_ip}/32"
    box = scene.hosts.client
    box.run("ip", "route", "add", address, "via", "10.98.0.1", "features", "ecn")
    try:
        yield
    finally:
        box.run("ip", "route", "del", address)


BLOCKED_ONCE = seen("established", ECN_ONCE, syn_count=2, answered_syn=2, answered_ecn="none", negotiated=lambda one: (
    one["ecn"] is None or one["ecn"] == "none"
))  # fmt: skip
BLOCKED_AGAIN = seen("established", ECN_AGAIN, syn_count=2, answered_syn=2, answered_ecn="none")
TWO = [ORDINARY, ORDINARY]
THREE, FOUR = [*TWO, ORDINARY], [*TWO, *TWO]


@SCENES.scene(**at(NEAR_THE_CLIENT, [BLOCKED_ONCE, BLOCKED_AGAIN]), **at(BEYOND, TWO))
def syns_with_ecn_that_vanish(scene: Scenery) -> list[int]:
    """A middlebox eats them; the client falls back to a plain one."""
    listener = scene.listen(queue=None)
    scene.drop(scene.hosts.router, "forward", f"{scene.to_server} {ECN_SYN}")
    with asking_for_ecn(scene):
        return scene.serve_in_turn(listener, NEAR_THE_CLIENT, 2)


@SCENES.scene(
    **at(BEFORE, [
        seen("rejected", away("refused", "possible", "server")), ORDINARY, seen("rejected", ECN_ONCE, ECN_AGAIN),
        seen("rejected", ECN_AGAIN),
    ]),
    server=[seen("rejected", here("firewall_rejected")), ORDINARY, *[seen("rejected", here("firewall_rejected"))] * 2],
)  # fmt: skip
def syns_with_ecn_that_are_refused(scene: Scenery) -> list[int]:
    """Only once a plain one was taken it is known that ECN is the reason."""
    listener = scene.listen(queue=None)
    answer = f"{scene.to_server} {ECN_SYN} reject with tcp reset"
    scene.enter_context(scene.rules(scene.hosts.first, "input", answer))
    ports = []
    for with_ecn in (True, False, True, True):
        if with_ecn:
            with asking_for_ecn(scene):
                ports.append(scene.try_to(errno.ECONNREFUSED))
        else:
            ports.append(scene.serve_one(listener))
        for place in BEFORE:
            scene.wait_told(place, ports[-1])
    return ports


@SCENES.scene(
    **at(NEAR_THE_CLIENT, [ORDINARY, seen("established", SOMETHING_LOST, LOST), ORDINARY]), **at(BEYOND, THREE)
)  # fmt: skip
def one_syn_with_ecn_lost_by_chance(scene: Scenery) -> list[int]:
    """Another one had passed."""
    listener = scene.listen(queue=None)
    with asking_for_ecn(scene):
        ports = scene.serve_in_turn(listener, EVERYWHERE, 1)
        with scene.dropping_first(f"iifname {TO_CLIENT} {scene.to_server} {ECN_SYN}"):
            ports += scene.serve_in_turn(listener, NEAR_THE_CLIENT, 1)
        return ports + scene.serve_in_turn(listener, NEAR_THE_CLIENT, 1)


@SCENES.scene(
    **at(NEAR_THE_CLIENT, [BLOCKED_ONCE, ORDINARY, seen("established", SOMETHING_LOST, LOST)]), **at(BEYOND, THREE)
)  # fmt: skip
def two_of_three_syns_with_ecn_lost_by_chance(scene: Scenery) -> list[int]:
    """The one between them passed, so the path does not eat them."""
    listener = scene.listen(queue=None)
    ports = []
    with asking_for_ecn(scene):
        for lost in (True, False, True):
            match = f"iifname {TO_CLIENT} {scene.to_server} {ECN_SYN}"
            with scene.dropping_first(match if lost else f"{match} tcp sport 1"):
                ports += scene.serve_in_turn(listener, NEAR_THE_CLIENT, 1)
    return ports


@SCENES.scene(**at(EVERYWHERE, FOUR))
def ecn_that_works(scene: Scenery) -> list[int]:
    with asking_for_ecn(scene):
        return scene.serve_in_turn(scene.listen(queue=None), ("client",), 4)


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with watched() as made:
        yield play(SCENES, made)


@pytest.mark.parametrize("scene", SCENES, ids=[one.name for one in SCENES])
def test_what_was_lost(played: Played, scene: Scene) -> None:
    played.check(scene)
