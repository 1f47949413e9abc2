"""Each cause of TFO.md section 4 between real kernels, traced at the client, at the router and at the server at once.

The kernels' own counters show whether the cause was really there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from tests.support.hosts import tcp_counters
from tests.support.netbox import wait_until
from tests.support.patience import PATIENCE_S
from tests.support.routed import TO_FIRST
from tests.support.world import NO_FATE, NONE, World, cause_of, fate_of, fitting, watched
from tracer.lab.sockets import DROP_UNLESS_SYN, attach, detach
from tracer.vocabulary.causes import CAUSES
from tracer.vocabulary.in_words import in_words

pytestmark = [pytest.mark.root, pytest.mark.slow]

OVERFLOW = ("queue_overflow", "likely")
SYN_WITH_DATA = "meta length > 100 tcp flags & (syn|ack) == syn"
_keys = count(1)


@pytest.fixture(scope="module")
def hosts_and_runs() -> Iterator[World]:
    with watched() as world:
        yield world


@pytest.fixture
def world(hosts_and_runs: World) -> Iterator[World]:
    with ExitStack() as opened:
        hosts_and_runs.opened = opened
        yield hosts_and_runs


def test_ordinary_traffic_has_no_cause(world: World) -> None:
    listener = world.listen()
    ports = [world.hosts.exchange_plainly(listener) for _ in range(20)]
    ports += [world.hosts.exchange(listener) for _ in range(20)]
    for port in ports:
        assert world.causes(listener, port) == (NONE, NONE, NONE)
    for run in (world.client, world.router, world.server):
        assert {one.tfo.outcome for one in run.handshakes if one.server.ip == listener.getsockname()[0]} == {
            "not_attempted", "cookie_granted", "data_acked"
        }  # fmt: skip


@pytest.mark.parametrize("version", [4, 6])
def test_a_listener_without_fast_open(world: World, version: int) -> None:
    listener = world.listen(queue=None, version=version)
    elsewhere = ("not_supported", "possible")
    before = world.come_to(listener, (elsewhere, elsewhere, ("listener_disabled", "likely")))
    assert before <= {("listener_disabled", "possible")}


@pytest.mark.parametrize("version", [4, 6])
def test_a_server_with_fast_open_off(world: World, version: int) -> None:
    with world.hosts.sysctl(world.hosts.first, tcp_fastopen="1"):
        listener = world.listen(version=version)
        elsewhere = ("not_supported", "possible")
        before = world.come_to(listener, (elsewhere, elsewhere, ("server_disabled", "certain")))
    assert before <= {("server_disabled", "likely")}


def test_a_queue_of_one_with_a_flood(world: World) -> None:
    listener = world.listen(queue=1)
    world.hosts.exchange(listener)
    attach(listener, DROP_UNLESS_SYN)
    before = tcp_counters(world.hosts.first)["TCPFastOpenListenOverflow"]
    first = world.opened.enter_context(world.hosts.open(listener))
    child, _ = listener.accept()  # has inherited the filter, so it stays in the queue
    with child:
        detach(listener)
        deadline, floods = time.monotonic() + PATIENCE_S, 0
        while True:
            ports = [world.hosts.exchange(listener) for _ in range(8)]
            seen, floods = [world.causes(listener, port) for port in ports], floods + 1
            # that it has worked is known at the client; why it does not now, only the server's host knows
            at_server = [(NONE, NONE, OVERFLOW), (NONE, NONE, ("queue_overflow", "possible")), (NONE, NONE, NONE)]
            assert all(one in at_server for one in seen)
            if set(seen) == {at_server[0]}:
                break
            assert time.monotonic() < deadline, "it could not look at the listener in time"
        first.close()
    assert tcp_counters(world.hosts.first)["TCPFastOpenListenOverflow"] - before == 8 * floods


def test_syn_cookies_that_are_always_sent(world: World) -> None:
    listener = world.listen()
    world.hosts.exchange(listener)
    with world.hosts.sysctl(world.hosts.first, tcp_syncookies="2"):
        before = world.come_to(listener, (NONE, NONE, ("syn_cookies", "certain")))
    assert before <= {("syn_cookies", "likely"), ("syn_cookies", "possible")}


def test_syn_cookies_of_a_full_queue(world: World) -> None:
    listener = world.listen(backlog=1)
    address, port = listener.getsockname()
    world.hosts.exchange(listener)
    before = tcp_counters(world.hosts.first)
    synacks = f"ip saddr {address} tcp sport {port}"
    with ExitStack() as rules:
        # these never acknowledge the SYN-ACK, so they stay in the queue
        with world.hosts.rule(world.hosts.client, "input", f"{synacks} drop"):
            waiting = [world.opened.enter_context(world.hosts.connect(listener, wait=False)) for _ in range(3)]
            wait_until(
                lambda: tcp_counters(world.hosts.first)["SyncookiesSent"] > before["SyncookiesSent"], "SYN cookies"
            )
            # nor, with a reset, one that is sent again a second later
            ports = ", ".join(str(one.getsockname()[1]) for one in waiting)
            again = f"{synacks} tcp dport {{ {ports} }}"
            rules.enter_context(world.hosts.rule(world.hosts.client, "input", f"{again} drop"))
            for one in waiting:
                one.close()
        seen = world.causes(listener, world.hosts.exchange(listener))
    after = tcp_counters(world.hosts.first)
    assert after["TCPReqQFullDoCookies"] > before["TCPReqQFullDoCookies"]
    assert after["TCPFastOpenListenOverflow"] == before["TCPFastOpenListenOverflow"]
    assert seen == (NONE, NONE, ("syn_cookies", "likely"))


def new_key() -> str:
    return "-".join(f"{0x10203040 + next(_keys):08x}" for _ in range(4))


def test_a_key_rotated_without_a_backup(world: World) -> None:
    listener = world.listen()
    for _ in range(2):  # seen, for the server's host is asked about the second, and reads the key that is to go
        assert world.causes(listener, world.hosts.exchange(listener)) == (NONE,) * 3
    before = tcp_counters(world.hosts.first)["TCPFastOpenPassiveFail"]
    world.hosts.first.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen_key={new_key()}")
    stale = world.causes(listener, world.hosts.exchange(listener))
    assert tcp_counters(world.hosts.first)["TCPFastOpenPassiveFail"] == before + 1
    # the server's own keys are the witness
    assert stale == (("cookie_stale", "likely"), ("cookie_stale", "likely"), ("cookie_stale", "certain"))
    assert world.causes(listener, world.hosts.exchange(listener)) == (NONE,) * 3


def test_a_key_rotated_with_a_backup(world: World) -> None:
    listener = world.listen()
    old = new_key()
    world.hosts.first.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen_key={old}")
    for _ in range(2):
        world.hosts.exchange(listener)
    before = tcp_counters(world.hosts.first)["TCPFastOpenPassiveAltKey"]
    world.hosts.first.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen_key={new_key()},{old}")
    rotation = world.causes(listener, world.hosts.exchange(listener))
    assert tcp_counters(world.hosts.first)["TCPFastOpenPassiveAltKey"] == before + 1
    likely = ("key_rotation", "likely")
    assert rotation == (likely, likely, ("key_rotation", "certain"))
    assert world.causes(listener, world.hosts.exchange(listener)) == (NONE,) * 3


def test_two_servers_behind_one_address_with_keys_of_their_own(world: World) -> None:
    elsewhere = world.listen()
    for _ in range(2):  # it takes a cookie, which shows that the client's address stays
        world.hosts.exchange(elsewhere)
    listener = world.listen()
    address, port = listener.getsockname()
    second = world.opened.enter_context(world.hosts.listen(world.hosts.second, address, port))
    world.hosts.exchange(listener)
    seen = []
    for server, at in ((world.hosts.second, second), (world.hosts.first, listener)) * 2:
        world.hosts.send_to(server, address)
        client_port = world.hosts.exchange(at)
        record = world.client.wait_handshake(fitting(listener, client_port))
        assert record.tfo.outcome == "data_not_acked_new_cookie"
        seen.append(cause_of(record))
    # the first refusal could as well be a rotation; from the second on it is another cookie each time
    assert seen == [("cookie_stale", "possible"), *[("key_not_shared", "likely")] * 3]
    # at one of the servers it only shows that the cookie is not its own
    last = world.seen(listener, client_port)[2]
    assert (last.tfo.cookie_check, last.tfo.cause) == ("invalid", "cookie_stale")


def test_a_path_that_drops_syns_with_data(world: World) -> None:
    listener = world.listen()
    world.hosts.exchange(listener)
    address = listener.getsockname()[0]
    with world.hosts.rule(world.hosts.router, "forward", f"ip daddr {address} {SYN_WITH_DATA} drop"):
        seen = [world.causes(listener, world.hosts.exchange(listener)) for _ in range(3)]
    loss, path = ("packet_loss", "possible"), ("path_drops_syn_data", "likely")
    # the server never saw the first SYN, but an ordinary one
    assert seen == [(loss, loss, NONE), (path, path, NONE), (path, path, NONE)]
    world.hosts.exchange(listener)


def test_a_host_that_drops_the_syn(world: World) -> None:
    listener = world.listen()
    world.hosts.exchange(listener)
    address = listener.getsockname()[0]
    dropped = ("host_dropped", "possible", "this_host")
    with world.hosts.rule(world.hosts.first, "input", f"ip daddr {address} {SYN_WITH_DATA} drop"):
        seen = world.seen(listener, world.hosts.exchange(listener))
    # the server's own host knows that no path has lost it
    assert [*map(cause_of, seen)] == [("packet_loss", "possible"), ("packet_loss", "possible"), NONE]
    lost = ("syn_or_synack_lost", "possible", None)
    assert [*map(fate_of, seen)] == [lost, lost, NO_FATE], "the host has answered, if a later SYN"
    with world.hosts.rule(world.hosts.first, "input", f"ip daddr {address} tcp flags & (syn|ack) == syn drop"):
        client = world.opened.enter_context(world.hosts.connect(listener, wait=False))
        port = client.getsockname()[1]
        # the client gives up before it would send its SYN again
        client.close()
        at_client, _, at_server = world.seen(listener, port)
    assert (at_server.handshake.result, fate_of(at_server)) == ("no_reply", dropped)
    others_are_answered = ("packet_loss", "possible", None)
    assert (cause_of(at_server), cause_of(at_client), fate_of(at_client)) == (NONE, NONE, others_are_answered)


def test_an_option_that_is_stripped_on_the_way(world: World) -> None:
    listener = world.listen()
    address = listener.getsockname()[0]
    strip = f"ip daddr {address} tcp flags & (syn|ack) == syn reset tcp option 34"
    with world.hosts.rule(world.hosts.router, "forward", strip):
        port = world.hosts.exchange(listener)
        at_client, near, at_server = world.seen(listener, port)
    far = world.router.wait_handshake(lambda one: one.id == near.id and one.interface == TO_FIRST)
    assert (at_client.tfo.outcome, at_server.tfo.outcome) == ("cookie_not_granted", "not_attempted")
    assert at_client.id == near.id == far.id == at_server.id
    stripped = ("option_stripped", "certain")
    # who sees one end only cannot know
    assert (cause_of(at_client), cause_of(at_server)) == (("not_supported", "possible"), NONE)
    # of the router's two records the one that is settled last has the other to be held against
    assert stripped in (cause_of(near), cause_of(far))
    assert {cause_of(near), cause_of(far)} <= {stripped, NONE, ("not_supported", "possible")}


def test_data_without_a_cookie_where_one_is_required(world: World) -> None:
    listener = world.listen()
    possible = ("cookie_required", "possible")
    before = world.come_to(listener, (possible, possible, ("cookie_required", "likely")), no_cookie=True)
    assert before <= {possible}
    world.hosts.exchange(listener)  # grants: so it does Fast Open, with cookies
    likely = ("cookie_required", "likely")
    assert world.come_to(listener, (likely, likely, ("cookie_required", "certain")), no_cookie=True) <= {likely}


def test_a_server_that_wants_no_cookies(world: World) -> None:
    with world.hosts.sysctl(world.hosts.first, tcp_fastopen="515"):  # 0x203
        listener = world.listen()
        asked_first = world.causes(listener, world.hosts.exchange(listener))
        taken = world.causes(listener, world.hosts.exchange(listener, no_cookie=True))
        unsupported, likely = ("not_supported", "possible"), ("cookie_not_required", "likely")
        before = world.come_to(listener, (likely, likely, ("cookie_not_required", "certain")))
    assert asked_first[:2] == (unsupported, unsupported)
    # the sysctl has just changed
    assert asked_first[2] in {likely, ("cookie_not_required", "possible"), NONE}
    assert taken == (NONE,) * 3
    assert before <= {likely}


def test_a_cookie_without_its_data(world: World) -> None:
    listener = world.listen()
    for _ in range(4):
        world.hosts.exchange(listener)
    client = world.hosts.open(listener, b"")
    client.sendall(b"late")
    seen = world.causes(listener, world.hosts.serve(listener, client, b"late"))
    possible = ("payload_stripped", "possible")
    # the client's host has seen that there was none
    assert seen == (NONE, possible, possible)


def test_the_run_says_the_causes_at_its_end(hosts_and_runs: World) -> None:
    run = hosts_and_runs.server
    handshakes = run.handshakes
    assert run.stop() == 0
    causes = run.end.totals.causes
    assert causes == {name: sum(one.tfo.cause == name for one in run.handshakes) for name in CAUSES if name in causes}
    assert len(handshakes) <= run.end.totals.handshakes
    most = max(causes, key=lambda name: causes[name])
    words = in_words(most)
    assert any(re.search(rf"Fast Open in {causes[most]} handshakes?: {words}( \(\w+\))?\. ", line) for line in run.said)
