"""A block is used again when nothing refers to it, and never before."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tracer.linux.recycled import Recycled


def address(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def test_a_block_comes_again_when_all_its_views_have_gone() -> None:
    memory = Recycled(2)
    first = memory.take(1000)
    at = address(first)
    view = first[:80].view(np.uint64)[3:]
    del first
    second = memory.take(1000)
    assert address(second) != at, "a view is left"
    reshaped = view.reshape(1, -1)
    del view, second
    third = memory.take(1000)
    assert address(third) != at, "a view of the view is left"
    del reshaped, third
    assert address(memory.take(1000)) == at


def test_no_more_are_kept_than_the_limit() -> None:
    memory = Recycled(2)
    taken = [memory.take(100) for _ in range(5)]
    assert len({address(one) for one in taken}) == 5
    assert len(memory._held) == 2


def test_what_is_too_small_is_left() -> None:
    memory = Recycled(2)
    assert len(memory.take(10)) == 10
    assert len(memory.take(20)) == 20
    assert len(memory._held) == 2
    assert len(memory.take(15)) == 15


def test_threads_that_take_at_once_get_blocks_of_their_own() -> None:
    memory = Recycled(3)

    def work(number: int) -> int:
        wrong = 0
        for _ in range(2000):
            mine = memory.take(64)
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
    monkeypatch.setattr("tracer.linux.recycled._COUNTS", False)
    memory = Recycled(2)
    memory.take(10)
    assert not memory._held
