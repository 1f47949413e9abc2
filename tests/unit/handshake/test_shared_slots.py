"""Rows that need one slot, against counting them."""

from __future__ import annotations

import numpy as np
import pytest

from tracer.handshake.shared_slots import SharedSlots


@pytest.mark.parametrize("count", [0, 1, 2, 50, 3000])
def test_rows_share_a_slot_if_it_is_wanted_twice(count: int) -> None:
    shared, rng = SharedSlots(1 << 12), np.random.default_rng(count)
    for _ in range(3):  # an earlier batch says nothing of this one
        slots = rng.integers(0, 1 << 12, count)
        assert shared.of(slots).tolist() == (np.bincount(slots, minlength=1 << 12)[slots] > 1).tolist()
