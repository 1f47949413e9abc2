"""Listeners whose queues are full, who wait for data, or send SYN cookies; and a host without a route to the client.

Counters are the whole host's, so these scenes are played in turns. Only the server's host can know.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator, Mapping

import pytest

from tests.support.fates import (
    AFTER_SYN,
    BARE_SYN,
    BEFORE,
    DOWN,
    EVERYWHERE,
    LOST,
    NOT_ANSWERED,
    ORDINARY,
    TCP_DEFER_ACCEPT,
    UNFINISHED,
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
from tests.support.hosts import REQUEST, tcp_counters
from tests.support.kernel_reasons import has_reason
from tests.support.patience import FACTOR, SHORT_S
from tests.support.play import syn_proxy
from tests.support.routed import source_address
from tests.support.stage import PORT, nothing_for, reset, wait_for_queue
from tracer.lab.packet import MSS_1460, Flag
from tracer.lab.stage import isn

pytestmark = [pytest.mark.root, pytest.mark.slow]

SCENES = Scenes()
SYN, ACK = Flag.SYN, Flag.ACK
# The client has been answered before, by the connections that fill the queue; the router passed the SYN on. In
# emulation, runs wait so long for silent connections that these are told later.
ANSWERED_BEFORE = seen("no_reply", LOST) if FACTOR == 1 else seen("no_reply", LOST, DOWN)
AFTER_OTHERS = {"client": ANSWERED_BEFORE, **at(("near", "far"), seen("no_reply", NOT_ANSWERED))}
FULL = here("accept_queue_full")
# what only looks at the sockets can tell, which are the rarer the longer they take
SEEN_FULL = (FULL,) if FACTOR == 1 else (FULL, *(here("accept_queue_full", less) for less in ("likely", "possible")))
PERHAPS_FULL = away("accept_queue_full", "possible", "server")
PERHAPS_DEFERRED = away("accept_deferred", "possible", "server")
FILTERED = source_address(8)
UNREACHED = source_address(9)  # a client to which the server has no route


OTHER_PORT = PORT + 1
SCAN_END = seen("aborted")


# --- half-open connections ---


def half_open(scene: Scenery, number: int) -> list[int]:
    """Clients that never go on; returns their ports."""
    ports = []
    for _ in range(number):
        client = scene.raw_client()
        client.send(PORT, SYN, isn(), options=MSS_1460)
        client.receive(SYN | ACK)
        ports.append(client.port)
    return ports


LEFT_OPEN = seen("half_open", UNFINISHED)
LEFT_OPEN_THERE = seen("half_open", UNFINISHED, here("host_dropped"))  # whose host drops the SYN-ACK


@SCENES.scene(
    client=[seen("no_reply", LOST, DOWN), *[LEFT_OPEN_THERE] * 3],
    **at(("near", "far"), [seen("no_reply", NOT_ANSWERED), *[LEFT_OPEN] * 3]),
    server=[seen("no_reply", here("syn_queue_full", "likely")), *[LEFT_OPEN] * 3],
)  # fmt: skip
def half_open_ones_fill_the_queue(scene: Scenery) -> list[int]:
    scene.enter_context(scene.hosts.sysctl(scene.hosts.first, tcp_syncookies="0"))
    scene.listen(queue=None, backlog=2)
    others = half_open(scene, 3)
    with scene.counting(scene.hosts.first, "TCPReqQFullDrop"):
        return [scene.try_to(errno.ETIMEDOUT), *others]


# --- who waits for data ---


@SCENES.scene(
    **at(BEFORE, seen("established", PERHAPS_DEFERRED, after="synack_again")),
    server=seen("established", here("accept_deferred", "likely"), after="synack_again", drop=None),
    server_inferring=seen("established", here("accept_deferred", "likely")),
)
def a_client_that_sends_nothing_to_who_waits_for_data(scene: Scenery) -> int:
    listener = scene.listen(queue=None)
    listener.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 1)
    with scene.counting(scene.hosts.first, "TCPDeferAcceptDrop"):
        port = port_of(scene.connect())
        scene.wait_told("server", port)
    return port


@SCENES.scene(**at(EVERYWHERE, [ORDINARY] * 5), server_inferring=[ORDINARY] * 5)
def clients_that_send_at_once_to_who_waits_for_data(scene: Scenery) -> list[int]:
    listener = scene.listen(queue=None)
    listener.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 5)
    with scene.counting(scene.hosts.first, "TCPDeferAcceptDrop"):
        return [scene.serve_one(listener) for _ in range(5)]


@SCENES.scene(**at(EVERYWHERE, ORDINARY), server_inferring=ORDINARY)
def a_client_that_thinks_before_it_sends_to_who_waits_for_data(scene: Scenery) -> int:
    listener = scene.listen(queue=None)
    listener.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 5)
    client = scene.connect()
    nothing_for(0.4, client)
    scene.finish(listener, client)
    return port_of(client)


SCENES.next_turn()


# --- SYN cookies ---

COOKIES = here("syn_cookies", "likely")


@SCENES.scene(
    client=[LEFT_OPEN_THERE] * 4, near=[LEFT_OPEN] * 4, far=[LEFT_OPEN] * 4,
    server=[seen("half_open", UNFINISHED, COOKIES)] * 3 + [seen("half_open", COOKIES)],
)  # fmt: skip
def half_open_ones_that_get_cookies(scene: Scenery) -> list[int]:
    """The last one has no place any more."""
    scene.listen(queue=None, backlog=2)
    first = half_open(scene, 3)
    with scene.counting(scene.hosts.first, "SyncookiesSent", "TCPReqQFullDoCookies"):
        return first + half_open(scene, 1)


SCENES.next_turn()


# --- the way back ---


@SCENES.scene(
    client=seen("no_reply", LOST), **at(("near", "far"), seen("no_reply", NOT_ANSWERED)),
    **at(("server", "server_inferring"), seen("no_reply", here("no_route_back"))),
)  # fmt: skip
def a_client_to_which_no_route_leads(scene: Scenery) -> int:
    scene.serve_in_turn(scene.listen(queue=None), EVERYWHERE, 1)
    box = scene.hosts.first
    box.run("ip", "route", "add", "throw", f"{UNREACHED}/32")
    scene.callback(box.run, "ip", "route", "del", "throw", f"{UNREACHED}/32")
    before = tcp_counters(box)["ListenOverflows"]
    with scene.counting(box, "ListenDrops"):
        port = scene.try_to(errno.ETIMEDOUT, source=UNREACHED)
    assert tcp_counters(box)["ListenOverflows"] == before
    return port


SCENES.next_turn()


# --- the queue of connections to accept ---


def fill(scene: Scenery, backlog: int) -> socket.socket:
    """A listener whose queue is full: that of Linux takes one more than its backlog."""
    listener = scene.listen(queue=None, backlog=backlog)
    for _ in range(backlog + 1):
        scene.connect()
    wait_for_queue(listener, backlog + 1)
    return listener


def the_listener(queued: int, backlog: int) -> object:
    """Says which one it was, and how full."""
    return lambda one: one is not None and (one["port"], one["queued"], one["backlog"]) == (PORT, queued, backlog)


@SCENES.scene(
    **AFTER_OTHERS, server=seen("no_reply", FULL, listener=the_listener(2, 1)),
    server_inferring=seen("no_reply", *SEEN_FULL, listener=the_listener(2, 1)),
)  # fmt: skip
def full_when_the_syn_comes(scene: Scenery) -> int:
    """The socket table shows it."""
    fill(scene, backlog=1)
    with scene.counting(scene.hosts.first, "ListenOverflows", "ListenDrops"):
        return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(**AFTER_OTHERS, server=seen("no_reply", *{*SEEN_FULL, here("accept_queue_full", "likely")}))
def full_when_the_syn_comes_and_empty_afterwards(scene: Scenery) -> int:
    """Counters alone tell then, or whoever looked in time."""
    listener = fill(scene, backlog=1)
    with scene.counting(scene.hosts.first, "ListenOverflows", "ListenDrops"):
        port = scene.try_to(errno.ETIMEDOUT)
    for _ in range(2):
        listener.accept()[0].close()
    return port


@SCENES.scene(
    client=[ANSWERED_BEFORE] * 2, **at(("near", "far"), [seen("no_reply", NOT_ANSWERED)] * 2),
    server=[seen("no_reply", here("host_dropped")), seen("no_reply", FULL)],
)  # fmt: skip
def a_filter_beside_a_full_queue(scene: Scenery) -> list[int]:
    """One client's SYN never comes to the listener, and another's finds it full."""
    fill(scene, backlog=1)
    scene.drop(scene.hosts.first, "input", f"ip saddr {FILTERED} {scene.to_server} {BARE_SYN}")
    filtered, other = scene.begin_from(scene.client_from(FILTERED)), scene.begin_from()
    return [scene.fails(one, errno.ETIMEDOUT) for one in (filtered, other)]


def of_the_last_ack(drop: Mapping[str, object] | None) -> bool:
    """A kernel without a reason for it tells at most that the router held the first one back, in its own namespace."""
    if has_reason("TCP_LISTEN_OVERFLOW"):
        return drop is not None and (drop["segment"], drop["reason"]) == ("ack", "TCP_LISTEN_OVERFLOW")
    return drop is None or (drop["reason"] == "NETFILTER_DROP" and drop["netns"] is not None)


# where the server sends its SYN-ACK again after the ACK, and what the client sent tells
FULL_AT_THE_ACK = {
    **at(BEFORE, seen("established", PERHAPS_FULL, after="synack_again")),
    "server": seen(
        "established", *((FULL,) if has_reason("TCP_LISTEN_OVERFLOW") else SEEN_FULL), after="synack_again",
        drop=of_the_last_ack,
    ),
    "server_inferring": seen("established", *{*SEEN_FULL, here("accept_queue_full", "likely")}),
}  # fmt: skip


def late_ack(scene: Scenery, *, asks: bool) -> int:
    """The queue fills up between a client's SYN and its ACK."""
    listener = scene.listen(queue=None, backlog=2, synack_retries=2 if FACTOR == 1 else 5)  # until all is told
    late = scene.client_from()
    with scene.hold(f"tcp sport {port_of(late)} {AFTER_SYN}"):
        scene.begin_from(late)
        assert select.select([], [late], [], SHORT_S)[1]  # it has the SYN-ACK
        for _ in range(3):
            scene.connect()
        wait_for_queue(listener, 3)
    with scene.counting(scene.hosts.first, "ListenOverflows"):
        if asks:
            late.sendall(REQUEST)
        scene.wait_told("server", port_of(late))
    return port_of(late)


@SCENES.scene(**FULL_AT_THE_ACK)
def full_when_the_ack_comes(scene: Scenery) -> int:
    return late_ack(scene, asks=True)


@SCENES.scene(
    **at(BEFORE, seen("established", PERHAPS_DEFERRED, after="synack_again")), server=FULL_AT_THE_ACK["server"]
)
def full_when_the_ack_of_a_silent_client_comes(scene: Scenery) -> int:
    """Elsewhere nobody can tell it from a server that waits for data."""
    return late_ack(scene, asks=False)


@SCENES.scene(
    client=[ANSWERED_BEFORE, SCAN_END], near=[seen("no_reply", NOT_ANSWERED), SCAN_END],
    far=[seen("no_reply", NOT_ANSWERED), SCAN_END],
    server=[seen("no_reply", FULL), SCAN_END], server_inferring=[seen("no_reply", *SEEN_FULL), SCAN_END],
)  # fmt: skip
def full_beside_a_client_that_does_not_want_to_go_on(scene: Scenery) -> list[int]:
    """What happens meanwhile at a neighbour, which is not full, is not of that queue."""
    fill(scene, backlog=1)
    scene.listen_at(OTHER_PORT)
    other = scene.raw_client()
    refused = scene.begin_from()
    other.send(OTHER_PORT, SYN, isn(), options=MSS_1460)
    answer = other.receive(SYN | ACK)
    other.send(OTHER_PORT, Flag.RST, answer.ack)
    return [scene.fails(refused, errno.ETIMEDOUT), other.port]


SCENES.next_turn()

RESET_BY_A_PROGRAM = away("reset_after_established", "possible")


@SCENES.scene(
    **at(BEFORE, seen("established", RESET_BY_A_PROGRAM, after="reset_by_server")),
    **at(
        ("server", "server_inferring"),
        seen("established", here("accept_queue_full", "likely"), after="reset_by_server"),
    ),
)  # fmt: skip
def full_when_the_ack_comes_to_a_host_that_resets_then(scene: Scenery) -> int:
    """No program has done it, though that is all that others see."""
    scene.enter_context(scene.hosts.sysctl(scene.hosts.first, tcp_abort_on_overflow="1"))
    with scene.counting(scene.hosts.first, "ListenOverflows", "EmbryonicRsts"):
        return late_ack(scene, asks=False)


@SCENES.scene(
    **at(EVERYWHERE, seen("established", RESET_BY_A_PROGRAM, after="reset_by_server")),
    server_inferring=seen("established", RESET_BY_A_PROGRAM, after="reset_by_server"),
)
def a_program_that_resets_beside_it(scene: Scenery) -> int:
    """The queue of its neighbour is full at that time."""
    listener = scene.listen(queue=None)
    client = scene.connect()
    reset(listener.accept()[0])
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ECONNRESET)
    return port_of(client)


SCENES.next_turn()


# --- SYN cookies and proxies that work ---


@SCENES.scene(**at(EVERYWHERE, [ORDINARY] * 5))
def cookies_that_work(scene: Scenery) -> list[int]:
    """Each client of this server gets one, and is served at once."""
    scene.enter_context(scene.hosts.sysctl(scene.hosts.first, tcp_syncookies="2"))
    listener = scene.listen(queue=None)
    with scene.counting(scene.hosts.first, "SyncookiesSent", "SyncookiesRecv"):
        return [scene.serve_one(listener) for _ in range(5)]


@SCENES.scene(**at(EVERYWHERE, [ORDINARY] * 3), server_inferring=[ORDINARY] * 3)
def a_proxy_at_the_server(scene: Scenery) -> list[int]:
    listener = scene.listen(queue=None)
    with syn_proxy(scene.hosts.first, "input", scene.server_ip):
        return [scene.serve_one(listener) for _ in range(3)]


@SCENES.scene(**at(EVERYWHERE, [ORDINARY] * 3))
def a_proxy_on_the_way(scene: Scenery) -> list[int]:
    listener = scene.listen(queue=None)
    with syn_proxy(scene.hosts.router, "forward", scene.server_ip):
        return [scene.serve_one(listener) for _ in range(3)]


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with watched("server") as made:
        yield play(SCENES, made)


@pytest.mark.parametrize("scene", SCENES, ids=[one.name for one in SCENES])
def test_which_queue(played: Played, scene: Scene) -> None:
    played.check(scene)
