"""What a router does with handshakes: it does not forward them, gets no answer, translates them, or something answers.

Of what comes in by one interface and leaves by none the router knows for certain, if its kernel says why.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.support.fates import (
    BARE_SYN,
    DOWN,
    EVERYWHERE,
    LOST,
    NOT_ANSWERED,
    NOTHING,
    ORDINARY,
    SYN_ACK,
    UNFINISHED,
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
from tests.support.heard import UNANSWERED_AT
from tests.support.hosts import REQUEST
from tests.support.play import syn_proxy
from tests.support.routed import TO_CLIENT, service_address
from tests.support.stage import PORT, Tap
from tracer.lab.packet import MSS_1460, Flag, Segment
from tracer.lab.stage import answer_syn

pytestmark = [pytest.mark.root, pytest.mark.slow]

SCENES = Scenes()
AT_THE_ROUTER = ("near", "far", "near_inferring", "far_inferring")
SYN, ACK, RST = Flag.SYN, Flag.ACK, Flag.RST
NEVER_OUT, PERHAPS_NEVER_OUT = here("not_forwarded"), here("not_forwarded", "likely")
ON_THE_PATH = away("answered_on_path", "likely", "path")
ONE_WAY = away("nat_one_way", "likely", "path", "server")
NO_FIT = away("answer_does_not_fit", "likely", "server", "path")
SILENT = away("silent_after_established", "likely", "server", "path")
# a router that keeps a SYN: what it says with its kernel's word and without, and what the client can know
KEPT = {
    "client": seen("no_reply", DOWN), "near": seen("no_reply", NEVER_OUT), "far": None, "server": None,
    "near_inferring": seen("no_reply", PERHAPS_NEVER_OUT),
}  # fmt: skip
RETURNED = {
    "client": seen("unreachable"), "near": seen("unreachable", NEVER_OUT), "far": None, "server": None,
    "near_inferring": seen("unreachable", PERHAPS_NEVER_OUT, NOTHING),
}  # fmt: skip


# --- what is not forwarded ---


@SCENES.scene(**KEPT)
def a_filter_that_drops(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.router, "forward", f"iifname {TO_CLIENT} {scene.to_server} {BARE_SYN}")
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene_by_ipv6(**KEPT)
def a_filter_that_drops_by_ipv6(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.router, "forward", f"iifname {TO_CLIENT} {scene.to_server} {BARE_SYN}")
    return scene.try_to(errno.ETIMEDOUT)


# A router sends one such error a second to a client, after five, and one that comes while the client's program is still
# in connect(2) does not end it.
ERRORS_LATER = 4


def route(scene: Scenery, kind: str) -> None:
    """The router has such a route to the server."""
    router, address = scene.hosts.router, f"{scene.server_ip}/32"
    router.run("ip", "route", "add", *kind.split(), address)
    scene.callback(router.run, "ip", "route", "del", *kind.split(), address)


@SCENES.scene(**KEPT)
def a_black_hole(scene: Scenery) -> int:
    route(scene, "blackhole")
    port = scene.try_to(errno.ETIMEDOUT)
    assert scene.kernel_freed("NOT_SPECIFIED", "ip_error")
    return port


@SCENES.scene(**RETURNED)
def an_unreachable_route(scene: Scenery) -> int:
    """The client gets an ICMP error."""
    route(scene, "unreachable")
    return scene.try_to(errno.EHOSTUNREACH, retries=ERRORS_LATER)


@SCENES.scene(**RETURNED)
def no_route_at_all(scene: Scenery) -> int:
    route(scene, "throw")
    return scene.try_to(errno.ENETUNREACH, retries=ERRORS_LATER)


@SCENES.scene(**RETURNED)
def a_neighbour_that_does_not_answer(scene: Scenery) -> int:
    """The address is of the server's network, and nobody has it."""
    scene.server_ip = "10.98.1.77"
    port = scene.try_to(errno.EHOSTUNREACH, retries=6)
    assert any(scene.kernel_freed("NEIGH_FAILED", place) for place in UNANSWERED_AT)
    return port


@SCENES.scene(
    client=seen("unreachable", away("firewall_rejected", "likely", "path")), far=None, server=None,
    near=seen("unreachable", NEVER_OUT, here("firewall_rejected")),
)  # fmt: skip
def a_route_that_prohibits(scene: Scenery) -> int:
    """It answers as a filter does."""
    route(scene, "prohibit")
    return scene.try_to(errno.EHOSTUNREACH, retries=ERRORS_LATER)


# --- what is forwarded and not answered ---


@SCENES.scene(
    client=seen("no_reply", DOWN), **at(AT_THE_ROUTER, seen("no_reply", NOT_ANSWERED)),
    server=seen("no_reply", here("host_dropped")),
)  # fmt: skip
def a_server_that_drops(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN}")
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(
    client=seen("no_reply", LOST), **at(AT_THE_ROUTER, seen("no_reply", NOT_ANSWERED)),
    server=seen("no_reply", here("host_dropped")),
)  # fmt: skip
def a_server_that_has_answered_others(scene: Scenery) -> int:
    scene.serve_in_turn(scene.listen(queue=None), EVERYWHERE, 1)
    scene.drop(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN}")
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(
    # the answer arrives at the router and goes no further: the client's side has none
    client=seen("no_reply", DOWN), server=seen("half_open", away("synack_lost", "likely", "path")),
    near=seen("no_reply", NEVER_OUT, here("host_dropped"), NOT_ANSWERED, NOTHING),
    far=seen("half_open", UNFINISHED, away("synack_lost", "likely", "path"), here("host_dropped")),
)  # fmt: skip
def a_router_that_keeps_the_answer(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.router, "forward", f"{scene.to_client} {SYN_ACK}")
    return scene.try_to(errno.ETIMEDOUT)


# --- what answers in the server's name ---


@SCENES.scene(
    **at(("client", "near"), seen("established", ON_THE_PATH, synack_isns=2)),
    # these have not seen the other answer, and the client's ACK is of that one
    far=seen("", NOTHING, UNFINISHED, NO_FIT), server=seen("", NOTHING, UNFINISHED, NO_FIT, here("host_dropped")),
)  # fmt: skip
def two_that_answer(scene: Scenery) -> int:
    """A box on the path, from as far as the server, is quicker than it."""
    server = scene.raw_server()
    client = scene.begin_from()
    syn = server.receive(SYN)
    tap = scene.tap(scene.hosts.client)
    scene.forge(
        Segment(PORT, syn.source_port, 77_000, syn.seq + 1, SYN | ACK, MSS_1460), scene.server_ip, scene.client_ip
    )
    tap.next(SYN | ACK)
    answer_syn(server, syn, 0)
    client.sendall(REQUEST)
    return syn.source_port


@SCENES.scene(
    **at(("client", "near"), seen("established", ON_THE_PATH)), far=seen(""),
    server=seen("", here("host_dropped"), NOTHING),
)  # fmt: skip
def an_answer_from_elsewhere_that_leads_nowhere(scene: Scenery) -> int:
    """The server is known to be nearer, and gets no SYN."""
    scene.serve_in_turn(scene.listen(queue=None), EVERYWHERE, 1)
    scene.drop(scene.hosts.first, "input", scene.to_server)
    tap = scene.tap(scene.hosts.first)
    client = scene.begin_from()
    syn = tap.next(SYN, without=ACK)
    answer = Segment(PORT, syn.source_port, 77_000, syn.seq + 1, SYN | ACK, MSS_1460)
    scene.forge(answer, scene.server_ip, scene.client_ip, ttl=44)
    client.sendall(REQUEST)
    return syn.source_port


# --- what is translated ---


def translate(scene: Scenery, rules: str) -> None:
    """Rules of nft at the router, in a table of their own."""
    router, table = scene.hosts.router, f"translates-{scene.server_ip.replace('.', '-')}"
    router.run("nft", f"table ip {table} {{ {rules}; }}")
    scene.callback(router.run, "nft", "delete", "table", "ip", table)


def twin(server: str) -> Callable[[object], bool]:
    """For `nat`: it points to the record with this server."""
    return lambda nat: isinstance(nat, dict) and (nat["server"]["ip"], nat["server"]["port"]) == (server, PORT)


ASKED, BEHIND = (service_address(number) for number in (35, 38))  # translated in one direction
PUBLIC, PRIVATE = (service_address(number) for number in (34, 37))  # in both


@SCENES.scene(
    client=seen("no_reply", ONE_WAY, DOWN), near=seen("no_reply", ONE_WAY, nat=twin(BEHIND)), far=None, server=None
)
def translated_on_the_way_in_only(scene: Scenery) -> int:
    """The answer comes from an address that the client did not ask."""
    scene.server_ip = ASKED
    scene.enter_context(scene.hosts.listen(scene.hosts.first, BEHIND, PORT, None))
    rule = f"iifname {TO_CLIENT} ip daddr {ASKED} ip daddr set {BEHIND} notrack"
    translate(scene, f"chain c {{ type filter hook prerouting priority raw; {rule}; }}")
    tap = scene.enter_context(closing(Tap(scene.hosts.client, BEHIND)))
    client = scene.begin_from()
    tap.next(SYN | ACK)
    tap.next(RST)
    port = port_of(client)
    # that side is settled at once, seconds before the other one tells that it is one
    scene.expect_also("far", BEHIND, port, seen("aborted"))
    # the server cannot know that the client asked another address
    scene.expect_also("server", BEHIND, port, seen("aborted", nat=None))
    return scene.fails(client, errno.ETIMEDOUT)


@SCENES.scene(
    client=[seen("established", nat=None)] * 3, near=[seen("established", nat=twin(PRIVATE))] * 3, far=None, server=None
)
def translated_both_ways(scene: Scenery) -> list[int]:
    scene.server_ip = PUBLIC
    listener = scene.enter_context(scene.hosts.listen(scene.hosts.first, PRIVATE, PORT, None))
    translate(scene, f"chain c {{ type nat hook prerouting priority dstnat; ip daddr {PUBLIC} dnat to {PRIVATE}; }}")
    ports = [scene.serve_one(listener) for _ in range(3)]
    for port in ports:
        scene.expect_also("far", PRIVATE, port, seen("established", nat=twin(PUBLIC)))
        scene.expect_also("server", PRIVATE, port, seen("established", nat=None))
    return ports


@SCENES.scene(
    client=[ORDINARY, seen("rejected", away("refused", "likely", "server"), away("refused", "possible", "server"))],
    near=[ORDINARY, seen("rejected", here("no_listener"))], far=None, server=None,
)  # fmt: skip
def a_forwarded_port_and_a_closed_one(scene: Scenery) -> list[int]:
    """One address, whose ports are at different distances: nobody answers on the path."""
    scene.server_ip = "10.98.0.1"  # the router's
    behind = service_address(36)
    listener = scene.enter_context(scene.hosts.listen(scene.hosts.first, behind, PORT, None))
    chain = "type nat hook prerouting priority dstnat"
    translate(scene, f"chain c {{ {chain}; ip daddr {scene.server_ip} tcp dport {PORT} dnat to {behind}; }}")
    first = scene.serve_one(listener)
    for place in ("client", "near"):
        scene.wait_told(place, first)
    return [first, scene.try_to(errno.ECONNREFUSED, port=PORT + 1)]


# --- what a proxy on the way does ---


@SCENES.scene(
    # the proxy grants the client no window until its own handshake is done, so that a request may wait at the client
    **at(("client", "near"), seen("established", SILENT, NOTHING)), server=seen("no_reply", here("host_dropped")),
    far=seen("no_reply", DOWN, LOST, NOT_ANSWERED),
)  # fmt: skip
def a_proxy_whose_server_does_not_answer(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.first, "input", scene.to_server)
    scene.enter_context(syn_proxy(scene.hosts.router, "forward", scene.server_ip))
    client = scene.connect()
    client.sendall(REQUEST)
    return port_of(client)


# --- false friends ---


@SCENES.scene(**at(EVERYWHERE, [ORDINARY] * 3), near_inferring=[ORDINARY] * 3, far_inferring=[ORDINARY] * 3)
def connections_that_pass(scene: Scenery) -> list[int]:
    listener = scene.listen(queue=None)
    return [scene.serve_one(listener) for _ in range(3)]


@SCENES.scene(client=ORDINARY, near=ORDINARY, near_inferring=ORDINARY, far=None, server=None)
def a_server_that_is_reached_by_an_interface_that_is_not_traced(scene: Scenery) -> int:
    scene.hosts.send_to(scene.hosts.second, scene.server_ip)
    listener = scene.listen(queue=None, box=scene.hosts.second)
    return scene.serve_one(listener)


@SCENES.scene(
    client=seen("no_reply", DOWN), near=seen("no_reply", DOWN, NOTHING), near_inferring=seen("no_reply", DOWN, NOTHING),
    far=None, server=None,
)  # fmt: skip
def a_silent_server_that_is_reached_by_an_interface_that_is_not_traced(scene: Scenery) -> int:
    """It was forwarded, which the router's run cannot see."""
    scene.hosts.send_to(scene.hosts.second, scene.server_ip)
    scene.drop(scene.hosts.second, "input", f"{scene.to_server} {BARE_SYN}")
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(
    client=seen("no_reply", DOWN), near=seen("no_reply", DOWN, NOTHING), near_inferring=seen("no_reply", DOWN, NOTHING),
    far=None, server=None,
)  # fmt: skip
def translated_to_a_silent_server_by_an_interface_that_is_not_traced(scene: Scenery) -> int:
    """By its own address it would have left by one that is."""
    translate(
        scene,
        f"chain c {{ type nat hook prerouting priority dstnat; ip daddr {scene.server_ip} dnat to 10.98.2.2; }}",
    )
    scene.drop(scene.hosts.second, "input", f"ip daddr 10.98.2.2 tcp dport {PORT} {BARE_SYN}")
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(client=ORDINARY, near=ORDINARY, near_inferring=ORDINARY, far=None, server=None)
def a_server_on_the_router_itself(scene: Scenery) -> int:
    """It comes in and does not go out again."""
    router = scene.hosts.router
    router.run("ip", "address", "add", f"{scene.server_ip}/32", "dev", "lo")
    scene.callback(router.run, "ip", "address", "del", f"{scene.server_ip}/32", "dev", "lo")
    return scene.serve_one(scene.listen(queue=None, box=router))


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with watched("router") as made:
        yield play(SCENES, made)


@pytest.mark.parametrize("scene", SCENES, ids=[one.name for one in SCENES])
def test_what_the_router_did(played: Played, scene: Scene) -> None:
    played.check(scene)
