"""Connections that are established and then not served, ports that are still in use, and clients that want nothing.

Servers that take long, ends of ordinary connections, health checks, and servers that speak first have no cause.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from tests.support.fates import (
    BEFORE,
    BEYOND,
    EVERYWHERE,
    NOTHING,
    ORDINARY,
    Played,
    Scene,
    Scenery,
    Scenes,
    at,
    away,
    here,
    play,
    port_of,
    seen,
    watched,
)
from tests.support.hosts import ANSWER, REQUEST
from tests.support.routed import TO_CLIENT
from tests.support.stage import nothing_for, reset

pytestmark = [pytest.mark.root, pytest.mark.slow]

SCENES = Scenes()
PATIENT_S, HASTY_S = 1.3, 0.3  # before a client leaves: one second is the contract's limit
WITH_DATA = "meta length > 80"
GAVE_UP = away("client_gave_up", "likely", "client", "server")
SILENT = away("silent_after_established", "likely", "server", "path")
RESET = away("reset_after_established", "likely", "server")
RESET_HERE = away("reset_after_established", "likely", "server", "this_host")
IN_USE = away("port_still_in_use", "likely", "server")
DROPPED_HERE = here("not_forwarded"), here("not_forwarded", "likely"), here("host_dropped")


def ask(scene: Scenery, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A client whose request the server's program has read, and both ends."""
    client = scene.connect()
    client.sendall(REQUEST)
    return client, scene.accept(listener)


# --- who waits in vain ---


@SCENES.scene(**at(EVERYWHERE, seen("established", GAVE_UP, after="client_closed")))
def a_client_that_closes_after_a_while(scene: Scenery) -> int:
    client, _ = ask(scene, scene.listen(queue=None))
    nothing_for(PATIENT_S, client)
    port = port_of(client)
    client.close()
    return port


@SCENES.scene(**at(EVERYWHERE, seen("established", GAVE_UP, after="reset_by_client")))
def a_client_that_resets_after_a_while(scene: Scenery) -> int:
    client, _ = ask(scene, scene.listen(queue=None))
    nothing_for(PATIENT_S, client)
    port = port_of(client)
    reset(client)
    return port


@SCENES.scene(**at(EVERYWHERE, seen("established", after="reset_by_client")))
def a_client_that_resets_at_once(scene: Scenery) -> int:
    """As of two attempts that race."""
    client, _ = ask(scene, scene.listen(queue=None))
    nothing_for(HASTY_S, client)
    port = port_of(client)
    reset(client)
    return port


@SCENES.scene(**at(EVERYWHERE, ORDINARY))
def a_client_that_half_closes_and_is_answered(scene: Scenery) -> int:
    client, child = ask(scene, scene.listen(queue=None))
    client.shutdown(socket.SHUT_WR)
    nothing_for(PATIENT_S, client)
    scene.answer(child, client)
    return port_of(client)


@SCENES.scene(**at(EVERYWHERE, ORDINARY))
def a_client_that_leaves_long_after_its_answer(scene: Scenery) -> int:
    client, child = ask(scene, scene.listen(queue=None))
    nothing_for(PATIENT_S, client)
    scene.answer(child, client)
    port = port_of(client)
    reset(client)
    return port


@SCENES.scene(**at(EVERYWHERE, seen("established", after="silence")))
def a_server_that_is_slow(scene: Scenery) -> int:
    """It has acked the request, and thinks longer than the run waits for its answer."""
    client, child = ask(scene, scene.listen(queue=None))
    for place in EVERYWHERE:
        scene.wait_told(place, port_of(client))
    scene.answer(child, client)
    return port_of(client)


# --- what does not arrive ---


@SCENES.scene(
    client=seen("established", SILENT, after="silence"), near=seen("established", SILENT, *DROPPED_HERE),
    **at(BEYOND, seen("established", NOTHING, after="silence")),
)  # fmt: skip
def a_request_that_never_arrives(scene: Scenery) -> int:
    """The path takes small segments, and nothing else."""
    scene.listen(queue=None)
    scene.hold(WITH_DATA)
    client = scene.connect()
    client.sendall(REQUEST * 10)
    return port_of(client)


@SCENES.scene(**at(EVERYWHERE, ORDINARY))
def a_request_of_which_the_first_copy_is_lost(scene: Scenery) -> int:
    listener = scene.listen(queue=None)
    scene.drop_first(f"iifname {TO_CLIENT} {scene.to_server} {WITH_DATA}")
    return scene.serve_one(listener)


# --- who is reset ---


@SCENES.scene(**at(BEFORE, seen("established", RESET, after="reset_by_server")), server=seen("established", RESET_HERE))
def a_server_that_resets_instead_of_an_answer(scene: Scenery) -> int:
    client, child = ask(scene, scene.listen(queue=None))
    reset(child)
    return scene.fails(client, errno.ECONNRESET)


@SCENES.scene(**at(BEFORE, seen("established", RESET, after="reset_by_server")), server=seen("established", RESET_HERE))
def a_server_that_closes_without_reading(scene: Scenery) -> int:
    """Data that nobody has read makes Linux reset."""
    listener = scene.listen(queue=None)
    client = scene.connect()
    child = scene.accept(listener, read=0)
    client.sendall(REQUEST)
    assert child.recv(len(REQUEST), socket.MSG_WAITALL | socket.MSG_PEEK) == REQUEST
    child.close()
    return scene.fails(client, errno.ECONNRESET)


@SCENES.scene(**at(EVERYWHERE, ORDINARY))
def a_server_that_resets_after_its_answer(scene: Scenery) -> int:
    client, child = ask(scene, scene.listen(queue=None))
    scene.answer(child, client)
    reset(child)
    return scene.fails(client, errno.ECONNRESET)


@SCENES.scene(**at(EVERYWHERE, ORDINARY))
def a_client_that_leaves_with_data_unread(scene: Scenery) -> int:
    client, child = ask(scene, scene.listen(queue=None))
    child.sendall(ANSWER * 100)
    assert client.recv(1, socket.MSG_PEEK)
    port = port_of(client)
    client.close()
    return port


# --- who wants nothing ---


@SCENES.scene(**at(EVERYWHERE, seen("established", after="closed_unused")))
def a_health_check(scene: Scenery) -> int:
    listener = scene.listen(queue=None)
    client = scene.connect()
    port = port_of(client)
    client.close()
    scene.accept(listener, read=0).close()
    return port


@SCENES.scene(**at(EVERYWHERE, seen("established", after="closed_unused")))
def a_health_check_that_resets(scene: Scenery) -> int:
    listener = scene.listen(queue=None)
    client = scene.connect()
    scene.accept(listener, read=0)
    port = port_of(client)
    reset(client)
    return port


@SCENES.scene(**at(EVERYWHERE, seen("established", after="silence")))
def a_client_that_waits(scene: Scenery) -> int:
    """As one that opens connections in advance."""
    listener = scene.listen(queue=None)
    client = scene.connect()
    scene.accept(listener, read=0)
    return port_of(client)


@SCENES.scene(**at(EVERYWHERE, ORDINARY))
def a_server_that_speaks_first(scene: Scenery) -> int:
    listener = scene.listen(queue=None)
    client = scene.connect()
    child = scene.accept(listener, read=0)
    nothing_for(PATIENT_S, client)
    scene.answer(child, client)
    return port_of(client)


@SCENES.scene(**at(EVERYWHERE, seen("established", after="server_closed")))
def a_server_that_closes_at_once(scene: Scenery) -> int:
    listener = scene.listen(queue=None)
    client = scene.connect()
    scene.accept(listener, read=0).close()
    assert client.recv(1) == b""
    return port_of(client)


# --- a port that is still in use ---


@SCENES.scene(
    **at(BEFORE, seen("established", IN_USE, challenge_acks=1)),
    server=seen("established", IN_USE, here("port_still_in_use", "likely")),
)
def a_client_that_was_started_again(scene: Scenery) -> int:
    """It uses the port of a connection which the server still has."""
    listener = scene.listen(queue=None)
    client = scene.connect()
    scene.finish(listener, client)
    for place in EVERYWHERE:
        scene.wait_told(place, port_of(client))
    again = scene.client_from(port=scene.vanish(client))
    again.settimeout(10)
    scene.dial(again)
    again.sendall(REQUEST)
    scene.answer(scene.accept(listener), again)
    return port_of(again)


@SCENES.scene(**at(EVERYWHERE, ORDINARY))
def a_port_whose_last_connection_is_over(scene: Scenery) -> int:
    """The server closed first and remembers it, and takes the new SYN at once."""
    listener = scene.listen(queue=None)
    client = scene.connect()
    client.sendall(REQUEST)
    child = scene.accept(listener)
    scene.answer(child, client)
    child.close()
    assert client.recv(1) == b""
    port = port_of(client)
    client.close()
    for place in EVERYWHERE:
        scene.wait_told(place, port)
    again = scene.client_from(port=port)
    scene.dial(again)
    scene.finish(listener, again)
    return port


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with watched() as made:
        yield play(SCENES, made)


@pytest.mark.parametrize("scene", SCENES, ids=[one.name for one in SCENES])
def test_what_became_of_it(played: Played, scene: Scene) -> None:
    played.check(scene)
