"""Situations that resemble a port that the server still holds, cause port_still_in_use: none may be told as that."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from tests.support.hosts import ANSWER, REQUEST
from tests.support.patience import SHORT_S
from tests.support.play import Play, after, by_both_versions, moving
from tests.support.stage import SYN_OPTIONS
from tests.support.world import NO_FATE, NONE, cause_of, fate_of
from tracer.lab.packet import Flag
from tracer.lab.stage import isn

pytestmark = [pytest.mark.root, pytest.mark.slow]

SYN, ACK = Flag.SYN, Flag.ACK
IN_USE = ("port_still_in_use", "likely", None)


@by_both_versions
@pytest.mark.parametrize("fast_open", [False, True])
def test_a_port_that_the_server_still_holds(play: Play, fast_open: bool) -> None:
    """This is the cause itself."""
    listener = play.listen()
    play.prime(listener)
    client = play.connect()
    play.finish(listener, client)
    port = play.vanish(client)
    first = play.seen(port)
    again = play.client_socket(port)
    again.setblocking(False)
    tap = play.tap(play.hosts.client)
    with moving(play.hosts.first, TCPChallengeACK=1):
        with suppress(BlockingIOError):
            if fast_open:
                play.fast_open(again, wait=False)
            else:
                play.dial(again)
        tap.next(ACK, without=SYN, match=lambda one: one.target_port == port)
    again.settimeout(SHORT_S)
    play.finish(listener, again, ask=not fast_open)
    for run, before in zip((play.world.client, play.world.router, play.world.server), first, strict=True):
        second = after(run, before)
        assert (second.handshake.result, second.handshake.challenge_acks) == ("established", 1)
        assert (cause_of(second), fate_of(second)) == (NONE, IN_USE)
        assert second.tfo.outcome == ("data_not_acked" if fast_open else "not_attempted")


@by_both_versions
def test_a_stray_acknowledgment_before_an_ordinary_answer(play: Play) -> None:
    """From elsewhere comes a bare ACK that fits nothing; the server takes the first SYN all the same."""
    server = play.raw_server()
    play.by_hand(server, bytes((34, 10)) + bytes(8))
    client = play.fast_open(wait=False)
    syn = server.receive(SYN)
    play.forge_from_server(syn.source_port, ACK, 7_000_000, syn.seq - 1_000_000)
    synack = server.send(syn.source_port, SYN | ACK, isn(), syn.next_seq, SYN_OPTIONS)
    play.answer_by_hand(server, synack)
    assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
    for one in play.seen(client.getsockname()[1])[:2]:
        assert (one.handshake.result, one.tfo.outcome) == ("established", "data_acked")
        assert (cause_of(one), fate_of(one)) == (NONE, NO_FATE)


@by_both_versions
def test_syns_that_cross(play: Play) -> None:
    server = play.raw_server()
    client = play.begin()
    syn = server.receive(SYN)
    own = server.send(syn.source_port, SYN, isn(), options=SYN_OPTIONS)
    server.receive(SYN | ACK)
    server.send(syn.source_port, SYN | ACK, own.seq, syn.seq + 1, SYN_OPTIONS)
    seen = play.seen(syn.source_port)
    assert {one.handshake.result for one in seen} == {"simultaneous_open"}
    assert [*map(fate_of, seen)] == [NO_FATE] * 3
    client.close()


def test_a_port_used_again_whose_last_connection_is_over(play: Play) -> None:
    """The server had closed first, so it remembers the connection, and takes the new SYN at once."""
    listener = play.listen()
    client = play.connect()
    client.sendall(REQUEST)
    child = play.accept(listener)
    child.close()
    assert client.recv(1) == b""
    port = client.getsockname()[1]
    client.close()
    first = play.seen(port)
    again = play.connect(port)
    play.finish(listener, again)
    second = after(play.world.client, first.client)
    assert (second.handshake.result, second.handshake.syn_count) == ("established", 1)
    assert fate_of(second) == NO_FATE
