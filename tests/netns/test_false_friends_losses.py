"""Situations that resemble a SYN lost, or dropped for its data, on the way: none may be told as what it is not.

Of packet_loss and path_drops_syn_data, which only the client's side of the path can tell.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from tests.support.hosts import REQUEST
from tests.support.play import Play, by_both_versions
from tests.support.stage import BARE_SYN, SYN_OPTIONS
from tests.support.world import NO_FATE, NONE, cause_of, fate_of
from tracer.dissect.options import walk
from tracer.lab.packet import Flag, tfo_option
from tracer.records.record import Handshake

pytestmark = [pytest.mark.root, pytest.mark.slow]

COOKIE = bytes.fromhex("0123456789abcdef")
SYN, ACK, RST = Flag.SYN, Flag.ACK, Flag.RST
TIMESTAMPS = 8
LOST = ("packet_loss", "possible")


def away(play: Play, port: int) -> list[Handshake]:
    """What the client and the router say."""
    return list(play.seen(port)[:2])


# --- packet_loss ---


def test_a_syn_whose_data_is_too_long_for_the_path(play: Play) -> None:
    """The router says so, and the client sends a bare SYN at once."""
    data = bytes(1400)
    listener = play.listen()
    play.prime(listener)
    router = play.hosts.router
    router.run("ip", "link", "set", "to-first", "mtu", "1300")
    try:
        client = play.hosts.open(listener, data)
        port = play.hosts.serve(listener, client, data)
        seen = away(play, port)
    finally:
        router.run("ip", "link", "set", "to-first", "mtu", "1500")
    for one in seen:
        assert (one.handshake.result, one.handshake.syn_count, one.syn.payload_len) == ("established", 2, 1400)
        assert (one.tfo.delay_us or 0) < 200_000  # no timeout
        assert one.tfo.cause not in ("packet_loss", "path_drops_syn_data")
        assert fate_of(one) == NO_FATE


@pytest.mark.parametrize("answer", ["rst", "icmp"])
def test_a_refusal_before_a_bare_syn_that_is_taken(play: Play, answer: str) -> None:
    """The client's own firewall keeps the refusal of what is no server of this address from its kernel."""
    listener = play.listen()
    play.prime(listener)
    tap = play.tap(play.hosts.client)
    play.drop(play.hosts.client, "input", f"{play.to_client} tcp flags & rst == rst")
    play.drop(play.hosts.client, "input", f"{play.to_client} icmp type destination-unreachable")
    with play.hold(BARE_SYN):
        client = play.fast_open(wait=False)
        syn = tap.next(SYN, without=ACK, match=lambda one: one.source_port == client.getsockname()[1])
        if answer == "rst":
            play.forge_from_server(syn.source_port, RST | ACK, 0, syn.next_seq)
        else:
            play.forge_unreachable(syn.source_port, syn.seq)
    play.finish(listener, client, ask=False)
    port = client.getsockname()[1]
    for run in (play.world.client, play.world.router):
        again = run.wait_handshake(
            lambda one: (
                one.client.port == port and one.server.ip == play.server_ip and one.handshake.resumed is not None
            )
        )
        assert (again.handshake.result, again.handshake.syn_count) == ("established", 2)
        assert cause_of(again) == NONE


def test_a_server_that_answers_the_first_syn_late(play: Play) -> None:
    """The second SYN had been sent by then; the timestamp says which one is answered."""
    server = play.raw_server()
    play.by_hand(server, tfo_option(COOKIE))
    client = play.fast_open(wait=False)
    first = server.receive(SYN)
    second = server.receive(SYN)
    assert (len(first.payload), len(second.payload)) == (len(REQUEST), 0)
    told = next(one for one in walk(first.options)[0] if one.kind == TIMESTAMPS)
    ts_val = first.options[told.offset + 2 : told.offset + 6]
    options = SYN_OPTIONS + bytes((8, 10, 0, 0, 0, 1)) + ts_val
    synack = server.send(first.source_port, SYN | ACK, 5000, first.seq + 1, options)
    ack = server.receive(ACK)
    server.send(ack.source_port, RST | ACK, synack.next_seq, ack.next_seq)
    port = client.getsockname()[1]
    for one in away(play, port):
        assert (one.tfo.outcome, one.handshake.answered_syn, one.handshake.syn_count) == ("data_not_acked", 1, 2)
        assert one.tfo.cause not in ("packet_loss", "path_drops_syn_data")


# --- path_drops_syn_data ---


def lost(play: Play, listener: socket.socket, fast_open: bool = True, times: int = 1) -> list[Handshake]:
    """A connection whose first SYNs, with data or without, are lost behind the router's first interface."""
    tap = play.tap(play.hosts.client)
    with play.hold(BARE_SYN):
        client = play.fast_open(wait=False) if fast_open else play.begin()
        for _ in range(times):
            tap.next(SYN, without=ACK, match=lambda one: one.source_port == client.getsockname()[1])
    play.finish(listener, client, ask=not fast_open)
    seen = away(play, client.getsockname()[1])
    assert {one.handshake.answered_syn for one in seen} == {times + 1}
    return seen


def passed(play: Play, listener: socket.socket) -> list[Handshake]:
    seen = away(play, play.exchange(listener))
    assert {one.tfo.outcome for one in seen} == {"data_acked"}
    return seen


def causes(seen: Sequence[Handshake]) -> set[tuple[str | None, str | None]]:
    return {cause_of(one) for one in seen}


def test_two_losses_of_six(play: Play) -> None:
    """Data in a SYN has passed before, and passes again."""
    listener = play.listen()
    play.prime(listener)
    told = [causes(step(play, listener)) for step in (passed, passed, lost, lost, passed, passed, lost)]
    assert told == [{NONE}, {NONE}, {LOST}, {LOST}, {NONE}, {NONE}, {LOST}]


@by_both_versions
def test_losses_of_plain_syns_to_the_same_server(play: Play) -> None:
    """The path loses all kinds, and nobody has seen data pass."""
    listener = play.listen()
    play.prime(listener)
    first = lost(play, listener)
    lost(play, listener, fast_open=False)
    assert (causes(first), causes(lost(play, listener))) == ({LOST}, {LOST})


def test_a_server_that_is_down_twice(play: Play) -> None:
    """A bare SYN is not answered either, but the one after it is."""
    listener = play.listen()
    play.prime(listener)
    assert [causes(lost(play, listener, times=2)) for _ in range(2)] == [{LOST}] * 2
