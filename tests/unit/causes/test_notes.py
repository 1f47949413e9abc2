"""What was noted before a row, in this batch or an earlier one."""

from __future__ import annotations

import numpy as np
import pytest

from tracer.causes.notes import Earlier, likely_among


@pytest.mark.parametrize(("notes", "asked", "kinds"), [(0, 5, 3), (5, 0, 3), (1, 1, 1), (200, 60, 8), (500, 500, 400)])
def test_the_latest_note_before_a_row_is_found(notes: int, asked: int, kinds: int) -> None:
    rng = np.random.default_rng(notes + asked)
    # some keys differ only where the quick look does not see it
    hashes = rng.integers(0, 1 << 63, kinds, dtype=np.uint64) << np.uint64(1)
    hashes[1::2] = hashes[: kinds // 2] ^ np.uint64(2)
    keys, wanted = hashes[rng.integers(0, kinds, notes)], hashes[rng.integers(0, kinds, asked)]
    at, rows = rng.integers(0, 100, notes), rng.integers(0, 100, asked)
    found, there = Earlier(keys, at, wanted).before(wanted, rows)
    for key, row, place, is_there in zip(wanted, rows, found, there, strict=True):
        before = [note for note in range(notes) if keys[note] == key and at[note] < row]
        assert bool(is_there) == bool(before)
        if before:
            assert place == max(before, key=lambda note: (at[note], note))


def test_all_that_is_wanted_is_likely() -> None:
    keys = np.random.default_rng(1).integers(0, 1 << 63, 4000, dtype=np.uint64) << np.uint64(1)
    found = likely_among(keys, keys[::100])
    assert set(range(0, 4000, 100)) <= set(found.tolist())
    assert len(found) < 400
