"""Situations that resemble causes at a server's own host, between real kernels: none may be told as what it is not.

Of server_disabled, listener_disabled, not_supported, queue_overflow and syn_cookies. The kernels' counters and what the
sysctls were at the time show what really happened.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.hosts import tcp_counters
from tests.support.netbox import wait_until
from tests.support.play import LESS, OVERFLOW, Play, Seen, by_both_versions, come_to, moving, of_client
from tests.support.stage import PORT, SYN_ACK
from tests.support.world import NONE, cause_of
from tracer.lab.sockets import DROP_UNLESS_SYN, attach, detach

pytestmark = [pytest.mark.root, pytest.mark.slow]

MALFORMED = bytes((34, 5, 1, 2, 3))
NOT_GRANTED = {"cookie_not_granted"}
LISTENER_DISABLED = ("listener_disabled", "likely")


@pytest.fixture
def neighbour(another: Callable[[], Play]) -> Play:
    """Another address of the server."""
    return another()


@pytest.fixture(autouse=True)
def as_before(play: Play, look: Callable[[], None]) -> Iterator[None]:
    """Each begins and ends with the usual settings, and with a run that knows them."""
    with play.hosts.sysctl(play.hosts.first, tcp_fastopen="3", tcp_syncookies="1"):
        look()
        yield


def set_sysctl(play: Play, **values: int) -> None:
    for name, value in values.items():
        play.hosts.first.run("sysctl", "-qw", f"net.ipv4.{name}={value}")


def exchange_while(play: Play, listener: socket.socket, happens: Callable[[], object]) -> Seen:
    """A connection during which something happens: after its SYN-ACK, before its answer."""
    client = play.hosts.open(listener)
    child = play.accept(listener)
    happens()
    play.answer(child, client)
    port: int = client.getsockname()[1]
    client.close()
    return play.seen(port)


def outcomes(seen: Seen) -> set[str | None]:
    return {one.tfo.outcome for one in seen}


Trouble = Callable[[Play], Callable[[], None]]


def overflow(neighbour: Play) -> Callable[[], None]:
    """One whose Fast Open queue is full; returns what makes it refuse SYNs."""
    listener = neighbour.listen(queue=1)
    no_cookie = neighbour.seen(neighbour.exchange(listener)).server.tfo.outcome != "cookie_granted"
    attach(listener, DROP_UNLESS_SYN)
    neighbour.enter_context(neighbour.hosts.open(listener, no_cookie=no_cookie))
    neighbour.enter_context(listener.accept()[0])  # has inherited the filter, so it stays in the queue
    detach(listener)

    def refuse() -> None:
        with moving(neighbour.hosts.first, TCPFastOpenListenOverflow=2):
            for _ in range(2):
                refused = neighbour.seen(neighbour.exchange(listener, no_cookie=no_cookie))
                assert outcomes(refused) == {"data_not_acked"}

    return refuse


def send_syn_cookies(neighbour: Play) -> Callable[[], None]:
    """One with a short queue of requests; returns what fills it."""
    server = neighbour.hosts.first
    listener = neighbour.listen(backlog=1)

    def flood() -> None:
        before = tcp_counters(server)["TCPReqQFullDoCookies"]
        with neighbour.hosts.rule(neighbour.hosts.client, "input", f"{neighbour.to_client} drop"):
            for _ in range(4):
                neighbour.enter_context(neighbour.hosts.connect(listener, wait=False))
            wait_until(lambda: tcp_counters(server)["TCPReqQFullDoCookies"] > before, "SYN cookies")

    return flood


@contextmanager
def full_queue(play: Play) -> Iterator[socket.socket]:
    """A listener whose Fast Open queue is full, and whose cookie the client has."""
    listener = play.listen(queue=1)
    play.exchange(listener)
    attach(listener, DROP_UNLESS_SYN)
    with play.hosts.open(listener), listener.accept()[0]:
        detach(listener)
        yield listener


# --- server_disabled, listener_disabled ---


@by_both_versions
def test_fast_open_that_is_switched_off_after_the_answer(play: Play, look: Callable[[], None]) -> None:
    """It was on when the SYN came: only the listener did without."""
    listener = play.listen(queue=None)
    look()
    seen = exchange_while(play, listener, lambda: set_sysctl(play, tcp_fastopen=1))
    assert outcomes(seen) == NOT_GRANTED
    assert cause_of(seen.server)[1] in ("likely", "possible")


def test_fast_open_that_is_switched_on_after_the_answer(play: Play, look: Callable[[], None]) -> None:
    """It was off when the SYN came: the listener would have used it."""
    listener = play.listen()
    set_sysctl(play, tcp_fastopen=1)
    look()
    seen = exchange_while(play, listener, lambda: set_sysctl(play, tcp_fastopen=3))
    assert outcomes(seen) == NOT_GRANTED
    assert cause_of(seen.server) in (("server_disabled", "likely"), ("server_disabled", "possible"))


def test_a_server_whose_client_bit_alone_is_off(play: Play, neighbour: Play, look: Callable[[], None]) -> None:
    set_sysctl(play, tcp_fastopen=2)
    look()
    listener = play.listen()
    for outcome in ("cookie_granted", "data_acked"):
        seen = play.seen(play.exchange(listener))
        assert outcomes(seen) == {outcome}
        assert [*map(cause_of, seen)] == [NONE] * 3
    without = neighbour.listen(queue=None)
    known = come_to(lambda: neighbour.seen(neighbour.exchange(without)), LISTENER_DISABLED)
    assert outcomes(known) == NOT_GRANTED


def test_a_router_with_fast_open_off(play: Play) -> None:
    """What holds for the router's own sockets says nothing of those behind it."""
    with play.hosts.sysctl(play.hosts.router, tcp_fastopen="0"):
        listener = play.listen()
        for _ in range(2):
            assert {cause_of(one) for one in play.seen(play.exchange(listener))} == {NONE}
        without = play.listen_at(PORT + 1, queue=None)
        seen = come_to(lambda: play.seen(play.exchange(without)), LISTENER_DISABLED)
    assert outcomes(seen) == {"data_not_acked"}
    assert cause_of(seen.router)[0] not in ("server_disabled", "listener_disabled")


def test_syn_cookies_of_a_listener_with_fast_open(play: Play, look: Callable[[], None]) -> None:
    listener = play.listen()
    play.exchange(listener)
    set_sysctl(play, tcp_syncookies=2)
    look()

    def step() -> Seen:
        with moving(play.hosts.first, SyncookiesSent=1):
            return play.seen(play.exchange(listener))

    seen = come_to(step, ("syn_cookies", "certain"), ("syn_cookies", "likely"))
    assert outcomes(seen) == {"data_not_acked"}
    assert [*map(cause_of, seen[:2])] == [NONE, NONE]


# --- not_supported ---


def test_an_answer_by_another_path(play: Play) -> None:
    """The client's interface that is traced sees no SYN-ACK, so nobody knows what it said."""
    hosts, source = play.hosts, "10.98.3.7"
    hosts.router.run("ip", "link", "add", "back", "type", "veth", "peer", "name", "back", "netns", hosts.client.name)
    try:
        for box, last in ((hosts.router, 1), (hosts.client, 2)):
            box.run("ip", "link", "set", "back", "up")
            box.run("ip", "address", "add", f"10.98.50.{last}/24", "dev", "back")
        hosts.router.run("ip", "route", "add", f"{source}/32", "via", "10.98.50.2")
        told = {}
        for queue, outcome in ((None, "cookie_not_granted"), (64, "cookie_granted")):
            told[hosts.exchange(play.listen_at(PORT + (queue or 0), queue=queue), source=source)] = outcome
        for port, outcome in told.items():
            at_client, at_server = (of_client(run, source, port) for run in (play.world.client, play.world.server))
            assert at_server.tfo.outcome == outcome
            assert (at_client.synack, at_client.tfo.outcome, cause_of(at_client)) == (None, None, NONE)
    finally:
        hosts.router.run("ip", "link", "del", "back")


def test_an_answer_whose_option_is_malformed(play: Play) -> None:
    """Something at the server or on the way does write Fast Open options."""
    server = play.raw_server()
    seen = play.seen(play.by_hand(server, MALFORMED))
    assert outcomes(seen) == NOT_GRANTED
    assert "not_supported" not in {one.tfo.cause for one in seen}


@by_both_versions
def test_a_grant_that_is_lost_on_its_way(play: Play) -> None:
    """The SYN-ACK that is sent again has no cookie, and comes late."""
    listener = play.listen()
    play.drop_first(f"{play.to_client} {SYN_ACK}", port="tcp dport")
    client = play.begin_fast_open()
    play.finish(listener, client)
    seen = play.seen(client.getsockname()[1])
    assert [one.tfo.synack_cookie_len for one in seen] == [None, None, 8]
    assert (seen.client.handshake.connect_us or 0) > 900_000
    assert "not_supported" not in {one.tfo.cause for one in seen}


def test_a_server_that_takes_cookies_at_other_times(play: Play) -> None:
    """At the client this looks like any server without Fast Open, but here it has worked."""
    with full_queue(play) as listener:
        seen = come_to(lambda: play.seen(play.exchange(listener)), *OVERFLOW)
    assert outcomes(seen) == {"data_not_acked"}
    assert [*map(cause_of, seen[:2])] == [NONE, NONE]


# --- queue_overflow, syn_cookies ---


@pytest.mark.parametrize("happens", [overflow, send_syn_cookies])
def test_a_neighbour_in_trouble_while_this_listener_has_no_fast_open(
    play: Play, neighbour: Play, happens: Trouble
) -> None:
    listener = play.listen(queue=None)
    come_to(lambda: play.seen(play.exchange(listener)), LISTENER_DISABLED)
    seen = exchange_while(play, listener, happens(neighbour))
    assert outcomes(seen) == NOT_GRANTED
    assert cause_of(seen.server) in (LISTENER_DISABLED, *LESS)


@pytest.mark.parametrize("happens", [overflow, send_syn_cookies])
def test_a_neighbour_in_trouble_while_data_comes_without_a_cookie(
    play: Play, neighbour: Play, happens: Trouble
) -> None:
    listener = play.listen()
    play.exchange(listener)
    needed, before = ("cookie_required", "certain"), ("cookie_required", "likely")
    come_to(lambda: play.seen(play.exchange(listener, no_cookie=True)), needed, before)
    trouble = happens(neighbour)
    client = play.hosts.open(listener, no_cookie=True)
    child = play.accept(listener)
    trouble()
    play.answer(child, client)
    seen = play.seen(client.getsockname()[1])
    client.close()
    assert outcomes(seen) == {"data_not_acked"}
    assert cause_of(seen.server) in (needed, before, *LESS)


@pytest.mark.parametrize("happens", [overflow, send_syn_cookies])
def test_a_neighbour_in_trouble_while_this_server_wants_no_cookie(
    play: Play, neighbour: Play, look: Callable[[], None], happens: Trouble
) -> None:
    """It grants none at any time."""
    set_sysctl(play, tcp_fastopen=0x203)
    look()
    listener = play.listen()
    needless = [("cookie_not_required", sure) for sure in ("certain", "likely", "possible")]
    assert outcomes(play.seen(play.exchange(listener, no_cookie=True))) == {"data_acked"}
    come_to(lambda: play.seen(play.exchange(listener)), *needless)
    free = exchange_while(play, listener, happens(neighbour))
    assert outcomes(free) == NOT_GRANTED
    assert cause_of(free.server) in (*needless, *LESS)


def test_a_neighbour_that_sends_syn_cookies_while_this_queue_is_full(play: Play, neighbour: Play) -> None:
    with full_queue(play) as listener:
        seen = exchange_while(play, listener, send_syn_cookies(neighbour))
    assert outcomes(seen) == {"data_not_acked"}
    assert cause_of(seen.server) not in (("syn_cookies", "likely"), ("syn_cookies", "certain"))


def test_syn_cookies_that_are_switched_on_after_the_answer(play: Play, look: Callable[[], None]) -> None:
    listener = play.listen(queue=None)
    come_to(lambda: play.seen(play.exchange(listener)), LISTENER_DISABLED)
    with moving(play.hosts.first, SyncookiesSent=0):
        seen = exchange_while(play, listener, lambda: set_sysctl(play, tcp_syncookies=2))
    assert outcomes(seen) == NOT_GRANTED
    assert cause_of(seen.server) in (LISTENER_DISABLED, *LESS)
