"""TFOTRACE_PATIENCE makes the parts wait longer for each other, but never less or for ever."""

from __future__ import annotations

import pytest

from tracer.linux.patience import MOST, factor


@pytest.mark.parametrize(
    ("text", "times"),
    [("", 1), ("1", 1), ("10", 10), ("2.5", 2.5), ("0", 1), ("-3", 1), ("1e9", MOST), ("inf", MOST), ("ten", 1)],
)
def test_what_the_variable_says(text: str, times: float) -> None:
    assert factor(text) == times


def test_what_is_no_number_changes_nothing() -> None:
    assert factor("nan") == 1
