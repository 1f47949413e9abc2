"""Handshakes that go on after they have failed, ports that are used again, and two hosts that answer one SYN.

Each is traced at the client, at both sides of a router and at the server, live and replayed from a capture there.
"""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.hosts import ANSWER, REQUEST
from tests.support.netbox import wait_until
from tests.support.scenes import (
    A_SYN_TIMEOUT,
    A_TIME,
    GRANTED,
    ORDINARY,
    Partial,
    Played,
    Scene,
    Scenes,
    at_least,
    play_on_the_way,
    reset_by,
)
from tests.support.stage import BARE_SYN, PORT, SYN_ACK, SYN_OPTIONS, Stage
from tracer.lab.packet import Flag
from tracer.lab.stage import answer_syn
from tracer.root.part import SWEEP_S

pytestmark = pytest.mark.root

SCENES = Scenes()
SYN, ACK, RST, FIN, PSH = Flag.SYN, Flag.ACK, Flag.RST, Flag.FIN, Flag.PSH
# the record of what followed; its times begin with the first SYN of the first record
WENT_ON: Partial = {"result": "established", "after": "response", "settled_by": "response", "first_response_us": A_TIME}


# --- the same handshake goes on ---


@SCENES.scene(
    {
        "result": "aborted", "outcome": "over_acked", "group": "failed", "rtt_saved_us": None, "settled_by": "rst",
        "reset": reset_by("client"), "after": None, "resumed": None,
    },
    {**WENT_ON, "resumed": "aborted", "reset": None},
)  # fmt: skip
def a_server_that_acks_too_much(stage: Stage) -> None:
    server = stage.raw_server()
    client = stage.fast_open_without_cookie()
    syn = server.receive(SYN)
    assert syn.payload == REQUEST
    answer_syn(server, syn, len(REQUEST) + 100)
    server.receive(RST)
    wait_until(lambda: stage.told() == 1, "the first record")
    again = server.receive(SYN)
    assert (again.seq, again.payload) == (syn.seq, b"")
    synack = answer_syn(server, again, 0)
    request = server.receive(PSH)
    server.send(syn.source_port, PSH | ACK, synack.next_seq, request.next_seq, payload=ANSWER)
    assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER


@SCENES.scene(
    {"result": "rejected", "settled_by": "rst", "reset": reset_by("server"), "syn_count": 1, "resumed": None},
    {**WENT_ON, "resumed": "rejected", "connect_us": A_SYN_TIMEOUT},
)
def a_client_that_does_not_see_the_rst(stage: Stage) -> None:
    stage.drop(stage.hosts.client, "input", f"{stage.to_client} tcp flags & rst == rst")
    tap = stage.tap(stage.hosts.client)
    client = stage.begin()
    tap.next(RST)
    stage.finish(stage.listen(), client)


UNREACHABLE: Partial = {
    "result": "unreachable", "settled_by": "icmp", "icmp.type": 3, "icmp.code": 13, "syn_count": 1, "resumed": None
}  # fmt: skip


@SCENES.scene(
    UNREACHABLE,
    {**WENT_ON, "resumed": "unreachable", "connect_us": A_SYN_TIMEOUT},
    far=[ORDINARY],
    server=[ORDINARY],
)
def a_client_that_does_not_see_the_icmp_error(stage: Stage) -> None:
    listener = stage.listen()
    stage.drop(stage.hosts.client, "input", "icmp type destination-unreachable")
    stage.drop_first(f"{stage.to_server} {BARE_SYN}", verdict="reject with icmp type admin-prohibited")
    stage.finish(listener, stage.begin())


@SCENES.scene(
    {"result": "no_reply", "settled_by": "timeout", "syn_count": 1, "resumed": None},
    {**WENT_ON, "resumed": "no_reply", "connect_us": at_least(3_500_000)},
    far=[ORDINARY],
    server=[ORDINARY],
)
def a_client_that_is_patient(stage: Stage) -> None:
    listener, client = stage.listen(), stage.raw_client()
    stage.drop_first(f"{stage.to_server} {BARE_SYN}")
    syn = client.send(PORT, SYN, 1, options=SYN_OPTIONS)
    wait_until(lambda: stage.told() == 1, "the first record")
    time.sleep(2 * SWEEP_S)  # a replay sweeps at other moments
    client.send(PORT, SYN, syn.seq, options=SYN_OPTIONS)
    synack = client.receive(SYN | ACK)
    client.send(PORT, PSH | ACK, synack.ack, synack.next_seq, payload=REQUEST)
    stage.accept(listener).sendall(ANSWER)
    client.receive(PSH)


# --- another handshake of the same ports ---


@SCENES.scene(ORDINARY, ORDINARY)
def a_port_used_again_after_closing(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    port = client.getsockname()[1]
    client.sendall(REQUEST)
    child = stage.accept(listener)
    stage.answer(child, client)
    child.close()
    assert client.recv(1) == b""
    client.close()
    again = stage.client_socket(port)

    def connected() -> bool:
        try:
            stage.dial(again)
        except OSError:  # the old one is not quite gone
            return False
        return True

    wait_until(connected, "the port is free")
    stage.finish(listener, again)


# The server's host asks back, the client's resets the old connection and sends its SYN again.
REUSED: Partial = {**ORDINARY, "syn_count": at_least(2), "answered_syn": at_least(2), "challenge_acks": 1}


@SCENES.scene(ORDINARY, REUSED)
def a_port_used_again_after_vanishing(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    stage.finish(listener, client)
    stage.finish(listener, stage.connect(stage.vanish(client)))


@SCENES.scene(
    {
        **ORDINARY, "after": "reset_by_client", "settled_by": "rst", "first_response_us": None, "request_acked": True,
        "reset": reset_by("client"),
    },
    REUSED,
)  # fmt: skip
def a_port_used_again_while_the_answer_is_awaited(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    stage.accept(listener)
    stage.finish(listener, stage.connect(stage.vanish(client)))


# --- two hosts answer ---

BY_TWO: Partial = {
    **ORDINARY, "syn_count": 2, "synack_count": at_least(2), "late_syns": 1, "synack_isns": 2, "answered_syn": 2,
    "connect_us": A_SYN_TIMEOUT, "first_response_us": A_SYN_TIMEOUT,
}  # fmt: skip
DESERTED: Partial = {"result": "half_open", "synack_isns": 1, "after": None, "first_response_us": None}


def two_hosts(stage: Stage, fast_open: bool) -> None:
    """The SYN-ACKs of the first server are lost. When the SYN comes again, the router prefers the second server."""
    first, second = stage.listen(synack_retries=1), stage.listen(box=stage.hosts.second)
    if fast_open:
        stage.prime(first)
    tap = stage.tap(stage.hosts.client)
    deaf = stage.drop(stage.hosts.client, "input", f"{stage.to_client} {SYN_ACK}")
    client = stage.fast_open(wait=False) if fast_open else stage.begin()
    lost = tap.next(SYN | ACK)
    stage.drop(stage.hosts.client, "input", f"{stage.to_client} tcp sequence {lost.seq}")
    stage.hosts.send_to(stage.hosts.second, stage.server_ip)
    deaf.close()
    stage.finish(second, client, ask=not fast_open)


@SCENES.scene(BY_TWO, far=[DESERTED], server=[DESERTED])
def two_hosts_that_answer(stage: Stage) -> None:
    two_hosts(stage, fast_open=False)


# The verdict on Fast Open is about the first host, which took the data, the times are about the second, which did not.
@SCENES.scene(
    GRANTED,
    {
        **BY_TWO,
        "outcome": "data_acked",
        "synack.acked_payload_len": 0,
        "rtt_saved_us": 0.0,
        "delay_us": A_SYN_TIMEOUT,
    },
    far=[GRANTED, {**DESERTED, "outcome": "data_acked"}],
    server=[GRANTED, {**DESERTED, "outcome": "data_acked"}],
)
def two_hosts_that_answer_data_in_the_syn(stage: Stage) -> None:
    two_hosts(stage, fast_open=True)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play_on_the_way(SCENES, tmp_path_factory.mktemp("resumed"))


@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
def test_scene(played: Played, scene: Scene) -> None:
    played.check(scene)


def test_only_what_goes_on_has_the_same_id(played: Played) -> None:
    for place in played.places:
        for scene in SCENES:
            records = scene.records(place.live)
            goes_on = sum("resumed" in partial and partial["resumed"] is not None for partial in scene.expected(place))
            assert len({one.id for one in records}) == len(records) - goes_on, (place.name, scene.name)
