"""A block is used again when nothing refers to it, and never before."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tracer.handshake.recycled import SMALL, Recycled

SIZE = 2 * SMALL


def address(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def test_a_block_comes_again_when_all_its_views_have_gone() -> None:
    memory = Recycled(2)
    first = memory.take(SIZE)
    at = address(first)
    view = first[:80].view(np.uint64)[3:]
    del first
    second = memory.take(SIZE)
    assert address(second) != at, "a view is left"
    reshaped = view.reshape(1, -1)
    del view, second
    third = memory.take(SIZE)
    assert address(third) != at, "a view of the view is left"
    del reshaped, third
    assert address(memory.take(SIZE)) == at


def test_no_more_are_kept_than_the_limit() -> None:
    memory = Recycled(2)
    taken = [memory.take(SIZE) for _ in range(5)]
    assert len({address(one) for one in taken}) == 5
    assert len(memory._held) == 2


def test_what_is_too_small_is_left() -> None:
    memory = Recycled(2)
    for size in (SIZE, 2 * SIZE, SIZE + 5):
        assert len(memory.take(size)) == size
    assert [one.nbytes for one in memory._held] == [SIZE, 2 * SIZE]


def test_a_block_may_have_more_room_than_its_first_use_needs() -> None:
    memory = Recycled(1)
    at = address(memory.take(SIZE, 3 * SIZE))
    assert address(memory.take(3 * SIZE)) == at


def test_small_ones_are_not_kept() -> None:
    memory = Recycled(2)
    assert len(memory.take(SMALL - 1, SIZE)) == SMALL - 1
    assert not memory._held


def test_threads_that_take_at_once_get_blocks_of_their_own() -> None:
    memory = Recycled(3)

    def work(number: int) -> int:
        wrong = 0
        for _ in range(2000):
            mine = memory.take(SIZE)
            mine[:] = number
            wrong += not (mine == number).all()
        return wrong

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(4))) == [0] * 4
    finally:
        sys.setswitchinterval(interval)


def test_where_references_cannot_be_counted_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.handshake.recycled._COUNTS", False)
    memory = Recycled(2)
    memory.take(SIZE)
    assert not memory._held
