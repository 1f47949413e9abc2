"""Situations that resemble a host that drops SYNs, cause host_dropped: none may be told as what it is not.

Only the server's own host can say it, where a socket witnesses that the SYN was for it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.hosts import REQUEST
from tests.support.patience import PATIENCE_S
from tests.support.play import Play, moving, of_client, of_syn
from tests.support.stage import BARE_SYN, PORT, SYN_ACK, SYN_OPTIONS, wait_for_queue
from tests.support.world import NO_FATE, NONE, cause_of, fate_of
from tracer.lab.packet import Flag
from tracer.lab.stage import isn

pytestmark = [pytest.mark.root, pytest.mark.slow]

SYN, ACK = Flag.SYN, Flag.ACK
Fate = tuple[str | None, str | None, str | None]
DROPPED = ("host_dropped", "possible", "this_host")
UNANSWERED = {"filtered_or_down", "packet_loss", "no_answer_beyond"}  # what the others see


def gone(client: socket.socket) -> int:
    """The port of a client that gives up before it sends its SYN again."""
    port: int = client.getsockname()[1]
    client.close()
    return port


def unanswered(play: Play) -> int:
    """The port of a client whose SYN the server's firewall drops."""
    play.drop(play.hosts.first, "input", f"{play.to_server} {BARE_SYN}")
    return gone(play.begin())


def a_listener(play: Play) -> int:
    """This is the cause itself."""
    play.listen()
    return unanswered(play)


def no_listener(play: Play) -> int:
    return unanswered(play)


def a_listener_at_another_port(play: Play) -> int:
    play.listen_at(PORT + 1)
    return unanswered(play)


def listening(play: Play, address: str, device: str = "") -> socket.socket:
    with play.hosts.first.inside():
        made = play.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    if ":" in address:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    made.bind((address, PORT))
    made.listen()
    return made


def a_listener_of_ipv6_alone(play: Play) -> int:
    listening(play, "::")
    return unanswered(play)


def a_listener_of_another_device(play: Play) -> int:
    listening(play, play.server_ip, "lo")
    return unanswered(play)


def a_listener_that_has_closed(play: Play) -> int:
    """Nothing is left that could witness."""
    listener = play.listen()
    port = unanswered(play)
    listener.close()
    return port


def a_listener_in_another_namespace(play: Play) -> int:
    """A socket of the next server, that listens at the same address."""
    play.listen(box=play.hosts.second)
    return unanswered(play)


UNHEARD = (
    no_listener, a_listener_at_another_port, a_listener_of_ipv6_alone, a_listener_of_another_device,
    a_listener_that_has_closed, a_listener_in_another_namespace,
)  # fmt: skip


def fates(plays: dict[str, tuple[Play, int]]) -> dict[str, list[Fate]]:
    """What client, router and server say of SYNs that nobody answered."""
    seen = {name: play.seen(port) for name, (play, port) in plays.items()}
    assert {one.handshake.result for all_of_it in seen.values() for one in all_of_it} == {"no_reply"}
    return {name: [*map(fate_of, all_of_it)] for name, all_of_it in seen.items()}


def test_syns_that_nobody_heard(another: Callable[[], Play]) -> None:
    """All are dropped by a firewall, but only one was for a socket that listens."""
    told = {}
    for happens in (a_listener, *UNHEARD):
        play = another()
        told[happens.__name__] = play, happens(play)
    found = fates(told)
    itself = found.pop("a_listener")
    for name, (client, router, server) in found.items():
        assert server == NO_FATE, name
        assert {client[0], router[0]} <= UNANSWERED | {None}, name
    deadline = time.monotonic() + PATIENCE_S
    while itself[2] == NO_FATE and time.monotonic() < deadline:  # a busy machine does not always tell who listens
        play = another()
        itself = fates({"again": (play, a_listener(play))})["again"]
    assert itself[2] == DROPPED
    assert {one[0] for one in itself[:2]} <= UNANSWERED


@pytest.mark.parametrize("verdict", ["reject with icmp type admin-prohibited", "reject with tcp reset"])
def test_a_firewall_that_refuses(play: Play, verdict: str) -> None:
    play.listen()
    play.enter_context(play.rules(play.hosts.first, "input", f"{play.to_server} {BARE_SYN} {verdict}"))
    client = play.begin()
    client.setblocking(True)
    with pytest.raises(OSError):
        client.send(REQUEST)
    seen = play.seen(client.getsockname()[1])
    assert {one.handshake.result for one in seen} == {"rejected" if "reset" in verdict else "unreachable"}
    # without the kernel's word the server's host says nothing of itself
    afar = ("refused", "possible", None) if "reset" in verdict else ("firewall_rejected", "likely", None)
    assert [*map(fate_of, seen)] == [afar, afar, NO_FATE]


def test_a_full_accept_queue(play: Play) -> None:
    """The kernel drops the SYN, and counts it: a queue, and no firewall."""
    listener = play.listen(backlog=0)
    play.connect()
    wait_for_queue(listener, 1)
    with moving(play.hosts.first, ListenOverflows=1, ListenDrops=1):
        tap = play.tap(play.hosts.first)
        client = play.begin()
        tap.next(SYN, without=ACK, match=lambda one: one.source_port == client.getsockname()[1])
        port = gone(client)
    seen = play.seen(port)
    assert {one.handshake.result for one in seen} == {"no_reply"}
    # a busy machine may look too late to say it; tests/netns/test_queues.py plays it until it does
    assert fate_of(seen.server) in (NO_FATE, ("accept_queue_full", "certain", "this_host"))
    assert {seen.client.handshake.cause, seen.router.handshake.cause} <= UNANSWERED


def test_a_synack_that_the_client_drops(play: Play) -> None:
    """The server's host did answer, whatever became of that; the client's does not serve."""
    play.listen(synack_retries=1)
    play.drop(play.hosts.client, "input", f"{play.to_client} {SYN_ACK}")
    tap = play.tap(play.hosts.client)
    client = play.begin()
    tap.next(SYN | ACK)
    seen = play.seen(gone(client))
    assert {one.handshake.result for one in seen} <= {"half_open", "aborted"}
    assert {*map(fate_of, seen)} <= {NO_FATE, ("ack_missing", "possible", None)}


@contextmanager
def one_way(play: Play) -> Iterator[str]:
    """A client's address to which the server's host answers by a link of its own, that nobody traces."""
    hosts, source = play.hosts, "10.98.3.9"
    hosts.router.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "other", "netns", hosts.first.name)
    try:
        for box, last in ((hosts.router, 1), (hosts.first, 2)):
            box.run("ip", "link", "set", "other", "up")
            box.run("ip", "address", "add", f"10.98.60.{last}/24", "dev", "other")
        hosts.first.run("ip", "route", "add", f"{source}/32", "via", "10.98.60.1")
        yield source
    finally:
        hosts.router.run("ip", "link", "del", "other")


def test_answers_that_leave_by_another_interface(play: Play) -> None:
    """One client takes them; of another one, which does not, the SYN is all that is seen at the server."""
    listener = play.listen()
    with one_way(play) as source:
        tap = play.tap(play.hosts.client)
        with play.rules(play.hosts.client, "input", f"{play.to_client} {SYN_ACK} drop"):
            waits = play.hosts.connect(listener, source=source, wait=False)
            tap.next(SYN | ACK)
            unheard = gone(waits)
        heard = play.hosts.exchange_plainly(listener, source)
        told = [of_client(play.world.server, source, port) for port in (unheard, heard)]
    assert (told[0].handshake.result, [one.synack for one in told]) == ("no_reply", [None, None])
    assert [(cause_of(one), fate_of(one)) for one in told] == [(NONE, NO_FATE)] * 2


def test_a_port_still_in_use_of_which_the_kernel_says_so_once(play: Play) -> None:
    """To one connection Linux sends a challenge ACK every half second at most; the second SYN gets none."""
    listener = play.listen()
    client = play.connect()
    play.finish(listener, client)
    port = play.vanish(client)
    play.seen(port)
    play.drop(play.hosts.client, "output", f"{play.to_server} tcp flags & rst == rst")
    end = play.raw_port(port)
    with moving(play.hosts.first, TCPACKSkippedChallenge=1, ListenDrops=0):
        numbers = [end.send(PORT, SYN, isn(), options=SYN_OPTIONS).seq for _ in range(2)]
        end.receive(ACK)
    first, second = (of_syn(play.world.server, number) for number in numbers)
    assert (first.handshake.result, first.handshake.challenge_acks) == ("syn_on_established", 1)
    assert fate_of(first)[0] == "port_still_in_use"
    assert fate_of(second)[0] != "host_dropped"
