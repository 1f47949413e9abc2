"""Packed rows: every value comes back, however it is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.rows import random_batch
from tracer.handshake.batch import Batch
from tracer.handshake.columns import Columns, joined
from tracer.store.packed import Packed

ROWS = 1000  # some blocks, the last of which is not full


def arrays_of(batch: Batch) -> Columns:
    rng = np.random.default_rng(1)
    count = len(batch)
    return Columns(
        batch.events, batch.verdicts, batch.durations, batch.causes, batch.vantage,
        rng.integers(-(1 << 62), 1 << 62, count), rng.integers(0, 9, count).astype(np.uint16),
        rng.integers(0, 9, count).astype(np.uint32), rng.integers(0, 9, count).astype(np.uint32),
    )  # fmt: skip


def odd_durations(batch: Batch, longest_us: float) -> Batch:
    """Durations that nothing was rounded in, some of them not known, negative or long."""
    rng = np.random.default_rng(2)
    found = rng.uniform(-3.0 if longest_us > 5e6 else 0.0, longest_us, len(batch))
    found[::7] = np.nan
    return replace(batch, durations=replace(batch.durations, rtt_us=found))


def assert_same(found: Columns, expected: Columns) -> None:
    names = expected.events.dtype.names
    assert names is not None
    for name in names:
        assert (found.events[name] == expected.events[name]).all(), name
    for (name, column), (_, wanted) in zip(found.beside(), expected.beside(), strict=True):
        assert np.array_equal(column, wanted, equal_nan=wanted.dtype.kind == "f"), name


@pytest.mark.parametrize("longest_us", [4e6, 9e6])
@pytest.mark.parametrize(
    "rows", [slice(None), slice(3, 4), slice(250, 260), slice(5, 5), np.array([999, 0, 512, 0]), np.arange(0)],
    ids=str,
)  # fmt: skip
def test_rows_come_back(rows: slice | NDArray[np.intp], longest_us: float) -> None:
    arrays = arrays_of(odd_durations(random_batch(1, ROWS), longest_us))
    assert_same(Packed(arrays).rows(rows), arrays.rows(rows))


def test_columns_come_back_by_name() -> None:
    arrays = arrays_of(random_batch(3, ROWS))
    view = Packed(arrays).view()
    assert len(view) == len(view.events) == ROWS
    names = arrays.events.dtype.names
    assert names is not None
    for name in names:
        if name not in ("syn", "synack"):
            assert (view.events[name] == arrays.events[name]).all(), name
            continue
        inner = arrays.events.dtype[name].names
        assert inner is not None
        for one in inner:
            assert (view.events[name][one] == arrays.events[name][one]).all(), (name, one)
    for name in ("vantage", "offset_ns", "payload", "client_owner", "server_owner"):
        assert (getattr(view, name) == getattr(arrays, name)).all(), name
    assert (view.verdicts.outcome == arrays.verdicts.outcome).all()
    assert (view.causes.cause == arrays.causes.cause).all()
    assert np.asarray(view.events) is np.asarray(view.events)
    assert_same(replace(view, events=np.asarray(view.events)), arrays)


def test_what_repeats_takes_little_room() -> None:
    batch = random_batch(4, 1)
    arrays = arrays_of(batch).rows(np.zeros(4096, np.intp))
    assert len(Packed(arrays)._data) < 10 * 4096


def test_rows_are_joined_in_their_order() -> None:
    arrays = arrays_of(random_batch(5, 100))
    assert_same(joined([arrays.rows(slice(0, 30)), arrays.rows(slice(30, 31)), arrays.rows(slice(31, 100))]), arrays)
