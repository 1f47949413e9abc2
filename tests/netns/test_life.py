"""What becomes of a connection after its handshake: answers, silence, resets, closings, between real kernels.

Each is traced at the client, at both sides of a router and at the server, live and replayed from a capture there.
"""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.hosts import ANSWER, REQUEST
from tests.support.scenes import (
    A_SYN_TIMEOUT,
    A_TIME,
    ACCEPTED,
    GRANTED,
    ORDINARY,
    Partial,
    Played,
    Scene,
    Scenes,
    at_least,
    one_of,
    play_on_the_way,
    reset_by,
)
from tests.support.shark import first_responses
from tests.support.stage import (
    AFTER_SYN,
    BARE_SYN,
    PORT,
    SYN_ACK,
    SYN_OPTIONS,
    Stage,
    nothing_for,
    reset,
    wait_for_queue,
)
from tracer.lab.packet import Flag

pytestmark = pytest.mark.root

SCENES = Scenes()
SYN, ACK, PSH = Flag.SYN, Flag.ACK, Flag.PSH
ALIVE: Partial = {**ORDINARY, "after": None, "settled_by": "timeout", "first_response_us": None, "request_acked": False}
SILENT: Partial = {**ALIVE, "after": "silence"}
HALF_OPEN: Partial = {"result": "half_open", "after": None, "synack_count": at_least(2), "copies": 0, "misfits": None}
NOTHING_SAVED: Partial = {"outcome": "data_acked", "group": "failed", "rtt_saved_us": 0.0}


# --- answers ---


@SCENES.scene(ORDINARY)
def an_answer(stage: Stage) -> None:
    stage.finish(stage.listen(), stage.connect())


@SCENES.scene_by_ipv6(ORDINARY)
def an_answer_by_ipv6(stage: Stage) -> None:
    stage.finish(stage.listen(), stage.connect())


@SCENES.scene(GRANTED, ACCEPTED)
def an_answer_to_data_in_the_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    stage.prime(listener)


HALF_CLOSED: Partial = {**ORDINARY, "first_response_us": at_least(1_500_000), "request_acked": True}


def half_close(stage: Stage, child: socket.socket, client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    assert child.recv(1) == b""
    nothing_for(1.5, client)
    stage.answer(child, client)


@SCENES.scene(HALF_CLOSED)
def half_closed(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    half_close(stage, stage.accept(listener), client)


@SCENES.scene_by_ipv6(GRANTED, {**HALF_CLOSED, "outcome": "data_acked", "group": "ok", "rtt_saved_us": A_TIME})
def half_closed_after_data_in_the_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    client = stage.fast_open()
    half_close(stage, stage.accept(listener), client)


@SCENES.scene({**ORDINARY, "first_response_us": at_least(2_000_000)})
def a_slow_server(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    child = stage.accept(listener)
    nothing_for(2.0, client)
    stage.answer(child, client)


@SCENES.scene(GRANTED, {**ACCEPTED, "first_response_us": at_least(2_000_000)})
def a_slow_server_that_takes_data_in_the_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    client = stage.fast_open()
    child = stage.accept(listener)
    nothing_for(2.0, client)
    stage.answer(child, client)


@SCENES.scene({**ORDINARY, "first_request_us": None, "request_acked": False})
def a_server_that_speaks_first(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    stage.answer(stage.accept(listener, read=0), client)


# --- no answer, and nothing wrong ---


@SCENES.scene({**SILENT, "request_acked": True, "first_request_us": A_TIME})
def one_way_protocol(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    stage.accept(listener)


@SCENES.scene(
    GRANTED,
    {**SILENT, "outcome": "data_acked", "group": "ok", "request_acked": True, "rtt_saved_us": A_TIME},
)
def one_way_protocol_with_data_in_the_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    client = stage.fast_open()
    child = stage.accept(listener)
    client.sendall(REQUEST)
    assert child.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST


@SCENES.scene(GRANTED, {**SILENT, "outcome": "data_acked", "group": "ok", "rtt_saved_us": None})
def silence_after_data_in_the_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    stage.fast_open()
    stage.accept(listener)


UNUSED: Partial = {**ALIVE, "after": "closed_unused", "first_request_us": None}
FIN_ACKED: Partial = {**UNUSED, "request_acked": True}  # it is beyond what the SYN-ACK had acked


@SCENES.scene({**FIN_ACKED, "settled_by": "fin"})
def health_check(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.close()
    child = stage.accept(listener, read=0)
    assert child.recv(1) == b""
    child.close()


@SCENES.scene(FIN_ACKED)
def health_check_that_the_server_does_not_close(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.close()
    stage.accept(listener, read=0)


@SCENES.scene({**UNUSED, "settled_by": "rst", "reset": reset_by("client")})
def health_check_that_resets(stage: Stage) -> None:
    stage.listen()
    reset(stage.connect())


@SCENES.scene({**ALIVE, "after": "client_closed", "settled_by": "fin", "request_acked": True})
def a_client_that_does_not_wait(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    child = stage.accept(listener)
    client.close()
    assert child.recv(1) == b""
    child.close()


@SCENES.scene({**ALIVE, "after": "server_closed", "settled_by": "fin", "request_acked": True})
def a_server_that_closes(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    stage.accept(listener).close()
    assert client.recv(1) == b""


# --- resets ---


@SCENES.scene(
    {**ALIVE, "after": "reset_by_client", "settled_by": "rst", "reset": reset_by("client"), "request_acked": True}
)
def a_client_that_resets(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    stage.accept(listener)
    reset(client)


RESET: Partial = {
    **ALIVE, "after": "reset_by_server", "settled_by": "rst", "reset": reset_by("server"),
    "request_acked": one_of(True, False),
}  # fmt: skip


@SCENES.scene({**RESET, "group": "n/a"})
def a_server_that_resets(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    reset(stage.accept(listener))


@SCENES.scene(GRANTED, {**RESET, **NOTHING_SAVED})
def a_server_that_resets_after_data_in_the_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    stage.fast_open()
    reset(stage.accept(listener))


# --- a path that breaks ---


@SCENES.scene(
    GRANTED,
    {**SILENT, **NOTHING_SAVED, "request_repeats": at_least(2)},
    far=[GRANTED, {**HALF_OPEN, "outcome": "data_acked", "rtt_saved_us": None}],
    server=[GRANTED, {**HALF_OPEN, "outcome": "data_acked", "rtt_saved_us": None}],
)
def a_path_that_breaks_after_accepted_data(stage: Stage) -> None:
    listener = stage.listen(synack_retries=1)
    stage.prime(listener)
    stage.drop_after_the_synack()
    stage.fast_open().sendall(REQUEST)


AGAIN: Partial = {**ALIVE, "after": "synack_again", "synack_count": at_least(2), "request_repeats": at_least(2)}


@SCENES.scene(
    GRANTED,
    {**AGAIN, **NOTHING_SAVED},
    far=[GRANTED, {**HALF_OPEN, "outcome": "data_acked"}],
    server=[GRANTED, {**HALF_OPEN, "outcome": "data_acked"}],
)
def a_path_that_breaks_but_for_synacks(stage: Stage) -> None:
    listener = stage.listen(synack_retries=1)
    stage.prime(listener)
    client = stage.client_socket()
    stage.hold(f"tcp sport {client.getsockname()[1]} {AFTER_SYN}")
    stage.fast_open(client).sendall(REQUEST)


@SCENES.scene_by_ipv6(
    {**SILENT, "group": "n/a", "outcome": "not_attempted", "request_repeats": at_least(2)},
    far=[HALF_OPEN],
    server=[HALF_OPEN],
)
def a_path_that_breaks_a_plain_connection(stage: Stage) -> None:
    stage.listen(synack_retries=1)
    stage.drop_after_the_synack()
    stage.connect().sendall(REQUEST)


# The first to connect cannot finish before the others have taken all places in the queue, with a backlog of 2 three.
# With less, older kernels answer by SYN cookies, which nobody sends again.
@SCENES.scene({**AGAIN, "group": "n/a"}, *[{**SILENT, "first_request_us": None}] * 3)
def a_full_accept_queue(stage: Stage) -> None:
    listener = stage.listen(queue=None, backlog=2)
    client = stage.client_socket()
    port = client.getsockname()[1]
    with stage.hold(f"tcp sport {port} {AFTER_SYN}"):
        stage.dial(client)
        for _ in range(3):
            stage.connect()
        wait_for_queue(listener, 3)
    client.sendall(REQUEST)


@SCENES.scene({**ORDINARY, "synack_count": 2, "request_repeats": 1})
def a_synack_between_a_request_and_its_repetition(stage: Stage) -> None:
    server, client = stage.raw_server(), stage.raw_client()
    client.send(PORT, SYN, 1, options=SYN_OPTIONS)
    server.receive(SYN)
    server.send(client.port, SYN | ACK, 1, 2, SYN_OPTIONS)
    client.receive(SYN | ACK)
    client.send(PORT, ACK, 2, 2)
    client.send(PORT, PSH | ACK, 2, 2, payload=REQUEST)
    time.sleep(0.02)  # copies follow sooner
    server.send(client.port, SYN | ACK, 1, 2, SYN_OPTIONS)
    client.receive(SYN | ACK)
    client.send(PORT, PSH | ACK, 2, 2, payload=REQUEST)
    for _ in range(2):
        request = server.receive(PSH)
    server.send(client.port, PSH | ACK, 2, request.next_seq, payload=ANSWER)
    client.receive(PSH)


# --- segments that are lost ---

LATE: Partial = {**ORDINARY, "syn_count": 2, "answered_syn": 2, "connect_us": A_SYN_TIMEOUT}


@SCENES.scene(LATE, far=[ORDINARY], server=[ORDINARY])
def a_lost_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.drop_first(f"{stage.to_server} {BARE_SYN}")
    stage.finish(listener, stage.connect())


@SCENES.scene(
    GRANTED,
    {
        **LATE,
        "outcome": "syn_timeout_fallback",
        "delay_us": A_SYN_TIMEOUT,
        "first_request_us": A_SYN_TIMEOUT,
    },
    far=[GRANTED, {**ORDINARY, "outcome": "not_attempted"}],
    server=[GRANTED, {**ORDINARY, "outcome": "not_attempted"}],
)
def a_lost_syn_with_data(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    stage.drop_first(f"{stage.to_server} {BARE_SYN}")
    stage.finish(listener, stage.fast_open(), ask=False)


# Both ends repeat theirs after a second: the two SYN-ACKs that follow, and their ACKs, may look like copies.
ANSWERED_AGAIN: Partial = {
    **ORDINARY,
    "syn_count": one_of(1, 2),
    "synack_count": one_of(1, 2, 3),
    "late_syns": one_of(0, 1),
    "copies": one_of(0, 1, 2),
}


@SCENES.scene({**ANSWERED_AGAIN, "connect_us": A_SYN_TIMEOUT, "answered_syn": one_of(1, 2)})
def a_lost_synack(stage: Stage) -> None:
    listener = stage.listen()
    stage.drop_first(f"{stage.to_client} {SYN_ACK}", "tcp dport")
    stage.finish(listener, stage.connect())


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play_on_the_way(SCENES, tmp_path_factory.mktemp("life"))


@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
def test_scene(played: Played, scene: Scene) -> None:
    played.check(scene)


def test_kernels_agree(played: Played) -> None:
    # a_full_accept_queue: the request and its repetitions
    assert played.counters["server"]["ListenOverflows"] >= 2
    taken = sum(
        partial.get("outcome") == "data_acked" for scene in SCENES for partial in scene.expected(played.places[-1])
    )
    assert played.counters["server"]["TCPFastOpenPassive"] == taken


def test_tshark_agrees_on_the_first_response(played: Played) -> None:
    compared = 0
    for place in played.places:
        judged = first_responses(place.capture)
        for scene in SCENES:
            for one in scene.records(place.replayed):
                wanted = judged[one.client.port, one.server.ip, one.syn.seq]
                assert one.handshake.first_response_us == (wanted and pytest.approx(wanted, abs=1)), scene.name
                compared += wanted is not None
    assert compared >= len(SCENES)
