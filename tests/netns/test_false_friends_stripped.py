"""Situations that resemble a path that removes options or data, or breaks: none may be told as what it is not.

Of option_stripped, payload_stripped and path_breaks_after_accept. A Linux that sends its SYN again does so without Fast
Open, and one that sends its SYN-ACK again does so without the cookie.
"""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from tests.support.hosts import REQUEST
from tests.support.play import Play, Seen, by_both_versions, syn_proxy
from tests.support.stage import BARE_SYN, PORT, SYN_ACK, SYN_OPTIONS
from tests.support.world import NONE, cause_of
from tracer.lab.packet import Flag, tfo_cookie, tfo_option
from tracer.lab.sockets import reset
from tracer.lab.stage import finish_by_hand, isn
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

STRIPPED = {"option_stripped", "payload_stripped"}


def both_sides(play: Play, port: int) -> tuple[Handshake, Handshake]:
    """At the router's two interfaces."""
    return play.seen(port).router, play.behind_the_router(port)


# --- option_stripped, and payload_stripped with it ---


@pytest.mark.parametrize("primed", [False, True], ids=["request", "cookie and data"])
def test_a_syn_lost_within_the_router(play: Play, primed: bool) -> None:
    listener = play.listen()
    if primed:
        play.prime(listener)
    play.drop_first(f"{play.to_server} {BARE_SYN}")
    client = play.fast_open(wait=False) if primed else play.begin_fast_open()
    port = client.getsockname()[1]
    play.finish(listener, client, ask=not primed)
    near, far = both_sides(play, port)
    assert (near.id, near.handshake.syn_count, far.handshake.syn_count) == (far.id, 2, 1)
    assert (near.tfo.outcome, far.tfo.outcome) == ("syn_timeout_fallback", "not_attempted")
    assert not STRIPPED & {near.tfo.cause, far.tfo.cause}
    assert cause_of(far) == NONE


@by_both_versions
def test_a_synack_with_the_cookie_lost_within_the_router(play: Play) -> None:
    listener = play.listen()
    play.drop_first(f"{play.to_client} {SYN_ACK}", port="tcp dport")
    client = play.begin_fast_open()
    port = client.getsockname()[1]
    play.finish(listener, client)
    near, far = both_sides(play, port)
    assert far.tfo.outcome == "cookie_granted"
    # Both ends wait for a second. Where the server's timer is first, its SYN-ACK comes before its answer to the SYN.
    assert near.tfo.synack_cookie_len is None
    assert near.handshake.synack_count in (1, 2)
    assert not STRIPPED & {near.tfo.cause, far.tfo.cause}


def test_a_syn_proxy_on_the_router(play: Play) -> None:
    listener = play.listen()
    with syn_proxy(play.hosts.router, "forward", play.server_ip):
        port = play.exchange_with_proxy(listener)
        near, far = both_sides(play, port)
    assert near.id == far.id
    assert (near.tfo.outcome, far.tfo.outcome) == ("cookie_not_granted", "not_attempted")
    assert not STRIPPED & {near.tfo.cause, far.tfo.cause}


# --- payload_stripped ---


def test_a_cookie_that_is_sent_again_without_its_data(play: Play) -> None:
    """Other clients than Linux may do so, after a loss within the router."""
    listener = play.listen()
    play.prime(listener)
    tap = play.tap(play.hosts.client)
    play.exchange(listener)
    cookie = tfo_cookie(tap.next(Flag.SYN, without=Flag.ACK).options)
    assert cookie
    play.drop_first(f"{play.to_server} {BARE_SYN}")
    client, number = play.raw_client(), isn()
    client.send(PORT, Flag.SYN, number, options=SYN_OPTIONS + tfo_option(cookie), payload=REQUEST)
    tap.next(Flag.SYN, without=Flag.ACK, match=lambda one: one.seq == number)
    client.send(PORT, Flag.SYN, number, options=SYN_OPTIONS + tfo_option(cookie))
    finish_by_hand(client, client.receive(Flag.SYN | Flag.ACK), listener)
    near, far = both_sides(play, client.port)
    assert (near.syn.payload_len, far.syn.payload_len) == (len(REQUEST), 0)
    assert not STRIPPED & {near.tfo.cause, far.tfo.cause}


def bare(play: Play, listener: socket.socket) -> Seen:
    """A cookie without data, as of a program that connects before it knows what to say."""
    client = play.hosts.open(listener, b"")
    client.sendall(REQUEST)
    seen = play.seen(play.hosts.serve(listener, client))
    assert {one.tfo.request for one in seen} == {"cookie"}
    return seen


@by_both_versions
def test_a_program_of_another_port_that_sends_no_data(play: Play) -> None:
    """That the client always sends data to one listener says nothing of what it sends to another."""
    listener, other = play.listen(), play.listen_at(PORT + 1)
    for _ in range(5):
        play.exchange(listener)
    assert {cause_of(one) for one in bare(play, other)} == {NONE}


def test_a_client_that_sends_data_now_and_then(play: Play) -> None:
    listener = play.listen()
    for _ in range(5):
        play.exchange(listener)
    bare(play, listener)  # as far as others can see it may be stripped
    play.exchange(listener)
    assert {cause_of(one) for one in bare(play, listener)} == {NONE}


# --- path_breaks_after_accept ---


def test_ends_that_are_no_fault_of_the_path(play: Play) -> None:
    """A server that takes the data and closes without a word, and clients that give up waiting for it."""
    listener = play.listen()
    play.prime(listener)
    listener.setblocking(True)
    plain = play.connect()
    play.finish(listener, plain)
    closes: list[int] = []
    gives_up: list[int] = []
    resets: list[int] = []
    for _ in range(2):
        client = play.fast_open()
        closes.append(client.getsockname()[1])
        play.accept(listener).close()
        assert client.recv(1) == b""
        client = play.fast_open()
        gives_up.append(client.getsockname()[1])
        play.accept(listener)
        client.close()
        client = play.fast_open()
        resets.append(client.getsockname()[1])
        play.accept(listener)
        reset(client)
    for ports, after in ((closes, "server_closed"), (resets, "reset_by_client"), (gives_up, "client_closed")):
        for port in ports:
            seen = play.seen(port)
            assert {one.tfo.outcome for one in seen} == {"data_acked"}
            assert {one.handshake.after for one in seen} == {after}
            assert {cause_of(one) for one in seen} == {NONE}


def test_a_server_that_resets_connections_of_all_kinds(play: Play) -> None:
    """Some live, with data in their SYN or without, and others of either kind do not."""
    listener = play.listen()
    play.prime(listener)
    told = []
    for fast_open, lives in ((False, True), (True, False), (False, False), (True, False), (False, False)):
        client = play.fast_open() if fast_open else play.connect()
        port = client.getsockname()[1]
        if lives:
            play.finish(listener, client)
        else:
            reset(play.accept(listener, read=len(REQUEST) if fast_open else 0))
            with suppress(ConnectionError):
                client.recv(1)
        told.append(play.seen(port))
    assert {one.client.handshake.after for one in told[1:]} == {"reset_by_server"}
    assert ("path_breaks_after_accept", "likely") not in {cause_of(one) for seen in told for one in seen}
