"""Handshakes that are refused: by a closed port, by a packet filter here or on the way, by answers that do not fit.

The server's host knows why for certain. The others see a RST or an ICMP error, and from how far it came.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from tests.support.fates import (
    BARE_SYN,
    BEFORE,
    DOWN,
    EVERYWHERE,
    LOST,
    NOT_ANSWERED,
    ORDINARY,
    SYN_ACK,
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
from tests.support.kernel_reasons import SAYS_WHY_IT_RESETS
from tests.support.routed import TO_CLIENT
from tests.support.stage import PORT
from tracer.lab.packet import MSS_1460, Flag, Segment
from tracer.lab.stage import isn

pytestmark = [pytest.mark.root, pytest.mark.slow]

SCENES = Scenes()
SYN, ACK, RST = Flag.SYN, Flag.ACK, Flag.RST
OTHER_PORT = PORT + 1
# the RST of a server of which nothing else was seen, and of one that has answered before from as far
REFUSED = away("refused", "possible", "server")
REFUSED_BY_IT = away("refused", "likely", "server")
ON_THE_PATH = away("answered_on_path", "likely", "path")
FORBIDDEN = away("firewall_rejected", "likely", "server", "path")
NO_FIT = away("answer_does_not_fit", "likely", "server", "path")
ELSEWHERE = at(BEFORE, seen("rejected", REFUSED))
ELSEWHERE_LIKELY = at(BEFORE, seen("rejected", REFUSED_BY_IT))
FORBIDDEN_ELSEWHERE = at(BEFORE, seen("unreachable", FORBIDDEN))
# older kernels do not say why they reset
RESET_REASON = "NO_SOCKET" if SAYS_WHY_IT_RESETS else None
NOBODY = seen("rejected", here("no_listener"), reset=lambda reset: reset["reason"] == RESET_REASON)
FILTERED = here("firewall_rejected")


# --- at the server ---


@SCENES.scene(**ELSEWHERE, server=NOBODY)
def a_closed_port(scene: Scenery) -> int:
    port = scene.try_to(errno.ECONNREFUSED)
    assert scene.kernel_freed("NO_SOCKET", "tcp_v4_rcv")
    return port


@SCENES.scene_by_ipv6(**ELSEWHERE, server=NOBODY)
def a_closed_port_by_ipv6(scene: Scenery) -> int:
    port = scene.try_to(errno.ECONNREFUSED)
    assert scene.kernel_freed("NO_SOCKET", "tcp_v6_rcv")
    return port


@SCENES.scene(**ELSEWHERE_LIKELY, server=NOBODY)
def a_closed_port_beside_an_open_one(scene: Scenery) -> int:
    """Then it is known how far the server is."""
    port = scene.serve_one(scene.listen(queue=None))
    for place in ("client", "near", "far", "server"):
        scene.wait_told(place, port)
    return scene.try_to(errno.ECONNREFUSED, port=OTHER_PORT)


@SCENES.scene(**ELSEWHERE, server=seen("rejected", FILTERED))
def a_filter_that_resets(scene: Scenery) -> int:
    """Somebody listens behind it."""
    scene.listen(queue=None)
    scene.enter_context(scene.rules(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN} reject with tcp reset"))
    return scene.try_to(errno.ECONNREFUSED)


@SCENES.scene_by_ipv6(**ELSEWHERE, server=seen("rejected", FILTERED))
def a_filter_that_resets_by_ipv6(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.enter_context(scene.rules(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN} reject with tcp reset"))
    return scene.try_to(errno.ECONNREFUSED)


@SCENES.scene(**ELSEWHERE, server=seen("rejected", FILTERED, here("no_listener")))
def a_filter_that_resets_where_nobody_listens(scene: Scenery) -> int:
    """Both are so."""
    scene.enter_context(scene.rules(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN} reject with tcp reset"))
    return scene.try_to(errno.ECONNREFUSED)


@SCENES.scene(
    client=seen("no_reply", DOWN), near=seen("no_reply", here("host_dropped")), far=seen("aborted", FILTERED),
    server=seen("aborted"),
)  # fmt: skip
def a_router_that_resets_the_answer(scene: Scenery) -> int:
    """In the client's name, as where it has not seen the SYN and tracks connections."""
    scene.listen(queue=None)
    box = scene.hosts.router
    scene.enter_context(scene.rules(box, "forward", f"{scene.to_client} {SYN_ACK} reject with tcp reset"))
    with scene.counting(scene.hosts.first, "EmbryonicRsts"):
        return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(**FORBIDDEN_ELSEWHERE, server=seen("unreachable", FILTERED))
def a_filter_that_says_it_is_prohibited(scene: Scenery) -> int:
    scene.listen(queue=None)
    answer = "reject with icmpx type admin-prohibited"
    scene.enter_context(scene.rules(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN} {answer}"))
    return scene.try_to(errno.EHOSTUNREACH)


@SCENES.scene_by_ipv6(**FORBIDDEN_ELSEWHERE, server=seen("unreachable", FILTERED))
def a_filter_that_says_it_is_prohibited_by_ipv6(scene: Scenery) -> int:
    scene.listen(queue=None)
    answer = "reject with icmpx type admin-prohibited"
    scene.enter_context(scene.rules(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN} {answer}"))
    return scene.try_to(errno.EACCES)


@SCENES.scene(
    client=seen("unreachable"), near=seen("unreachable"), far=seen("unreachable"), server=seen("unreachable", FILTERED)
)
def a_filter_that_says_nobody_is_there(scene: Scenery) -> int:
    """Elsewhere nobody can know whether that is a filter."""
    scene.listen(queue=None)
    answer = "reject with icmpx type port-unreachable"
    scene.enter_context(scene.rules(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN} {answer}"))
    return scene.try_to(errno.ECONNREFUSED)


# --- on the way ---


@SCENES.scene(client=seen("rejected", REFUSED), near=seen("rejected", FILTERED), far=None, server=None)
def a_filter_on_the_way_that_resets(scene: Scenery) -> int:
    scene.listen(queue=None)
    rule = f"iifname {TO_CLIENT} {scene.to_server} {BARE_SYN} reject with tcp reset"
    scene.enter_context(scene.rules(scene.hosts.router, "forward", rule))
    return scene.try_to(errno.ECONNREFUSED)


# one hop nearer may be the host in front of a container, which refuses by itself once that is gone
PERHAPS_ON_THE_PATH = away("answered_on_path", "possible", "path")


@SCENES.scene(client=seen("rejected", PERHAPS_ON_THE_PATH), near=seen("rejected", FILTERED), far=None, server=None)
def a_filter_on_the_way_to_a_server_that_is_known(scene: Scenery) -> int:
    """Its RST comes from nearer than the server's other segments."""
    port = scene.serve_one(scene.listen(queue=None))
    for place in ("client", "near"):
        scene.wait_told(place, port)
    rule = f"iifname {TO_CLIENT} {scene.to_server} {BARE_SYN} reject with tcp reset"
    scene.enter_context(scene.rules(scene.hosts.router, "forward", rule))
    return scene.try_to(errno.ECONNREFUSED)


@SCENES.scene(client=seen("unreachable", FORBIDDEN), near=seen("unreachable", FILTERED), far=None, server=None)
def a_filter_on_the_way_that_says_it_is_prohibited(scene: Scenery) -> int:
    scene.listen(queue=None)
    answer = "reject with icmpx type admin-prohibited"
    rule = f"iifname {TO_CLIENT} {scene.to_server} {BARE_SYN} {answer}"
    scene.enter_context(scene.rules(scene.hosts.router, "forward", rule))
    return scene.try_to(errno.EHOSTUNREACH)


@SCENES.scene(
    client=seen("rejected", ON_THE_PATH), near=seen("rejected", ON_THE_PATH), far=seen("no_reply", NOT_ANSWERED, LOST),
    server=seen("no_reply", here("host_dropped")), server_inferring=seen("no_reply", here("host_dropped", "possible")),
)  # fmt: skip
def a_box_that_resets_in_the_servers_name(scene: Scenery) -> int:
    """Its RST has another TTL. The server itself says nothing."""
    port = scene.serve_one(scene.listen(queue=None))
    for place in ("client", "near", "far"):
        scene.wait_told(place, port)
    scene.enter_context(scene.rules(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN} drop"))
    tap = scene.tap(scene.hosts.first)
    client = scene.begin_from()
    syn = tap.next(SYN, without=ACK)
    answer = Segment(PORT, syn.source_port, 0, syn.seq + 1, RST | ACK)
    scene.forge(answer, scene.server_ip, scene.client_ip, ttl=44)
    scene.fails(client, errno.ECONNREFUSED)
    return syn.source_port


# --- answers that do not fit ---


@SCENES.scene(**at((*EVERYWHERE, "server_inferring"), seen("no_reply", NO_FIT)))
def resets_that_do_not_fit(scene: Scenery) -> int:
    """The server acks the SYN's own number, not the one after it, which Linux ignores."""
    server = scene.raw_server()
    client = scene.begin_from()
    for _ in range(2):
        syn = server.receive(SYN)
        server.send(syn.source_port, RST | ACK, 0, syn.seq)
    scene.fails(client, errno.ETIMEDOUT)
    return syn.source_port


@SCENES.scene(**dict.fromkeys(("client", "near", "far", "server"), ORDINARY))
def a_reset_that_does_not_fit_before_an_answer_that_does(scene: Scenery) -> int:
    server = scene.raw_server()
    client = scene.begin_from()
    syn = server.receive(SYN)
    server.send(syn.source_port, RST, 5)  # which acks nothing
    scene.answer_by_hand(server, syn, client)
    return syn.source_port


# --- who did not want to go on ---


@SCENES.scene(**at(EVERYWHERE, seen("aborted")))
def a_scan_of_ports(scene: Scenery) -> int:
    """The port is open, and the client resets what the server answers."""
    scene.listen(queue=None)
    client = scene.raw_client()
    syn = client.send(PORT, SYN, isn(), options=MSS_1460)
    client.receive(SYN | ACK)
    client.send(PORT, RST, syn.seq + 1)
    return client.port


@SCENES.scene(**at(EVERYWHERE, seen("aborted")))
def a_scan_by_a_program_without_a_socket(scene: Scenery) -> int:
    """The client's kernel knows nothing of that SYN, and resets the answer itself."""
    scene.listen(queue=None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = scene.raw_port(port_of(unused))
    client.send(PORT, SYN, isn(), options=MSS_1460)
    client.receive(SYN | ACK)
    return client.port


@SCENES.scene(
    client=[seen("rejected", REFUSED), ORDINARY], near=[seen("rejected", REFUSED), ORDINARY],
    far=[seen("rejected", REFUSED), ORDINARY], server=[NOBODY, ORDINARY],
)  # fmt: skip
def a_server_that_starts_later(scene: Scenery) -> list[int]:
    refused = scene.try_to(errno.ECONNREFUSED)
    scene.wait_told("server", refused)
    return [refused, scene.serve_one(scene.listen(queue=None))]


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with watched("server") as hosts:
        yield play(SCENES, hosts)


@pytest.mark.parametrize("scene", SCENES, ids=[one.name for one in SCENES])
def test_who_refused(played: Played, scene: Scene) -> None:
    played.check(scene)
