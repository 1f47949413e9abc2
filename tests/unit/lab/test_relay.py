"""The relay of a long way, with datagram sockets for its devices and a clock of the test's own."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tracer.lab.relay import QUEUED, Lane, Relay

DELAY_S = 0.04


class Way:
    """Two ends, and the lane from the left one to the right one."""

    def __init__(self) -> None:
        self.left, left = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.right, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.devices = (left, right)
        for each in (self.left, self.right, left, right):
            each.setblocking(False)
        self.there = Lane(left.fileno(), right.fileno(), DELAY_S)
        self.back = Lane(right.fileno(), left.fileno(), DELAY_S)

    def close(self) -> None:
        """Close what is open."""
        for each in (self.left, self.right, *self.devices):
            each.close()

    def arrived(self, at: socket.socket | None = None) -> list[bytes]:
        """All that has come to an end, the right one if none is named."""
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append((at or self.right).recv(100))
        return found


@pytest.fixture
def way() -> Iterator[Way]:
    made = Way()
    yield made
    made.close()


def test_packets_come_in_order_and_not_before_the_delay(way: Way) -> None:
    for number in range(3):
        way.left.send(bytes((number,)))
        way.there.take(now=10.0 + number / 100)
    for now, expected in ((10.0399, []), (10.0401, [b"\0"]), (10.0501, [b"\1"]), (10.07, [b"\2"]), (99.0, [])):
        way.there.send(now)
        assert way.arrived() == expected, now


def test_a_full_queue_loses_the_newest(way: Way) -> None:
    for number in range(QUEUED + 5):
        way.left.send(number.to_bytes(2, "big"))
        way.there.take(now=1.0)
    assert len(way.there.waiting) == QUEUED
    assert way.there.waiting[-1][1] == (QUEUED - 1).to_bytes(2, "big")


def test_a_flood_does_not_keep_others_waiting(way: Way) -> None:
    """Of any number of packets, it takes some and goes on."""
    taken = 0

    def endless(_: int, __: int) -> bytes:
        nonlocal taken
        taken += 1
        return b"x"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tracer.lab.relay.os.read", endless)
        way.there.take(now=1.0)
    assert 0 < taken < QUEUED


def test_a_packet_that_nobody_takes_is_lost_alone(way: Way) -> None:
    way.left.send(b"first")
    way.there.take(now=1.0)
    way.right.close()
    way.there.send(now=2.0)
    assert not way.there.waiting


def test_a_device_that_has_gone_ends_the_relay(way: Way) -> None:
    way.devices[0].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        Relay([way.there, way.back]).run()


def test_both_directions_take_as_long_at_least(way: Way) -> None:
    relay = Relay([way.there, way.back])
    began = time.monotonic()
    way.left.send(b"ask")
    while not (asked := way.arrived()):
        relay.turn()
    assert asked == [b"ask"]
    assert time.monotonic() - began >= DELAY_S
    way.right.send(b"answer")
    while not way.arrived(way.left):
        relay.turn()
    assert time.monotonic() - began >= 2 * DELAY_S
