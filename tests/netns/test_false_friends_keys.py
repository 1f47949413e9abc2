"""Situations that resemble causes about cookies and keys, between real kernels: none may be told as what it is not.

Of key_not_shared, cookie_stale, key_rotation and child_failed. What really happened is shown by the wire and by the
kernels' counters.
"""

from __future__ import annotations

import os
import socket
from itertools import pairwise

import pytest

from tests.support.hosts import REQUEST
from tests.support.play import OVERFLOW, Play, Seen, by_both_versions, come_to, moving, new_key, set_keys
from tests.support.stage import PORT
from tests.support.world import NONE, cause_of
from tracer.lab.packet import MSS_1460, Flag, tfo_option
from tracer.lab.sockets import DROP_UNLESS_SYN, attach, detach
from tracer.lab.stage import answer_syn, isn
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

COOKIE, OTHER = bytes.fromhex("0123456789abcdef"), bytes.fromhex("fedcba9876543210")
ROTATED = [*[("key_rotation", "likely")] * 2, ("key_rotation", "certain")]


def outcomes(seen: Seen) -> set[str | None]:
    return {one.tfo.outcome for one in seen}


def causes(seen: Seen) -> set[str | None]:
    return {one.tfo.cause for one in seen}


# --- key_not_shared, cookie_stale ---


@by_both_versions
def test_one_server_whose_key_is_rotated_three_times_with_a_backup(play: Play) -> None:
    keys = [new_key() for _ in range(4)]
    set_keys(play.hosts.first, keys[0])
    listener = play.listen()
    play.exchange(listener)
    play.exchange(listener)
    for old, new in pairwise(keys):
        set_keys(play.hosts.first, new, old)
        with moving(play.hosts.first, TCPFastOpenPassiveAltKey=1, TCPFastOpenPassiveFail=0):
            seen = play.seen(play.exchange(listener))
        assert outcomes(seen) == {"data_acked_new_cookie"}
        assert [*map(cause_of, seen)] == ROTATED


@by_both_versions
def test_one_server_whose_key_is_rotated_often_without_a_backup(play: Play) -> None:
    listener = play.listen()
    play.exchange(listener)
    for _ in range(5):
        assert causes(play.seen(play.exchange(listener))) == {None}
        set_keys(play.hosts.first, new_key())
        with moving(play.hosts.first, TCPFastOpenPassiveFail=1):
            seen = play.seen(play.exchange(listener))
        assert outcomes(seen) == {"data_not_acked_new_cookie"}
        # each new cookie is good, and none comes back that had been replaced
        assert causes(seen) == {"cookie_stale"}


def test_a_key_rotated_again_before_the_cookie_was_used(play: Play) -> None:
    """The server's host knows its own cookies; the client's cannot tell this from a pool."""
    listener = play.listen()
    play.exchange(listener)
    for _ in range(2):
        set_keys(play.hosts.first, new_key())
        seen = play.seen(play.exchange(listener))
        assert outcomes(seen) == {"data_not_acked_new_cookie"}
        assert seen.server.tfo.cause == "cookie_stale"
    assert causes(play.seen(play.exchange(listener))) == {None}


def test_two_clients_behind_one_address_whose_cookies_differ_in_age(play: Play) -> None:
    hosts, number = play.hosts, play.server_ip.split(".")[2]
    public = f"10.97.{number}.1"
    other_host = hosts.second
    other_host.run("ip", "address", "del", f"{play.server_ip}/32", "dev", "lo")
    translate = f"ip daddr {play.server_ip} snat to {public}"
    hosts.router.run(
        "nft", f"table ip nat-{number} {{ chain c {{ type nat hook postrouting priority srcnat; {translate}; }}; }}"
    )
    listener = play.listen()

    def first() -> int:
        return play.exchange(listener)

    def second() -> int:
        with other_host.inside():
            client = socket.socket()
        client.sendto(REQUEST, socket.MSG_FASTOPEN, listener.getsockname())
        return hosts.serve(listener, client)

    def told(port: int) -> tuple[Handshake, Handshake]:
        """At the router, behind the translation, and at the server."""
        at_server = play.world.server.wait_handshake(lambda one: one.client.port == port and one.client.ip == public)
        return play.behind_the_router(port), at_server

    try:
        for ask in (first, second):
            assert [one.tfo.outcome for one in told(ask())] == ["cookie_granted"] * 2
            assert [one.tfo.outcome for one in told(ask())] == ["data_acked"] * 2
        for order in ((first, second), (second, first), (first, second)):
            set_keys(play.hosts.first, new_key())
            for ask in order:
                with moving(hosts.first, TCPFastOpenPassiveFail=1):
                    seen = told(ask())
                assert {(one.tfo.outcome, one.tfo.cause) for one in seen} == {
                    ("data_not_acked_new_cookie", "cookie_stale")
                }
                assert {(one.tfo.outcome, one.tfo.cause) for one in told(ask())} == {("data_acked", None)}
    finally:
        hosts.router.run("nft", "delete", "table", "ip", f"nat-{number}")
        other_host.run("ip", "address", "add", f"{play.server_ip}/32", "dev", "lo")


def test_a_cookie_that_another_server_of_a_pool_gave(play: Play) -> None:
    """This server's key has been the same all the time."""
    hosts = play.hosts
    listener, elsewhere = play.listen(), play.listen_at(PORT, box=hosts.second)
    hosts.send_to(hosts.second, play.server_ip)
    assert play.world.client.wait_port(play.exchange(elsewhere)).tfo.outcome == "cookie_granted"
    hosts.send_to(hosts.first, play.server_ip)
    with moving(hosts.first, TCPFastOpenPassiveFail=1):
        seen = play.seen(play.exchange(listener))
    assert outcomes(seen) == {"data_not_acked_new_cookie"}
    assert seen.server.tfo.cookie_check == "invalid"
    assert cause_of(seen.server) not in (("cookie_stale", "likely"), ("cookie_stale", "certain"))
    assert {one.tfo.cause_confidence for one in seen} <= {"possible", "likely"}


def test_a_cookie_of_a_length_that_this_server_never_gives(play: Play) -> None:
    listener = play.listen()
    play.exchange(listener)
    with moving(play.hosts.first, TCPFastOpenPassiveFail=1):
        port, _ = play.send_by_hand(listener, tfo_option(os.urandom(16)))
    seen = play.seen(port)
    assert outcomes(seen) == {"data_not_acked_new_cookie"}
    assert not {("cookie_stale", "likely"), ("cookie_stale", "certain")} & {*map(cause_of, seen)}


# --- key_rotation ---


def test_a_server_that_takes_data_beside_the_request_and_grants(play: Play) -> None:
    server, client = play.raw_server(), play.raw_client()
    client.send(PORT, Flag.SYN, isn(), options=MSS_1460 + tfo_option(), payload=REQUEST)
    syn = server.receive(Flag.SYN)
    synack = answer_syn(server, syn, len(REQUEST), tfo_option(COOKIE))
    client.receive(Flag.SYN | Flag.ACK)
    client.send(PORT, Flag.ACK, synack.ack, synack.next_seq)
    play.answer_by_hand(server, synack)
    seen = play.seen(client.port)
    assert {one.tfo.request for one in seen} == {"cookie_request_and_data"}
    assert outcomes(seen) == {"data_acked_new_cookie"}
    assert [*map(cause_of, seen)] == [NONE] * 3


def test_a_server_that_repeats_the_cookie_that_it_takes(play: Play) -> None:
    server = play.raw_server()
    play.by_hand(server, tfo_option(COOKIE))
    seen = play.seen(play.by_hand(server, tfo_option(COOKIE), len(REQUEST)))
    assert {one.tfo.cookie_id for one in seen} == {one.tfo.synack_cookie_id for one in seen}
    assert {one.synack.acked_payload_len for one in seen if one.synack} == {len(REQUEST)}
    # neither a rotation nor a failure
    assert [*map(cause_of, seen)] == [NONE] * 3


def test_a_cookie_that_nobody_asked_for(play: Play) -> None:
    server = play.raw_server()
    seen = play.seen(play.by_hand(server, tfo_option(COOKIE), len(REQUEST), play.fast_open_without_cookie()))
    assert ({one.tfo.request for one in seen}, outcomes(seen)) == ({"data_only"}, {"data_acked"})
    assert [*map(cause_of, seen)] == [NONE] * 3


# --- child_failed ---


def test_a_server_that_gives_the_same_cookie_and_takes_no_data(play: Play) -> None:
    """This is the cause itself."""
    server = play.raw_server()
    play.by_hand(server, tfo_option(COOKIE))
    seen = play.seen(play.by_hand(server, tfo_option(COOKIE)))
    assert outcomes(seen) == {"data_not_acked_same_cookie"}
    assert cause_of(seen.client) == cause_of(seen.router) == ("child_failed", "likely")


@by_both_versions
def test_a_good_cookie_while_the_queue_is_full(play: Play) -> None:
    """The kernel then sends no cookie back at all."""
    listener = play.listen(queue=1)
    play.exchange(listener)
    attach(listener, DROP_UNLESS_SYN)
    first = play.enter_context(play.hosts.open(listener))
    play.enter_context(listener.accept()[0])  # has inherited the filter, so it stays in the queue
    detach(listener)

    def step() -> Seen:
        with moving(play.hosts.first, TCPFastOpenListenOverflow=1, TCPFastOpenPassiveFail=0):
            return play.seen(play.exchange(listener))

    seen = come_to(step, *OVERFLOW)
    first.close()
    assert outcomes(seen) == {"data_not_acked"}
    assert [*map(cause_of, seen[:2])] == [NONE, NONE]


def test_a_longer_cookie_that_begins_like_the_new_one(play: Play) -> None:
    server = play.raw_server()
    play.by_hand(server, tfo_option(COOKIE + OTHER))
    seen = play.seen(play.by_hand(server, tfo_option(COOKIE)))
    assert ({one.tfo.cookie_len for one in seen}, {one.tfo.synack_cookie_len for one in seen}) == ({16}, {8})
    assert outcomes(seen) == {"data_not_acked_new_cookie"}
    assert "child_failed" not in causes(seen)


def test_a_cookie_without_data_that_is_taken_silently(play: Play) -> None:
    listener = play.listen()
    play.exchange(listener)
    with moving(play.hosts.first, TCPFastOpenPassive=1, TCPFastOpenPassiveFail=0):
        client = play.hosts.open(listener, b"")
        client.sendall(REQUEST)
        seen = play.seen(play.hosts.serve(listener, client))
    assert outcomes(seen) == {"cookie_only"}
    assert "child_failed" not in causes(seen)
