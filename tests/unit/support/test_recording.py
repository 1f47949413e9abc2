"""Recordings: what is saved comes back, and other files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.recording import Recording, load, recorded_store, save
from tests.support.rows import GOLDEN, golden


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    save(path, golden())
    found = load(path)
    assert len(found) == len(golden())
    for (events, vantage), (expected, expected_vantage) in zip(found.batches, golden().batches, strict=True):
        assert events.dtype == expected.dtype
        assert events.tobytes() == expected.tobytes()
        assert (vantage == expected_vantage).all()
    assert list(found.payloads) == list(golden().payloads)
    assert (found.start, found.balance, found.counters) == (golden().start, golden().balance, golden().counters)


def test_the_recorded_lab_is_worth_looking_at() -> None:
    assert GOLDEN.stat().st_size < 300_000
    shown = recorded_store(GOLDEN).snapshot()
    assert len(shown.totals.outcomes) == 16
    assert len(shown.totals.results) == 8
    assert sum(one.tfo_samples > 0 and one.normal_samples > 0 for one in shown.comparisons) >= 3
    assert len(shown.distributions.names) >= 3
    assert {bool(":" in peer.ip) for peer in shown.peers} == {True, False}
    assert shown.ended is None
    assert recorded_store(GOLDEN, ended=True).snapshot().ended == "asked"


def test_an_empty_recording_is_not_written(tmp_path: Path) -> None:
    empty = Recording([], [], golden().start, golden().balance, {}, {}, {})
    assert (empty.begin_ns, empty.end_ns, len(empty)) == (0, 0, 0)
    with pytest.raises(ValueError, match="nothing was recorded"):
        save(tmp_path / "empty.npz", empty)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.npz"
    text.write_text("no archive")
    other = tmp_path / "b.npz"
    np.savez(other, numbers=np.zeros(3))
    cut = tmp_path / "c.npz"
    cut.write_bytes(GOLDEN.read_bytes()[:5000])
    plain = tmp_path / "d.npy"
    np.save(plain, np.zeros(3))
    for path in (text, other, cut, plain):
        with pytest.raises(ValueError, match="is no recording"):
            load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.npz")
