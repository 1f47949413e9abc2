"""Queueing disciplines that drop what they cannot hold, behind the programs that have seen it leave.

The kernel's trace of skb:kfree_skb is the judge: it names the same reason at the same place.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.kernel_reasons import has_reason
from tests.support.netbox import NetBox
from tests.support.routed import TO_CLIENT, TO_FIRST, WIRE
from tests.support.tracing import Run, tracing
from tests.support.word_world import World, is_not_certain
from tracer.records.drop import Drop
from tracer.records.record import Handshake

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not has_reason("QDISC_DROP"), reason="this kernel does not say that a queue dropped it"),
]

TINY = "tbf", "rate", "8bit", "burst", "10", "limit", "10"  # no packet fits
CAUGHT = Drop("syn", "QDISC_DROP", "__dev_queue_xmit", None)


@pytest.fixture(scope="module")
def router(hosts_and_runs: World) -> Iterator[Run]:
    """Both sides of the router."""
    world = hosts_and_runs
    with tracing(TO_CLIENT, TO_FIRST, "--json", "--netns", world.hosts.router.name) as run:
        while True:  # until it knows the names of places
            address = world.address()
            with ExitStack() as world.opened:
                world.rule(world.hosts.router, "forward", f"ip daddr {address} drop")
                world.connect(address)
                drop = at_interface(run, address, TO_CLIENT).handshake.drop
            if drop is not None and drop.at is not None:
                break
        yield run


@contextmanager
def full(box: NetBox, interface: str) -> Iterator[None]:
    """Meanwhile nothing leaves by this interface."""
    box.run("tc", "qdisc", "add", "dev", interface, "root", *TINY)
    try:
        yield
    finally:
        box.run("tc", "qdisc", "del", "dev", interface, "root")


def cause(record: Handshake) -> tuple[str | None, str | None, str | None]:
    return record.handshake.cause, record.handshake.cause_confidence, record.handshake.cause_at


def at_interface(run: Run, address: str, interface: str) -> Handshake:
    return run.wait_handshake(lambda one: (one.server.ip, one.interface) == (address, interface))


def test_a_queue_at_the_client(world: World) -> None:
    address = world.address()
    world.listen(address)
    with full(world.hosts.client, WIRE):
        world.connect(address)
    record = world.seen(world.client, address)
    assert (record.handshake.result, record.handshake.drop) == ("no_reply", CAUGHT)
    assert cause(record) == ("host_dropped", "certain", "this_host")
    assert world.agrees("QDISC_DROP", "__dev_queue_xmit", record)
    for run in (world.router, world.server):
        assert not [one for one in run.handshakes if one.server.ip == address]


def test_a_queue_at_the_router(world: World, router: Run) -> None:
    """It was seen to leave by the second interface, and did not; nobody beyond is to blame."""
    address = world.address()
    world.listen(address)
    with full(world.hosts.router, TO_FIRST):
        world.connect(address)
    near, far = (at_interface(router, address, one) for one in (TO_CLIENT, TO_FIRST))
    assert near.handshake.drop == far.handshake.drop == CAUGHT
    assert cause(near) == ("not_forwarded", "certain", "this_host")
    assert cause(far) == ("host_dropped", "certain", "this_host")
    assert world.agrees("QDISC_DROP", "__dev_queue_xmit", far)
    assert is_not_certain(world.seen(world.client, address))
    assert not [one for one in world.server.handshakes if one.server.ip == address]


def test_a_queue_that_lets_one_syn_pass_is_not_the_cause(world: World) -> None:
    """The server's host drops that one."""
    address = world.address()
    world.listen(address)
    world.rule(world.hosts.first, "input", f"ip daddr {address} drop")
    with full(world.hosts.client, WIRE):
        world.connect(address, stay=True, syns=2)
        time.sleep(0.3)  # the second one comes after half a second at the earliest
    record = world.seen(world.client, address)
    assert record.handshake.syn_count == 2
    assert record.handshake.drop is not None
    assert is_not_certain(record)


def test_a_copy_that_a_queue_drops_is_not_the_segment(world: World, router: Run) -> None:
    """The router mirrors what comes from the client to an interface whose queue is full."""
    address, box = world.address(), world.hosts.router
    world.rule(world.hosts.first, "input", f"ip daddr {address} drop")
    box.make_pair("mirror", "watcher")
    world.opened.callback(box.run, "ip", "link", "del", "mirror")
    hook = f'type filter hook ingress device "{TO_CLIENT}" priority 0'
    box.run("nft", f'table netdev copies {{ chain c {{ {hook}; dup to "mirror"; }}; }}')
    world.opened.callback(box.run, "nft", "delete", "table", "netdev", "copies")
    with full(box, "mirror"):
        world.connect(address)
        near, far = (at_interface(router, address, one) for one in (TO_CLIENT, TO_FIRST))
    assert world.judge.knows("QDISC_DROP", "__dev_queue_xmit")
    for record in (near, far):
        assert cause(record) == ("no_answer_beyond", "likely", None)
