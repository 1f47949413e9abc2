"""A run ends while the dashboard takes a snapshot."""

from __future__ import annotations

import pytest

from tests.support.rows import INTERFACES, START_NS, random_batch
from tracer.encode.composer import Composer
from tracer.store.chunks import StoreRows
from tracer.store.store import Store


def test_a_snapshot_that_says_it_is_over_has_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(composer=Composer(INTERFACES), clock=lambda: START_NS)
    view = store._view

    def then_it_ends() -> StoreRows:
        rows = view()
        if not len(rows):
            store.write(random_batch(1, 10, odd=False))
            store.end("quit")
        return rows

    monkeypatch.setattr(store, "_view", then_it_ends)
    first, second = store.snapshot(), store.snapshot()
    assert (first.ended, len(first.rows)) == (None, 0)
    assert (second.ended, len(second.rows)) == ("quit", 10)
