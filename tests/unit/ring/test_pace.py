"""How long the pipeline sleeps between readings of the ring: the ring must not fill up, and readings must be few."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tracer.ring import pace
from tracer.ring.drain import BATCH_BYTES
from tracer.ring.pace import POLL_MS, SOON_MS, SOON_RECORDS, Pace

SIZE = 8 << 20


@dataclass
class FakeRing:
    """The part of a ring that Looks needs."""

    size: int = SIZE
    consumed: int = 0
    fill: int = 0


@dataclass
class Clock:
    now_s: float = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(pace, "time", found)
    return found


def wait(looks: Pace, ring: FakeRing, clock: Clock, bytes_: int, seconds: float = 0.04) -> int:
    """After so many bytes in so many seconds, all of them read."""
    clock.now_s += seconds
    ring.consumed += bytes_
    return looks.wait_ms(bytes_ // 360)


def looks_at(ring: FakeRing) -> Pace:
    return Pace(ring)  # type: ignore[arg-type]


def test_a_quiet_ring_is_looked_at_as_seldom_as_may_be(clock: Clock) -> None:
    ring = FakeRing()
    looks = looks_at(ring)
    for bytes_ in (0, 360, 100_000, SIZE // 4, 0):
        assert wait(looks, ring, clock, bytes_) == POLL_MS


@pytest.mark.parametrize("poll_ms", [POLL_MS, pace.POLL_GENTLY_MS])
@pytest.mark.parametrize("per_second", [1e6, 1e7, 5e7, 1e8, 5e8])
def test_at_a_steady_rate_no_more_than_a_quarter_of_the_ring_fills(
    clock: Clock, poll_ms: int, per_second: float
) -> None:
    ring = FakeRing()
    looks = looks_at(ring)
    looks.poll_ms = poll_ms
    seconds = 0.01
    for _ in range(10):
        seconds = wait(looks, ring, clock, int(per_second * seconds), seconds) / 1000
        assert per_second * seconds <= SIZE / 4 or seconds == SOON_MS / 1000
        # and not much sooner than that
        assert seconds in (poll_ms / 1000, SOON_MS / 1000) or per_second * seconds > SIZE / 8


def test_what_is_left_is_read_at_once_and_counts_for_the_rate(clock: Clock) -> None:
    ring = FakeRing()
    looks = looks_at(ring)
    ring.fill = 2 * BATCH_BYTES
    assert wait(looks, ring, clock, BATCH_BYTES) == 0
    ring.fill = 0
    # three batches in 43 ms: a quarter comes in 15 ms
    assert wait(looks, ring, clock, 2 * BATCH_BYTES, 0.003) == 15


def test_perf_buffers_are_small(clock: Clock) -> None:
    looks = Pace(None)
    assert looks.wait_ms(SOON_RECORDS - 1) == POLL_MS
    assert looks.wait_ms(SOON_RECORDS) == SOON_MS
