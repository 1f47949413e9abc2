"""Segments that a third host forges in each state of a handshake: they change no verdict, and are counted as misfits.

Each is traced at the client, at both sides of a router and at the server, live and replayed from a capture there. What
is forged towards the client passes the first two places only, what is forged towards the server the others.
"""

from __future__ import annotations

import socket

import pytest

from tests.support.hosts import ANSWER, REQUEST
from tests.support.scenes import ORDINARY, Partial, Played, Scene, Scenes, at_least, one_of, play_on_the_way, reset_by
from tests.support.stage import AFTER_SYN, BARE_SYN, FAR_OFF, PORT, SYN_OPTIONS, Stage
from tracer.lab.packet import Flag, Segment

pytestmark = pytest.mark.root

SCENES = Scenes()
SYN, ACK, RST, FIN, PSH = Flag.SYN, Flag.ACK, Flag.RST, Flag.FIN, Flag.PSH

# The SYN that was held was sent again. A number that the client has not sent makes Linux do so at once, and once more
# after a second (tcp_rcv_synsent_state_process).
LATE: Partial = {**ORDINARY, "syn_count": at_least(2), "answered_syn": at_least(2)}
ONE_RST: Partial = {"misfits": {"rst": 1, "synack": 0, "icmp": 0}}
ONE_ICMP: Partial = {"misfits": {"rst": 0, "synack": 0, "icmp": 1}}
ONE_SYNACK: Partial = {"misfits": {"rst": 0, "synack": 1, "icmp": 0}}
UNANSWERED: Partial = {"result": "no_reply", "syn_count": at_least(1), "synack_count": 0, "after": None}
# The server may challenge a forged SYN.
CHALLENGED: Partial = {**UNANSWERED, "result": one_of("no_reply", "syn_on_established")}


def odd_at_the_client(**odd: object) -> dict[str, list[Partial]]:
    return {name: [{**ORDINARY, **odd}] for name in ("client", "near")}


def odd_at_the_server(**odd: object) -> dict[str, list[Partial]]:
    return {name: [{**ORDINARY, **odd}] for name in ("far", "server")}


# --- nothing but the SYN has been seen ---


def syn_sent(stage: Stage) -> tuple[socket.socket, Segment]:
    """A client whose SYN the router has dropped."""
    tap = stage.tap(stage.hosts.client)
    client = stage.begin()
    return client, tap.next(SYN, without=ACK)


def to_a_client_that_waits(*seen: Partial) -> dict[str, list[Partial]]:
    return {"client": list(seen), "near": list(seen), "far": [ORDINARY], "server": [ORDINARY]}


@SCENES.scene(**to_a_client_that_waits({**LATE, **ONE_RST}))
def rst_to_a_client_that_waits(stage: Stage) -> None:
    listener = stage.listen()
    with stage.hold(BARE_SYN):
        client, syn = syn_sent(stage)
        stage.forge_from_server(syn.source_port, RST | ACK, 0, syn.seq + 1 + FAR_OFF)
    stage.finish(listener, client)


@SCENES.scene_by_ipv6(**to_a_client_that_waits({**LATE, **ONE_RST}))
def rst_that_acks_nothing(stage: Stage) -> None:
    listener = stage.listen()
    with stage.hold(BARE_SYN):
        client, syn = syn_sent(stage)
        stage.forge_from_server(syn.source_port, RST | ACK, 0, syn.seq)
    stage.finish(listener, client)


@SCENES.scene(**to_a_client_that_waits({**LATE, **ONE_SYNACK}))
def synack_to_a_client_that_waits(stage: Stage) -> None:
    listener = stage.listen()
    with stage.hold(BARE_SYN):
        client, syn = syn_sent(stage)
        stage.forge_from_server(syn.source_port, SYN | ACK, 1, syn.seq + 1 + FAR_OFF)
    stage.finish(listener, client)


@SCENES.scene(**to_a_client_that_waits(LATE))
def fin_to_a_client_that_waits(stage: Stage) -> None:
    listener = stage.listen()
    with stage.hold(BARE_SYN):
        client, syn = syn_sent(stage)
        stage.forge_from_server(syn.source_port, FIN | ACK, 1, syn.seq + 1 + FAR_OFF)
    stage.finish(listener, client)


@SCENES.scene(**to_a_client_that_waits({**LATE, **ONE_ICMP}))
def icmp_to_a_client_that_waits(stage: Stage) -> None:
    listener = stage.listen()
    with stage.hold(BARE_SYN):
        client, syn = syn_sent(stage)
        stage.forge_unreachable(syn.source_port, syn.seq + FAR_OFF)
    stage.finish(listener, client)


@SCENES.scene(**to_a_client_that_waits(LATE))
def syn_from_the_server_to_a_client_that_waits(stage: Stage) -> None:
    listener = stage.listen()
    # the client's host would open simultaneously, so its firewall drops it
    stage.drop(stage.hosts.client, "input", f"{stage.to_client} {BARE_SYN}")
    with stage.hold(BARE_SYN):
        client, syn = syn_sent(stage)
        stage.forge_from_server(syn.source_port, SYN, 1)
    stage.finish(listener, client)


@SCENES.scene({**UNANSWERED, **ONE_RST, "outcome": "not_attempted"}, far=[], server=[])
def nothing_but_a_rst_that_does_not_fit(stage: Stage) -> None:
    stage.listen()
    stage.hold(BARE_SYN)
    client, syn = syn_sent(stage)
    stage.forge_from_server(syn.source_port, RST | ACK, 0, syn.seq)
    client.close()


def to_a_server_that_has_not_answered(stage: Stage, *forged: Flag) -> None:
    """The server's firewall drops the SYN, and what is forged as well."""
    listener = stage.listen()
    tap = stage.tap(stage.hosts.first)
    with stage.drop(stage.hosts.first, "input", f"{stage.to_server}"):
        client = stage.begin()
        syn = tap.next(SYN)
        for number, flags in enumerate(forged):
            stage.forge_from_client(syn.source_port, flags, syn.seq + FAR_OFF + number)
    stage.finish(listener, client)


@SCENES.scene(LATE, far=[LATE, CHALLENGED], server=[LATE, CHALLENGED])
def syn_to_a_server_that_has_not_answered(stage: Stage) -> None:
    to_a_server_that_has_not_answered(stage, SYN)


# The oldest and the newest stay, the others are displaced.
DISPLACED: Partial = {**CHALLENGED, "settled_by": "new_syn", "syn_count": 1}
MANY = 4


@SCENES.scene(
    LATE,
    far=[LATE, *[DISPLACED] * (MANY - 1), CHALLENGED],
    server=[LATE, *[DISPLACED] * (MANY - 1), CHALLENGED],
)
def syns_to_a_server_that_has_not_answered(stage: Stage) -> None:
    to_a_server_that_has_not_answered(stage, *[SYN] * MANY)


@SCENES.scene({**LATE, "misfits": one_of(None, *ONE_RST.values())})
def rst_to_a_server_that_has_not_answered(stage: Stage) -> None:
    to_a_server_that_has_not_answered(stage, RST)


@SCENES.scene(LATE)
def fin_to_a_server_that_has_not_answered(stage: Stage) -> None:
    to_a_server_that_has_not_answered(stage, FIN)


ABORTED: Partial = {"result": "aborted", "syn_count": 1, "synack_count": 1, "reset": reset_by("client"), "after": None}


@SCENES.scene(
    **{**to_a_client_that_waits({**LATE, **ONE_SYNACK}), "far": [ABORTED, ORDINARY], "server": [ABORTED, ORDINARY]}
)
def a_forged_syn_that_the_server_answers(stage: Stage) -> None:
    listener = stage.listen()
    tap = stage.tap(stage.hosts.first)
    with stage.hold(BARE_SYN):
        client, syn = syn_sent(stage)
        stage.forge_from_client(syn.source_port, SYN, syn.seq + FAR_OFF)
        tap.next(RST, match=lambda one: one.seq == (syn.seq + FAR_OFF + 1) & 0xFFFFFFFF)
    stage.finish(listener, client)


# --- half open ---


def to_a_half_open_server(stage: Stage, flags: Flag) -> None:
    listener = stage.listen()
    tap = stage.tap(stage.hosts.client)
    with stage.hold(AFTER_SYN):
        client = stage.connect()
        syn = tap.next(SYN, without=ACK)
        stage.forge_from_client(syn.source_port, flags, syn.seq + 1 + FAR_OFF)
    stage.finish(listener, client)


CHALLENGED: Partial = {**UNANSWERED, "result": "syn_on_established", "challenge_acks": at_least(1)}
# Linux 6.18 takes the client's ACK only if it echoes the timestamp of a SYN-ACK. After a challenge ACK it does so only
# when the SYN-ACK has come again.
ASKED_BACK: Partial = {**ORDINARY, "synack_count": at_least(1), "request_repeats": at_least(0)}


@SCENES.scene(ASKED_BACK, far=[ASKED_BACK, CHALLENGED], server=[ASKED_BACK, CHALLENGED])
def syn_to_a_half_open_server(stage: Stage) -> None:
    to_a_half_open_server(stage, SYN)


@SCENES.scene(ORDINARY, far=[{**ORDINARY, **ONE_RST}], server=[{**ORDINARY, **ONE_RST}])
def rst_to_a_half_open_server(stage: Stage) -> None:
    to_a_half_open_server(stage, RST)


@SCENES.scene_by_ipv6(ASKED_BACK)
def fin_to_a_half_open_server(stage: Stage) -> None:
    to_a_half_open_server(stage, FIN)


def to_a_client_that_has_not_acked(stage: Stage, flags: Flag, seq: int, ack: int) -> None:
    """`seq` is relative to the first byte of the answer, `ack` to the SYN's number. The client is hand-made."""
    listener, client = stage.listen(), stage.raw_client()
    syn = client.send(PORT, SYN, 1, options=SYN_OPTIONS)
    synack = client.receive(SYN | ACK)
    stage.forge_from_server(client.port, flags, synack.seq + 1 + seq, syn.seq + ack)
    client.send(PORT, ACK, 2, synack.next_seq)
    client.send(PORT, PSH | ACK, 2, synack.next_seq, payload=REQUEST)
    stage.accept(listener).sendall(ANSWER)
    client.receive(PSH)


@SCENES.scene(ORDINARY, **odd_at_the_client(**ONE_RST))
def rst_to_a_client_that_has_not_acked(stage: Stage) -> None:
    to_a_client_that_has_not_acked(stage, RST, FAR_OFF, 0)


@SCENES.scene_by_ipv6(ORDINARY, **odd_at_the_client(**ONE_RST))
def rst_that_is_a_little_off(stage: Stage) -> None:
    to_a_client_that_has_not_acked(stage, RST, 1000, 0)


@SCENES.scene(ORDINARY, **odd_at_the_client(**ONE_SYNACK))
def synack_to_a_client_that_has_not_acked(stage: Stage) -> None:
    to_a_client_that_has_not_acked(stage, SYN | ACK, FAR_OFF, FAR_OFF)


@SCENES.scene(ORDINARY, **odd_at_the_client(synack_count=2, synack_isns=2))
def synack_of_another_host_to_a_client_that_has_not_acked(stage: Stage) -> None:
    to_a_client_that_has_not_acked(stage, SYN | ACK, FAR_OFF, 1)


@SCENES.scene(ORDINARY)
def fin_to_a_client_that_has_not_acked(stage: Stage) -> None:
    to_a_client_that_has_not_acked(stage, FIN | ACK, FAR_OFF, 1)


# --- established, and the client waits for an answer ---


def established(stage: Stage) -> tuple[socket.socket, socket.socket, Segment, Segment]:
    """A client that has sent its request, the server's end, SYN and SYN-ACK."""
    tap = stage.tap(stage.hosts.client)
    listener, client = stage.listen(), stage.connect()
    client.sendall(b"?")
    syn, synack = tap.next(SYN, without=ACK), tap.next(SYN | ACK)
    return client, stage.accept(listener, read=1), syn, synack


def to_an_established_client(stage: Stage, flags: Flag, seq: int, ack: int) -> None:
    """`seq` is relative to the first byte of the answer, `ack` to the SYN's number."""
    client, child, syn, synack = established(stage)
    stage.forge_from_server(syn.source_port, flags, synack.seq + 1 + seq, syn.seq + ack)
    stage.answer(child, client)


@SCENES.scene(ORDINARY, **odd_at_the_client(**ONE_RST))
def rst_to_an_established_client(stage: Stage) -> None:
    to_an_established_client(stage, RST, FAR_OFF, 0)


@SCENES.scene(ORDINARY, **odd_at_the_client(**ONE_RST))
def rst_within_the_window_of_an_established_client(stage: Stage) -> None:
    # the kernel asks back (RFC 5961, section 3), since the number is not the next one
    to_an_established_client(stage, RST | ACK, 1000, 2)


@SCENES.scene(ORDINARY)
def fin_to_an_established_client(stage: Stage) -> None:
    to_an_established_client(stage, FIN | ACK, FAR_OFF, 2)


@SCENES.scene(ORDINARY, **odd_at_the_client(**ONE_SYNACK))
def synack_to_an_established_client(stage: Stage) -> None:
    to_an_established_client(stage, SYN | ACK, FAR_OFF, FAR_OFF)


@SCENES.scene(ORDINARY, **odd_at_the_client(synack_count=2, synack_isns=2))
def synack_of_another_host_to_an_established_client(stage: Stage) -> None:
    to_an_established_client(stage, SYN | ACK, FAR_OFF, 1)


@SCENES.scene(ORDINARY)
def syn_from_the_server_to_an_established_client(stage: Stage) -> None:
    to_an_established_client(stage, SYN, FAR_OFF, 0)


def to_an_established_server(stage: Stage, *forged: Flag, answered: bool = True) -> None:
    client, child, syn, synack = established(stage)
    for number, flags in enumerate(forged):
        stage.forge_from_client(syn.source_port, flags, syn.seq + FAR_OFF + number, synack.seq + 1)
    if answered:
        stage.answer(child, client)


@SCENES.scene(ORDINARY, far=[ORDINARY, CHALLENGED], server=[ORDINARY, CHALLENGED])
def syn_to_an_established_server(stage: Stage) -> None:
    to_an_established_server(stage, SYN)


# The kernel asks back only now and then.
BESIDES: Partial = {**DISPLACED, "settled_by": "timeout"}


@SCENES.scene(
    ORDINARY,
    far=[ORDINARY, *[DISPLACED] * (MANY - 1), BESIDES],
    server=[ORDINARY, *[DISPLACED] * (MANY - 1), BESIDES],
)
def syns_to_an_established_server(stage: Stage) -> None:
    to_an_established_server(stage, *[SYN] * MANY)


@SCENES.scene(ORDINARY, **odd_at_the_server(**ONE_RST))
def rst_to_an_established_server(stage: Stage) -> None:
    to_an_established_server(stage, RST)


# A FIN of the client settles nothing, so whether it was taken shows where no answer comes.
@SCENES.scene(
    {**ORDINARY, "after": "silence", "settled_by": "timeout", "first_response_us": None, "request_acked": True}
)
def fin_to_an_established_server(stage: Stage) -> None:
    to_an_established_server(stage, FIN | ACK, answered=False)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play_on_the_way(SCENES, tmp_path_factory.mktemp("foreign"))


@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
def test_scene(played: Played, scene: Scene) -> None:
    played.check(scene)


def test_kernels_took_them_for_foreign(played: Played) -> None:
    client, server = played.counters["client"], played.counters["server"]
    assert client["OutOfWindowIcmps"] == 1
    # SYN-ACK twice, SYN, and RST within the window
    assert client["TCPChallengeACK"] >= 4
    assert server["TCPSYNChallenge"] >= 1
    assert client["TCPAbortOnData"] == server["TCPAbortOnData"] == 0
