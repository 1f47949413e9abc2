"""Segments that a host's kernel drops, for each reason that it names, and rules that drop some but stop no handshake.

Only that host can know, and it knows for certain. Where the kernel's reasons are off, a listener that stays silent is a
reason to suspect it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping

import pytest

from tests.support.fates import (
    BARE_ACK,
    BARE_SYN,
    BEFORE,
    DOWN,
    LOST,
    NOT_ANSWERED,
    NOTHING,
    ORDINARY,
    SOMETHING_LOST,
    SYN_ACK,
    TCP_MD5SIG,
    UNFINISHED,
    Fate,
    Played,
    Scene,
    Scenery,
    Scenes,
    Seen,
    at,
    away,
    here,
    play,
    port_of,
    seen,
    watched,
)
from tests.support.heard import FILTERED_AT, UNANSWERED_AT
from tests.support.kernel_reasons import as_traced, has_reason
from tests.support.netbox import wait_until
from tests.support.patience import KEPT_BACK
from tests.support.routed import WIRE, source_address
from tests.support.stage import PORT, nothing_for
from tracer.lab.packet import MSS_1460, Flag
from tracer.lab.sockets import DROP_ALL, attach

pytestmark = [pytest.mark.root, pytest.mark.slow]

SCENES = Scenes()
SYN, ACK = Flag.SYN, Flag.ACK
DROPPED, PERHAPS = here("host_dropped"), here("host_dropped", "possible")
# who waits for an answer of a server that has answered nobody, and the router that passed the SYN on
SILENCE = {"client": seen("no_reply", DOWN), **at(("near", "far"), seen("no_reply", NOT_ANSWERED))}
SUSPECTED = {"server_inferring": seen("no_reply", PERHAPS)}
IP_MINTTL = 21
SPOOFED = source_address(7)  # to which the server's route leads elsewhere


def dropped(result: str, segment: str, reason: str, place: str, *less: Fate) -> Seen:
    """What the host says whose kernel did it."""
    return seen(result, DROPPED, *less, drop={"segment": segment, "reason": reason, "at": place, "netns": None})


def dropped_or(without: Fate, result: str, segment: str, reason: str, place: str) -> Seen:
    """Likewise, and what it says where its kernel does not have the reason."""
    return dropped(result, segment, reason, place) if has_reason(reason) else seen(result, without, drop=None)


# --- the SYN ---


@SCENES.scene(**SILENCE, **SUSPECTED, server=dropped("no_reply", "syn", "NETFILTER_DROP", FILTERED_AT))
def a_filter(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN}")
    port = scene.try_to(errno.ETIMEDOUT)
    assert scene.kernel_freed("NETFILTER_DROP", FILTERED_AT)
    return port


@SCENES.scene_by_ipv6(**SILENCE, **SUSPECTED, server=dropped("no_reply", "syn", "NETFILTER_DROP", FILTERED_AT))
def a_filter_by_ipv6(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN}")
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(
    client=seen("no_reply", LOST), **at(("near", "far"), seen("no_reply", NOT_ANSWERED)), **SUSPECTED,
    server=dropped("no_reply", "syn", "NETFILTER_DROP", FILTERED_AT),
)  # fmt: skip
def a_filter_of_a_server_that_has_answered(scene: Scenery) -> int:
    before = scene.serve_one(scene.listen(queue=None))
    for place in ("client", "near", "far", "server"):
        scene.wait_told(place, before)
    scene.drop(scene.hosts.first, "input", f"{scene.to_server} {BARE_SYN}")
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(**SILENCE, server=dropped("no_reply", "syn", "IP_RPFILTER", "ip_rcv_finish_core"))
def reverse_path_filter(scene: Scenery) -> int:
    scene.listen(queue=None)
    with scene.counting(scene.hosts.first, "IPReversePathFilter"):
        return scene.try_to(errno.ETIMEDOUT, source=SPOOFED)


@SCENES.scene(**SILENCE, **SUSPECTED, server=dropped("no_reply", "syn", "TCP_MD5NOTFOUND", "tcp_v4_rcv"))
def md5_at_the_server_only(scene: Scenery) -> int:
    sign(scene.listen(queue=None), scene.client_ip)
    with scene.counting(scene.hosts.first, "TCPMD5NotFound"):
        return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(**SILENCE, **SUSPECTED, server=dropped("no_reply", "syn", "TCP_MD5UNEXPECTED", "tcp_v4_rcv"))
def md5_at_the_client_only(scene: Scenery) -> int:
    scene.listen(queue=None)
    client = scene.client_from()
    sign(client, scene.server_ip)
    with scene.counting(scene.hosts.first, "TCPMD5Unexpected"):
        assert client.connect_ex((scene.server_ip, PORT)) == errno.ETIMEDOUT
    return port_of(client)


@SCENES.scene(**SILENCE, server=dropped("no_reply", "syn", "TCP_MD5FAILURE", "tcp_v4_rcv"))
def md5_with_two_keys(scene: Scenery) -> int:
    sign(scene.listen(queue=None), scene.client_ip, b"one")
    client = scene.client_from()
    sign(client, scene.server_ip, b"other")
    with scene.counting(scene.hosts.first, "TCPMD5Failure"):
        assert client.connect_ex((scene.server_ip, PORT)) == errno.ETIMEDOUT
    return port_of(client)


def sign(one: socket.socket, peer: str, key: bytes = b"word") -> None:
    """TCP MD5 with this peer (RFC 2385)."""
    address = b"\x02\0" + bytes(2) + socket.inet_aton(peer)
    length = len(key).to_bytes(2, "little")
    one.setsockopt(
        socket.IPPROTO_TCP, TCP_MD5SIG, address.ljust(128, b"\0") + b"\0\0" + length + bytes(4) + key.ljust(80, b"\0")
    )


# the server answers an old SYN with an ACK of the connection in TIME_WAIT: those who see it may say so
IN_USE = away("port_still_in_use", "likely", "server")


@SCENES.scene(
    client=[seen("syn_on_established", IN_USE)], near=[seen("syn_on_established", IN_USE)],
    far=[seen("syn_on_established", IN_USE)],
    server=[dropped_or(IN_USE, "syn_on_established", "syn", "TCP_RFC7323_TW_PAWS", "tcp_v4_rcv")],
)  # fmt: skip
def old_timestamps(scene: Scenery) -> int:
    """A SYN for a connection in TIME_WAIT, from a clock that is behind, as of another host behind the same NAT."""
    listener = scene.listen(queue=None)
    client = scene.connect()
    port = port_of(client)
    child = scene.accept(listener, read=0)
    child.close()  # the server is the first to close
    assert client.recv(1) == b""
    client.close()
    before = [scene.wait_told(place, port) for place in ("client", "near", "far", "server")][-1].syn.ts_val
    assert before is not None
    scene.drop(scene.hosts.client, "output", f"{scene.to_server} tcp flags & rst == rst")
    stamps = b"\x01\x01\x08\x0a" + ((before - 100_000) % (1 << 32)).to_bytes(4, "big") + bytes(4)
    raw = scene.raw_port(port)
    raw.send(PORT, SYN, 0xDEADBEEF, options=MSS_1460 + stamps)
    raw.receive(ACK)
    assert scene.kernel_freed(as_traced("TCP_RFC7323_TW_PAWS"), "tcp_v4_rcv")
    return port


@SCENES.scene(**SILENCE, server=dropped("no_reply", "syn", "NETFILTER_DROP", FILTERED_AT))
def a_filter_of_the_interface(scene: Scenery) -> int:
    """It stands before the stack, and still behind our hook."""
    scene.listen(queue=None)
    box, table = scene.hosts.first, f"early-{scene.server_ip.replace('.', '-')}"
    hook = f"type filter hook ingress device {WIRE} priority 0"
    box.run("nft", f"table netdev {table} {{ chain c {{ {hook}; {scene.to_server} {BARE_SYN} drop; }}; }}")
    scene.callback(box.run, "nft", "delete", "table", "netdev", table)
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(**SILENCE, server=dropped("no_reply", "syn", "XFRM_POLICY", "tcp_v4_rcv"))
def a_policy_of_ipsec(scene: Scenery) -> int:
    scene.listen(queue=None)
    box, policy = scene.hosts.first, ("dst", f"{scene.server_ip}/32", "dir", "in")
    box.run("ip", "xfrm", "policy", "add", *policy, "action", "block")
    scene.callback(box.run, "ip", "xfrm", "policy", "delete", *policy)
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(**SILENCE, **SUSPECTED, server=dropped_or(PERHAPS, "no_reply", "syn", "TCP_MINTTL", "tcp_v4_rcv"))
def a_listener_for_neighbours_only(scene: Scenery) -> int:
    """IP_MINTTL, as BGP uses it: the client is behind a router."""
    scene.listen(queue=None).setsockopt(socket.IPPROTO_IP, IP_MINTTL, 64)
    with scene.counting(scene.hosts.first, "TCPMinTTLDrop"):
        return scene.try_to(errno.ETIMEDOUT)


# --- what never reaches a wire ---

UNSEEN = {"near": None, "far": None, "server": None}
LIKELY = here("host_dropped", "likely")
PERHAPS_GONE = [here("host_dropped", confidence) for confidence in KEPT_BACK]


@SCENES.scene(client=dropped("no_reply", "syn", "NETFILTER_DROP", FILTERED_AT, LIKELY), **UNSEEN)
def the_clients_own_filter(scene: Scenery) -> int:
    """Certain only while its socket tries, and says that it has sent no other SYN (tests/netns/test_unsent.py)."""
    scene.drop(scene.hosts.client, "output", f"{scene.to_server} {BARE_SYN}")
    return scene.try_to(errno.ETIMEDOUT)


def by_a_neighbour(drop: Mapping[str, object]) -> bool:
    named = drop["segment"], drop["reason"], drop["netns"]
    return named == ("syn", "NEIGH_FAILED", None) and drop["at"] in UNANSWERED_AT


@SCENES.scene(client=seen("no_reply", DROPPED, *PERHAPS_GONE, drop=by_a_neighbour), **UNSEEN)
def a_neighbour_that_does_not_answer(scene: Scenery) -> int:
    scene.server_ip = "10.98.0.77"
    port = scene.try_to(errno.EHOSTUNREACH, retries=6)
    assert any(scene.kernel_freed("NEIGH_FAILED", place) for place in UNANSWERED_AT)
    return port


@SCENES.scene_by_ipv6(client=seen("no_reply", NOTHING, *PERHAPS_GONE, hook="kernel", interface=None), **UNSEEN)
def a_neighbour_that_does_not_answer_by_ipv6(scene: Scenery) -> int:
    """Linux 6.18 gives no reason there."""
    scene.server_ip = "fd00:98::77"
    return scene.try_to(errno.EHOSTUNREACH, retries=6)


# --- SYN-ACK and ACK ---


@SCENES.scene(**SILENCE, server=dropped("no_reply", "synack", "NETFILTER_DROP", FILTERED_AT))
def a_filter_before_the_answer_leaves(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.first, "output", f"{scene.to_client} {SYN_ACK}")
    return scene.try_to(errno.ETIMEDOUT)


# the server has seen the SYN again after its answer: what was lost is the answer
LOST_ANSWER = away("synack_lost", "likely", "path")


@SCENES.scene(
    client=dropped("half_open", "synack", "NETFILTER_DROP", FILTERED_AT), server=seen("half_open", LOST_ANSWER),
    **at(("near", "far"), seen("half_open", UNFINISHED, LOST_ANSWER)),
)  # fmt: skip
def the_clients_filter_before_the_answer(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.client, "input", f"{scene.to_client} {SYN_ACK}")
    return scene.try_to(errno.ETIMEDOUT)


@SCENES.scene(
    client=dropped("half_open", "ack", "NETFILTER_DROP", FILTERED_AT),
    **at(("near", "far", "server"), seen("half_open", UNFINISHED)),
)
def the_clients_filter_before_the_ack(scene: Scenery) -> int:
    scene.listen(queue=None)
    scene.drop(scene.hosts.client, "output", f"{scene.to_server} {BARE_ACK}")
    return port_of(scene.connect())


DEFERRED = away("accept_deferred", "possible", "server")


@SCENES.scene(
    **at(BEFORE, seen("established", DEFERRED, after="synack_again")),
    server=dropped("established", "ack", "NETFILTER_DROP", FILTERED_AT),
)
def a_filter_before_the_ack(scene: Scenery) -> int:
    """The client sends nothing: it waits for the server to speak first."""
    scene.listen(queue=None)
    scene.drop(scene.hosts.first, "input", f"{scene.to_server} {BARE_ACK}")
    return port_of(scene.connect())


# --- false friends: somebody dropped something, and that was not the reason ---


@SCENES.scene(**at(BEFORE, seen("established", SOMETHING_LOST)), server=ORDINARY)
def a_filter_that_drops_the_first_syn_only(scene: Scenery) -> int:
    """One SYN got through, so no host drops those."""
    listener = scene.listen(queue=None)
    drop_first(scene, BARE_SYN)
    return scene.serve_one(listener)


def drop_first(scene: Scenery, match: str) -> None:
    """The server's host drops the first such packet."""
    first = f"{scene.to_server} {match} add @ports {{ tcp sport }} drop"
    known = f"{scene.to_server} {match} tcp sport @ports accept"
    scene.enter_context(scene.rules(scene.hosts.first, "input", known, first))


@SCENES.scene(**at((*BEFORE, "server"), ORDINARY))
def a_filter_that_drops_the_bare_ack_before_the_request(scene: Scenery) -> int:
    """The request acks as well."""
    listener = scene.listen(queue=None)
    scene.drop(scene.hosts.first, "input", f"{scene.to_server} {BARE_ACK} ct state established meta length < 60")
    return scene.serve_one(listener)


@SCENES.scene(**at((*BEFORE, "server"), ORDINARY))
def a_filter_that_drops_after_the_answer(scene: Scenery) -> int:
    """As a rule that is loaded meanwhile."""
    listener = scene.listen(queue=None)
    client = scene.connect()
    scene.finish(listener, client)
    port = port_of(client)
    scene.wait_told("server", port)
    scene.drop(scene.hosts.first, "input", scene.to_server)
    client.sendall(b"more")
    nothing_for(0.3, client)
    return port


@SCENES.scene(**at((*BEFORE, "server"), ORDINARY))
def sockets_that_listen_in_but_take_nothing(scene: Scenery) -> int:
    """Copies for a raw socket are dropped by its filter."""
    listener = scene.listen(queue=None)
    with scene.hosts.first.inside():
        raw = scene.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    attach(raw, DROP_ALL)
    port = scene.serve_one(listener)
    places = ("raw_rcv", "raw_rcv_skb")  # which may be one by inlining
    wait_until(lambda: any(scene.kernel_freed("SOCKET_FILTER", place) for place in places), "a copy that was dropped")
    return port


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with watched("server") as made:
        first = made.hosts.first
        first.run("ip", "route", "add", f"{SPOOFED}/32", "dev", "lo")
        first.run("sysctl", "-qw", f"net.ipv4.conf.{WIRE}.rp_filter=1")
        yield play(SCENES, made)


@pytest.mark.parametrize("scene", SCENES, ids=[one.name for one in SCENES])
def test_who_dropped(played: Played, scene: Scene) -> None:
    played.check(scene)
