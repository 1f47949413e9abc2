"""Situations that resemble causes about addresses and listeners: none may be told as what it is not.

Of client_address_changes, cookie_per_address and listener_key_differs, with each of them once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.hosts import REQUEST
from tests.support.play import Play, by_both_versions, moving, new_key, of_client, of_syn, set_keys
from tests.support.stage import PORT
from tests.support.world import cause_of, fitting
from tracer.lab import sockets
from tracer.lab.sockets import set_key
from tracer.lab.stage import cookie_key
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

OTHER_PORT = PORT + 1
REFUSED = "data_not_acked_new_cookie"


def rotate(play: Play) -> None:
    set_keys(play.hosts.first, new_key())


@contextmanager
def translating(play: Play, rule: str, hook: str = "postrouting priority srcnat") -> Iterator[None]:
    """The router translates addresses by this rule."""
    router, table = play.hosts.router, f"nat-{play.server_ip.replace('.', '-')}"
    router.run("nft", f"table ip {table} {{ chain c {{ type nat hook {hook}; {rule}; }}; }}")
    try:
        yield
    finally:
        router.run("nft", "delete", "table", "ip", table)


@pytest.fixture
def three(play: Play, another: Callable[[], Play]) -> list[tuple[Play, socket.socket]]:
    """Three addresses in networks of their own, at which a server listens."""
    plays = [play, another(), another()]
    return [(one, one.listen()) for one in plays]


def at_client(play: Play, port: int) -> Handshake:
    return play.world.client.wait_handshake(lambda one: one.client.port == port and one.server.ip == play.server_ip)


# --- client_address_changes ---


def test_a_client_whose_public_address_is_another_each_time(three: list[tuple[Play, socket.socket]]) -> None:
    """This is the cause itself."""
    told = []
    for number in range(9):
        play, listener = three[number % 3]
        with translating(play, f"ip daddr {play.server_ip} snat to 10.97.200.{number + 1}"):
            told.append(at_client(play, play.exchange(listener)))
    assert [one.tfo.outcome for one in told] == ["cookie_granted"] * 3 + [REFUSED] * 6
    causes = [cause_of(one) for one in told]
    assert causes[5:] == [("client_address_changes", "likely")] * 4
    assert ("key_not_shared", "likely") not in causes


def test_three_pools_without_shared_keys(three: list[tuple[Play, socket.socket]]) -> None:
    """The client's address is always the same, and now and then a cookie is taken."""
    hosts = three[0][0].hosts
    told = []
    for play, listener in three:
        elsewhere = play.listen_at(PORT, box=hosts.second)
        for box, at in ((hosts.first, listener), (hosts.first, listener), (hosts.second, elsewhere)):
            hosts.send_to(box, play.server_ip)
            told.append(at_client(play, play.exchange(at)))
    for _ in range(2):
        for play, listener in three:
            hosts.send_to(hosts.first, play.server_ip)
            told.append(at_client(play, play.exchange(listener)))
        for play, listener in three:
            told.append(at_client(play, play.exchange(listener)))
        rotate(three[0][0])
    outcomes = [one.tfo.outcome for one in told]
    assert outcomes[:9] == ["cookie_granted", "data_acked", REFUSED] * 3
    assert outcomes[9:] == ([REFUSED] * 3 + ["data_acked"] * 3) * 2
    assert "client_address_changes" not in {one.tfo.cause for one in told}


def test_three_pools_beside_a_server_that_takes_every_cookie(
    three: list[tuple[Play, socket.socket]], another: Callable[[], Play]
) -> None:
    """Each pool refuses every time, but the fourth server shows that the client's address stays the same."""
    hosts, good = three[0][0].hosts, another()
    listeners = [(play, (listener, play.listen_at(PORT, box=hosts.second))) for play, listener in three]
    taken, at_good = [], good.listen()
    told = []
    for turn in range(4):
        for play, members in listeners:
            hosts.send_to((hosts.first, hosts.second)[turn % 2], play.server_ip)
            told.append(at_client(play, play.exchange(members[turn % 2])))
            taken.append(at_client(good, good.exchange(at_good)))
    assert [one.tfo.outcome for one in taken] == ["cookie_granted"] + ["data_acked"] * 11
    assert [one.tfo.outcome for one in told] == ["cookie_granted"] * 3 + [REFUSED] * 9
    assert "client_address_changes" not in {one.tfo.cause for one in told}
    assert {cause_of(one) for one in told[6:]} == {("key_not_shared", "likely")}


def test_three_pools_of_one_network(play: Play) -> None:
    """One farm that nobody gave a shared key refuses at each of its addresses."""
    hosts = play.hosts
    farm = []
    for last in (11, 12, 13):
        address = f"{play.server_ip.rpartition('.')[0]}.{last}"
        for box in (hosts.first, hosts.second):
            box.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        farm.append([play.enter_context(hosts.listen(box, address, PORT)) for box in (hosts.first, hosts.second)])
    told = []
    for turn in range(4):
        for members in farm:
            listener = members[turn % 2]
            hosts.send_to((hosts.first, hosts.second)[turn % 2], listener.getsockname()[0])
            told.append(play.world.client.wait_handshake(fitting(listener, play.exchange(listener))))
    assert [one.tfo.outcome for one in told] == ["cookie_granted"] * 3 + [REFUSED] * 9
    assert "client_address_changes" not in {one.tfo.cause for one in told}
    assert {one.tfo.cause for one in told[6:]} == {"key_not_shared"}


def test_cookies_that_go_stale_everywhere_once(three: list[tuple[Play, socket.socket]]) -> None:
    for play, listener in three:
        play.exchange(listener)
        assert at_client(play, play.exchange(listener)).tfo.outcome == "data_acked"
    rotate(three[0][0])
    refused = [play.seen(play.exchange(listener)) for play, listener in three]
    for seen in refused:
        assert {one.tfo.outcome for one in seen} == {REFUSED}
        assert {one.tfo.cause for one in seen} == {"cookie_stale"}
    for play, listener in three:
        assert {cause_of(one) for one in play.seen(play.exchange(listener))} == {(None, None)}


def test_cookies_from_before_the_trace_that_are_stale_everywhere_once(
    three: list[tuple[Play, socket.socket]],
) -> None:
    """Seen without the time in which they were good, this may be doubted, until the new ones are taken."""
    for play, listener in three:
        play.exchange(listener)
    rotate(three[0][0])
    for play, listener in three:
        assert at_client(play, play.exchange(listener)).tfo.outcome == REFUSED
    for play, listener in three:
        assert at_client(play, play.exchange(listener)).tfo.outcome == "data_acked"
    rotate(three[0][0])
    told = [at_client(play, play.exchange(listener)) for play, listener in three]
    assert [(one.tfo.outcome, one.tfo.cause) for one in told] == [(REFUSED, "cookie_stale")] * 3


def test_a_client_with_two_addresses(three: list[tuple[Play, socket.socket]]) -> None:
    """Linux keeps a cookie for each of them."""
    sources = ("10.98.3.1", "10.98.3.2")
    told = []
    for _ in range(3):
        for play, listener in three:
            told += [at_client(play, play.hosts.exchange(listener, source=one)) for one in sources]
    assert [one.tfo.outcome for one in told] == ["cookie_granted"] * 6 + ["data_acked"] * 12
    assert {one.tfo.cause for one in told} == {None}


# --- cookie_per_address ---


@contextmanager
def published(play: Play, *servers: str) -> Iterator[Callable[[socket.socket, int], list[Handshake]]]:
    """A public address, which no host has, stands for one of these servers at a time.

    What is yielded makes a connection to one of them, and returns what client and router say of it: the router twice.
    """
    router, public = play.hosts.router, play.server_ip.replace("10.99.", "10.96.")
    router.run("ip", "route", "add", f"{public}/32", "via", "10.98.1.2")

    def connect(listener: socket.socket, number: int) -> list[Handshake]:
        with translating(play, f"ip daddr {public} dnat to {servers[number]}", "prerouting priority dstnat"):
            client = play.client_socket()
            client.sendto(REQUEST, socket.MSG_FASTOPEN, (public, PORT))
            port = play.hosts.serve(listener, client)
        runs = (play.world.client, play.world.router)
        return [run.wait_handshake(lambda one: (one.client.port, one.server.ip) == (port, public)) for run in runs]

    try:
        yield connect
    finally:
        router.run("ip", "route", "del", f"{public}/32")


def test_two_servers_with_one_key_behind_a_translated_address(play: Play) -> None:
    """This is the cause itself: each server's cookies are for its own address."""
    hosts = play.hosts
    key = new_key()
    for box in (hosts.first, hosts.second):
        set_keys(box, key)
    with play.hosts.second.inside():
        second = play.enter_context(sockets.listener(4, "10.98.2.2", PORT))
    listeners = (play.listen(), second)
    with published(play, play.server_ip, "10.98.2.2") as connect:
        told = [connect(listeners[turn % 2], turn % 2) for turn in range(6)]
        behind = [play.behind_the_router(told[turn][0].client.port) for turn in (2, 4)]
    assert [{one.tfo.outcome for one in each} for each in told] == [{"cookie_granted"}, *[{REFUSED}] * 5]
    # the first server's handshakes are seen on both sides of the router, and the record settled last knows the other
    for turn, far in zip((2, 4), behind, strict=True):
        assert ("cookie_per_address", "likely") in {cause_of(told[turn][1]), cause_of(far)}
        assert cause_of(told[turn][1]) != ("cookie_stale", "likely")


def test_one_server_behind_a_translated_address_whose_key_is_rotated(play: Play) -> None:
    """The server sees one address of its own all the time, so nothing is wrong with the translation."""
    listener = play.listen()
    with published(play, play.server_ip) as connect:

        def told() -> tuple[set[str | None], set[str | None]]:
            seen = connect(listener, 0)
            # elsewhere the client may have used its port before
            seen += [play.behind_the_router(seen[0].client.port), of_syn(play.world.server, seen[0].syn.seq)]
            return {one.tfo.outcome for one in seen}, {one.tfo.cause for one in seen}

        assert [told() for _ in range(2)] == [({"cookie_granted"}, {None}), ({"data_acked"}, {None})]
        for _ in range(2):
            rotate(play)
            with moving(play.hosts.first, TCPFastOpenPassiveFail=1):
                assert told() == ({REFUSED}, {"cookie_stale"})
            assert told() == ({"data_acked"}, {None})


def test_a_client_whose_address_alone_is_translated(play: Play) -> None:
    listener = play.listen()
    public = "10.97.201.1"
    with translating(play, f"ip daddr {play.server_ip} snat to {public}"):

        def told() -> list[Handshake]:
            port = play.exchange(listener)
            at_server = of_client(play.world.server, public, port)
            return [at_client(play, port), play.behind_the_router(port), at_server]

        for _ in range(2):
            told()
        for _ in range(2):
            rotate(play)
            assert {(one.tfo.outcome, one.tfo.cause) for one in told()} == {(REFUSED, "cookie_stale")}
            assert {(one.tfo.outcome, one.tfo.cause) for one in told()} == {("data_acked", None)}


# --- listener_key_differs ---


@by_both_versions
def test_two_listeners_of_one_address_with_keys_of_their_own(play: Play, another: Callable[[], Play]) -> None:
    """This is the cause itself. A client keeps one cookie for both. The host has just read who else listens."""
    neighbour = another()
    elsewhere = neighbour.listen()
    neighbour.exchange(elsewhere)
    rotate(play)
    assert {one.tfo.outcome for one in neighbour.seen(neighbour.exchange(elsewhere))} == {REFUSED}
    first, second = play.listen(), play.listen_at(OTHER_PORT)
    for one in (first, second):
        set_key(one, cookie_key())
    play.exchange(first)
    told = []
    for listener in (second, first) * 4:
        with moving(play.hosts.first, TCPFastOpenPassiveFail=1):
            seen = play.seen(play.exchange(listener))
        assert {one.tfo.outcome for one in seen} == {REFUSED}
        told.append(cause_of(seen.server))
        # whatever is guessed before the host has read the keys: no pool, and no cookie that has grown old
        sure = {cause for cause, confidence in map(cause_of, seen) if confidence != "possible"}
        assert not {"key_not_shared", "cookie_stale"} & sure
    # a busy machine reads the listeners' keys later than others
    assert {cause for cause, _ in told} <= {None, "cookie_stale", "listener_key_differs"}
    assert told[-1] == ("listener_key_differs", "likely")


@by_both_versions
def test_two_listeners_with_the_same_new_key(play: Play) -> None:
    first, second = play.listen(), play.listen_at(OTHER_PORT)
    for listener in (first, second):
        play.exchange(listener)
    key = cookie_key()
    for one in (first, second):
        set_key(one, key)
    stale = play.seen(play.exchange(first))
    assert {one.tfo.outcome for one in stale} == {REFUSED}
    assert {one.tfo.cause for one in stale} == {"cookie_stale"}
    for listener in (second, first):
        assert {(one.tfo.outcome, one.tfo.cause) for one in play.seen(play.exchange(listener))} == {
            ("data_acked", None)
        }


def test_the_key_of_one_listener_that_its_client_uses_alone(play: Play) -> None:
    """The other one's key differs, but never gave this client a cookie."""
    first, second = play.listen(), play.listen_at(OTHER_PORT)
    play.hosts.exchange(second, source="10.98.3.3")
    set_key(first, cookie_key())
    for _ in range(2):
        play.exchange(first)
    set_key(first, cookie_key())
    stale = play.seen(play.exchange(first))
    assert {one.tfo.outcome for one in stale} == {REFUSED}
    assert {one.tfo.cause for one in stale} == {"cookie_stale"}
