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


def gathering(ring: FakeRing, *beside: FakeRing) -> Pace:
    looks = Pace(ring, beside)  # type: ignore[arg-type]
    looks.poll_ms = pace.POLL_GENTLY_MS
    looks.gathers = True
    return looks


def gathered(clock: Clock, per_second: float, beside: FakeRing | None = None) -> tuple[float, int]:
    """After a reading: the seconds until the next one, and the bytes that are there then."""
    ring = FakeRing()
    looks = gathering(ring, *([beside] if beside is not None else ()))
    began = clock.now_s
    looks.wait_ms(0)
    clock.now_s += pace.POLL_GENTLY_MS / 1000
    ring.fill = int(per_second * pace.POLL_GENTLY_MS / 1000)
    while rest := looks.rest_ms():
        clock.now_s += rest / 1000
        ring.fill = int(per_second * (clock.now_s - began))
    return clock.now_s - began, ring.fill


@pytest.mark.parametrize("per_second", [0, 1e5, 1e6])
def test_a_few_are_read_when_they_are_due(clock: Clock, per_second: float) -> None:
    assert gathered(clock, per_second)[0] == pytest.approx(pace.POLL_GENTLY_MS / 1000, abs=0.0015)


@pytest.mark.parametrize("per_second", [3e6, 5e6, 9e6, 12e6, 15e6, 18e6, 25e6])
def test_what_comes_fast_is_gathered_to_a_batch_at_most(clock: Clock, per_second: float) -> None:
    seconds, fill = gathered(clock, per_second)
    assert fill <= max(BATCH_BYTES, per_second * (pace.POLL_GENTLY_MS + 1.5) / 1000)
    assert seconds <= pace.GATHER_MS / 1000 + 0.001
    # and not much less, if time allows
    assert fill >= BATCH_BYTES / 2 or seconds >= (pace.GATHER_MS - 1) / 1000


def test_nothing_is_gathered_while_another_ring_fills(clock: Clock) -> None:
    assert gathered(clock, 9e6, FakeRing(fill=SIZE // 4))[0] > 1.5 * pace.POLL_GENTLY_MS / 1000
    assert gathered(clock, 9e6, FakeRing(fill=SIZE // 2))[0] == pytest.approx(pace.POLL_GENTLY_MS / 1000, abs=0.0015)


def test_what_wakes_the_loop_early_reads_nothing_early(clock: Clock) -> None:
    ring = FakeRing()
    looks = gathering(ring)
    looks.wait_ms(0)
    clock.now_s += 0.03
    assert looks.rest_ms() in (69, 70)
    looks.gathers = False
    assert looks.rest_ms() == 0
