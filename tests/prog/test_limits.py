"""Full tables and rings: what is evicted, and that each loss is counted where it happens (DESIGN.md section 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.decoder import SYN
from tests.support.packets import Flow
from tests.support.sentences import (
    ESTABLISHED,
    HALF_OPEN,
    NO_REPLY,
    REJECTED,
    C,
    Packet,
    at,
    from_client,
    rst,
    syn,
    synack,
)
from tests.support.testrun import BALANCE, WAYS, Programs, Road, imbalance

UNANSWERED_PER_SECOND = 10_000


def client(number: int) -> Flow:
    """One of many connections."""
    return replace(C, sport=1000 + number)


def send(programs: Programs, *packets: Packet) -> None:
    """Packets at their times."""
    for packet in packets:
        programs.run(Road.TC_INGRESS, packet.frame, at_ns=at(packet.at))


def moved(programs: Programs, before: dict[str, int]) -> dict[str, int]:
    """The terms of the balance sheet that changed, but for `emitted`."""
    after = programs.counters()
    return {name: after[name] - before[name] for name in BALANCE[1:] if after[name] != before[name]}


def fill(programs: Programs) -> None:
    """Two of each kind in the only set: tombstone, unanswered, half open, established."""
    for number, ms in ((0, 4), (1, 5)):
        send(programs, syn(ms, flow=client(number)), rst(ms, flow=client(number)))
    for number, ms in ((2, 6), (3, 7)):
        send(programs, syn(ms, flow=client(number)))
    for number, ms in ((4, 8), (5, 9)):
        send(programs, syn(ms, flow=client(number)), synack(ms, flow=client(number)))
    for number, ms in ((6, 10), (7, 11)):
        flow = client(number)
        send(programs, syn(ms, flow=flow), synack(ms, flow=flow), from_client(ms, flow=flow))
    assert [int(p["state"]) for p in programs.flow_set(0)["way"]] == [4, 4, 1, 1, 2, 2, 3, 3]


def live_clients(programs: Programs) -> set[int]:
    """Numbers of the clients that a flush still finds open."""
    programs.events()
    programs.sweep(now_ns=at(100), flush=True)
    return {int(port) - 1000 for port in programs.events()["client_port"]}


@pytest.mark.parametrize(
    ("newcomers", "gone", "counted"),
    [
        (1, set(), {}),
        (2, set(), {}),
        (3, {2}, {"evicted_unanswered": 1}),
        (4, {2, 3}, {"evicted_unanswered": 2}),
    ],
)
def test_tombstones_go_first_then_the_oldest_unanswered(
    small: Programs, newcomers: int, gone: set[int], counted: dict[str, int]
) -> None:
    """The first two newcomers get the ways of the tombstones, so that what is oldest is not what comes first."""
    before = small.counters()
    fill(small)
    for number in range(newcomers):
        send(small, syn(20 + number, flow=client(100 + number)))
    assert moved(small, before) == counted
    live = small.sweep(now_ns=at(30))
    assert imbalance(before, small.counters(), live) == 0
    assert live_clients(small) == {2, 3, 4, 5, 6, 7, *range(100, 100 + newcomers)} - gone
    assert imbalance(before, small.counters(), 0) == 0


def as_unanswered(flow: Flow) -> tuple[Packet, ...]:
    return (syn(20, flow=flow),)


def as_half_open(flow: Flow) -> tuple[Packet, ...]:
    return syn(20, flow=flow), synack(20, flow=flow)


def as_established(flow: Flow) -> tuple[Packet, ...]:
    return syn(20, flow=flow), synack(20, flow=flow), from_client(20, flow=flow)


def as_forged(flow: Flow) -> tuple[Packet, ...]:
    """An ACK for a SYN-ACK that nobody sent: its entry is established, and counts as unanswered."""
    return syn(20, flow=flow), from_client(20, flow=flow)


@pytest.mark.parametrize(
    ("newcomer", "own", "counter"),
    [
        (as_unanswered, {2, 3}, "evicted_unanswered"),
        (as_half_open, {4, 5}, "evicted_half_open"),
        (as_established, {6, 7}, "evicted_awaiting_response"),
        (as_forged, {2, 3}, "evicted_unanswered"),
    ],
    ids=["unanswered", "half open", "established", "forged"],
)
def test_newcomers_of_one_kind_leave_the_others_their_share(
    small: Programs, newcomer: Callable[[Flow], tuple[Packet, ...]], own: set[int], counter: str
) -> None:
    """However many there are, they push out the oldest of their own kind, then each other."""
    before = small.counters()
    fill(small)
    for number in range(20):
        send(small, *newcomer(client(100 + number)))
        evicted = max(0, number - 1)  # the first two get the ways of the tombstones
        assert moved(small, before) == ({counter: evicted} if evicted else {})
    assert imbalance(before, small.counters(), WAYS) == 0
    assert live_clients(small) == {2, 3, 4, 5, 6, 7, 116, 117, 118, 119} - own
    assert imbalance(before, small.counters(), 0) == 0


def test_tags_follow_the_entries(small: Programs) -> None:
    """A tag of 0 says that its way is free, and the other way round."""
    fill(small)
    for ms in (50, 3009, 3010, 3011, 4000, 100_000):
        small.sweep(now_ns=at(ms))
        tags = small.tags(0).to_bytes(8, "little")
        states = [int(p["state"]) for p in small.flow_set(0)["way"]]
        assert [bool(tag) for tag in tags] == [bool(state) for state in states]
    assert states == [0] * WAYS


def test_full_event_ring_is_counted(small: Programs) -> None:
    before = small.counters()
    total = 40
    for number in range(total):
        send(small, syn(number, flow=client(number)), rst(number, flow=client(number)))
    events = small.events()
    assert moved(small, before) == {"lost": total - len(events)}
    assert 0 < len(events) < total
    assert imbalance(before, small.counters(), 0) == 0
    assert set(events["result"].tolist()) == {REJECTED}
    send(small, syn(100, flow=client(total)), rst(100, flow=client(total)))
    assert len(small.events()) == 1


def test_a_flood_of_unanswered_is_suppressed_above_the_limit(timed: Programs) -> None:
    before = timed.counters()
    total = UNANSWERED_PER_SECOND + 50
    for number in range(total):
        flow = Flow(C.src, C.dst, number % 60000, 1 + number // 60000)
        timed.run(Road.TC_INGRESS, flow.frame(SYN, 1), at_ns=at(0))
    assert timed.sweep(now_ns=at(5000)) == 0
    after = timed.counters()
    evicted = after["evicted_unanswered"] - before["evicted_unanswered"]
    assert after["suppressed"] - before["suppressed"] == 50 - evicted > 0
    assert imbalance(before, after, 0) == 0
    events = timed.events()
    assert len(events) == UNANSWERED_PER_SECOND
    assert set(events["result"].tolist()) == {NO_REPLY}
    # The next second has a limit of its own, and what was answered has none.
    send(timed, syn(6000, flow=client(0)), synack(6000, flow=client(0)), syn(6000, flow=client(1)))
    send(timed, synack(6000, flow=client(1)), from_client(6000, flow=client(1)))
    timed.sweep(now_ns=at(30000))
    assert sorted(timed.events()["result"].tolist()) == sorted((HALF_OPEN, ESTABLISHED))


def test_answered_handshakes_are_never_suppressed(timed: Programs) -> None:
    before = timed.counters()
    for number in range(UNANSWERED_PER_SECOND + 50):
        send(timed, syn(0, flow=client(number)), rst(0, flow=client(number)))
    assert len(timed.events()) == UNANSWERED_PER_SECOND + 50
    assert moved(timed, before) == {}
