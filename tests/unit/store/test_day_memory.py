"""Over a day of traffic of ever new peers, the store's memory stays what it was after some hours."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from tests.support.day import BEGIN_S, DAY_S, NS_PER_S
from tests.support.rows import INTERFACES, random_batch
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.store.store import Store

STEP_S = 300
EACH = 300  # handshakes of a step: many kinds of them, and peers that never come again
# 3,600 of them an hour end at the same place of a chunk of 4,096 every eight to nine hours, so that by then the packed
# and the unpacked chunks have been as many as they can be.
SETTLED_H, MARGIN = 10, 1.02


def some(second: int) -> Batch:
    """Made-up handshakes that settle within five minutes of the day."""
    made = random_batch(second, EACH, peers=EACH)
    made.events["settled_ns"] = np.sort((second + BEGIN_S) * NS_PER_S + np.arange(EACH) * (STEP_S * NS_PER_S // EACH))
    made.events["syn_ns"] = made.events["settled_ns"] - np.uint64(50_000_000)
    return made


@pytest.mark.timeout(900)
def test_a_day_takes_no_more_memory_than_its_first_hours() -> None:
    now_s = 0
    store = Store(8192, composer=Composer(INTERFACES), clock=lambda: (now_s + BEGIN_S) * NS_PER_S, refresh_ns=0)
    tracemalloc.start(1)
    try:
        held: list[int] = []
        for hour in range(DAY_S // 3600):
            for second in range(hour * 3600, (hour + 1) * 3600, STEP_S):
                now_s = second + STEP_S
                store.write(some(second))
            shown = store.snapshot()
            assert shown.totals.handshakes == (hour + 1) * 3600 // STEP_S * EACH
            assert len(shown.rows) == min(8192, shown.totals.handshakes)
            assert list(shown.peers)
            del shown
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(held[SETTLED_H:]) <= MARGIN * max(held[:SETTLED_H]), [round(one / 1e6, 2) for one in held]
