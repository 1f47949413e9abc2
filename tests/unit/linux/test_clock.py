"""Setting the wall clock back or forward changes the times of records, and nothing else."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

from tests.support.rows import INTERFACES, golden
from tracer.encode.composer import Composer
from tracer.handshake.batch import decode
from tracer.handshake.syn_payloads import SynPayloads
from tracer.handshake.vantage import LocalSet
from tracer.linux import clock


class Stepped:
    """The module `time` with a wall clock of our own."""

    CLOCK_MONOTONIC, CLOCK_REALTIME = time.CLOCK_MONOTONIC, time.CLOCK_REALTIME

    def __init__(self) -> None:
        self.wall_ns = 1_700_000_000_000_000_000

    def clock_gettime_ns(self, which: int) -> int:
        return self.wall_ns if which == self.CLOCK_REALTIME else 5_000_000_000


@pytest.mark.parametrize("step_s", [3600, -3600, -86400 * 365, 1])
def test_a_step_moves_times_and_no_duration(monkeypatch: pytest.MonkeyPatch, step_s: int) -> None:
    stepped = Stepped()
    monkeypatch.setattr(clock, "time", stepped)
    composer = Composer(INTERFACES)
    payloads = SynPayloads.of(golden().payloads)
    batch = decode(golden().batches[0][0], LocalSet(), payloads)
    composer.offset_ns = clock.wall_offset_ns()
    before = list(composer.compose(batch))
    stepped.wall_ns += step_s * 1_000_000_000
    composer.offset_ns = clock.wall_offset_ns()  # as the pipeline does each second
    after = list(composer.compose(batch))
    for old, new in zip(before, after, strict=True):
        moved = datetime.fromisoformat(new.ts[:26]) - datetime.fromisoformat(old.ts[:26])
        assert moved == timedelta(seconds=step_s)
        assert (new.handshake, new.id, new.tfo) == (old.handshake, old.id, old.tfo)
