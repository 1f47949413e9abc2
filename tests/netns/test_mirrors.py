"""Mirror ports: packets that come twice or overtake each other, and directions with tags of their own.

Real kernels talk through a router, which mirrors their packets to a monitor; there they are traced, live and replayed
from a capture.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from tests.support.hosts import REQUEST
from tests.support.mirrors import TO_CLIENT_TAG, TO_SERVER_TAG, mirrored
from tests.support.routed import routed
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
    play,
    reset_by,
)
from tests.support.stage import BARE_SYN, FAR_OFF, PORT, SYN_OPTIONS, Forger, Stage, nothing_for, reset
from tracer.lab.packet import Flag

pytestmark = pytest.mark.root

SCENES = Scenes()
RTTS = {"rtt_us": None, "rtt_saved_us": one_of(None, 0.0)}  # not known where packets come in another order


def everywhere(*seen: Partial, copies: int = 2) -> dict[str, Sequence[Partial]]:
    """The records at each place: the same, but for copies and tags. At least SYN and SYN-ACK have copies."""
    bare = [{**one, "vlan": ()} for one in seen]
    copied = [{**one, "copies": at_least(copies)} for one in bare]
    overtaken = [{path: RTTS.get(path, wanted) for path, wanted in one.items()} for one in bare]
    return {
        "once": bare,
        "ack-first": overtaken,
        "synack-first": overtaken,
        "twice": copied,
        "routed": copied,
        "tagged": [{**one, "vlan": (TO_SERVER_TAG,)} for one in seen],
        "stick": [{**one, "vlan": (tag,)} for one in seen for tag in (TO_SERVER_TAG, TO_CLIENT_TAG)],
    }


@SCENES.scene(**everywhere({**ORDINARY, "rtt_us": A_TIME}))
def an_answer(stage: Stage) -> None:
    stage.finish(stage.listen(), stage.connect())


@SCENES.scene_by_ipv6(**everywhere({**ORDINARY, "rtt_us": A_TIME}))
def an_answer_by_ipv6(stage: Stage) -> None:
    stage.finish(stage.listen(), stage.connect())


@SCENES.scene(**everywhere(GRANTED, ACCEPTED))
def data_in_the_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.prime(listener)
    stage.prime(listener)


@SCENES.scene(**everywhere(GRANTED, {**ORDINARY, "outcome": "data_not_acked", "rtt_saved_us": 0.0, "delay_us": 0.0}))
def data_in_the_syn_that_is_not_taken(stage: Stage) -> None:
    with stage.listen() as listener:
        stage.prime(listener)
    stage.prime(stage.listen(queue=None))


@SCENES.scene(**everywhere({**ORDINARY, "first_response_us": at_least(400_000)}))
def an_answer_after_a_while(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    child = stage.accept(listener)
    nothing_for(0.5, client)
    stage.answer(child, client)


@SCENES.scene(**everywhere({**ORDINARY, "rtt_us": A_TIME}))
def an_answer_without_timestamps(stage: Stage) -> None:
    listener, client = stage.listen(), stage.raw_client()
    client.send(PORT, Flag.SYN, 1, options=SYN_OPTIONS)
    synack = client.receive(Flag.SYN | Flag.ACK)
    client.send(PORT, Flag.ACK, synack.ack, synack.next_seq)
    client.send(PORT, Flag.PSH | Flag.ACK, synack.ack, synack.next_seq, payload=REQUEST)
    stage.accept(listener).sendall(b"!")
    client.receive(Flag.PSH)


LATE: Partial = {**ORDINARY, "syn_count": 2, "answered_syn": 2, "connect_us": A_SYN_TIMEOUT}


LATE_EVERYWHERE = everywhere(LATE)
# There the first SYN is held back until the second has come.
LATE_EVERYWHERE["synack-first"] = [{**LATE, "late_syns": 1, "connect_us": A_TIME}]


@SCENES.scene(**LATE_EVERYWHERE)
def a_lost_syn(stage: Stage) -> None:
    listener = stage.listen()
    stage.drop_first(f"{stage.to_server} {BARE_SYN}")
    stage.finish(listener, stage.connect())


BROKEN: Partial = {
    **ACCEPTED, "after": "silence", "settled_by": "timeout", "first_response_us": None, "group": "failed",
    # with each copy taken for a repetition there would be nine
    "rtt_saved_us": 0.0, "request_repeats": one_of(*range(2, 8)), "request_acked": False,
}  # fmt: skip
BROKEN_EVERYWHERE = everywhere(GRANTED, BROKEN)
# Beyond the router the server's second SYN-ACK is seen, too.
BROKEN_EVERYWHERE["routed"] = [
    {**one, **more}
    for one, more in zip(BROKEN_EVERYWHERE["routed"], ({}, {"after": "synack_again", "synack_count": 2}), strict=True)
]


@SCENES.scene(**BROKEN_EVERYWHERE)
def a_path_that_breaks_after_accepted_data(stage: Stage) -> None:
    listener = stage.listen(synack_retries=1)
    stage.prime(listener)
    stage.drop_after_the_synack()
    stage.fast_open().sendall(REQUEST)


CLOSED: Partial = {**ORDINARY, "first_response_us": None}


@SCENES.scene(**everywhere({**CLOSED, "after": "reset_by_server", "settled_by": "rst", "reset": reset_by("server")}))
def a_server_that_resets(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    reset(stage.accept(listener))


# A second RST comes after the record: no misfit, and no late SYN.
@SCENES.scene(
    **everywhere(
        {
            "result": "rejected", "syn_count": 1, "synack_count": 0, "after": None, "reset": reset_by("server"),
            "misfits": None, "late_syns": 0, "copies": 0,
        },
        copies=1,
    )
)  # fmt: skip
def a_server_that_refuses(stage: Stage) -> None:
    with pytest.raises(ConnectionRefusedError):
        stage.connect()


@SCENES.scene(**everywhere({**ORDINARY, "first_response_us": at_least(400_000)}))
def a_client_that_half_closes(stage: Stage) -> None:
    listener, client = stage.listen(), stage.connect()
    client.sendall(REQUEST)
    client.shutdown(socket.SHUT_WR)
    child = stage.accept(listener)
    nothing_for(0.5, client)
    stage.answer(child, client)


@SCENES.scene(**everywhere({**ORDINARY, "misfits": {"rst": 1, "synack": 0, "icmp": 0}}))
def a_forged_rst(stage: Stage) -> None:
    tap = stage.tap(stage.hosts.client)
    listener, client = stage.listen(), stage.connect()
    synack = tap.next(Flag.SYN | Flag.ACK)
    client.sendall(REQUEST)
    child = stage.accept(listener)
    stage.forge_from_server(synack.target_port, Flag.RST, synack.seq + FAR_OFF)
    stage.answer(child, client)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("mirrors")
    with routed() as hosts, mirrored(hosts, folder) as places:
        forger = Forger(hosts)
        try:
            return play(SCENES, hosts, forger, places)
        finally:
            forger.close()


@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
def test_scene(played: Played, scene: Scene) -> None:
    played.check(scene)
