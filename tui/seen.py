"""Values that fields have in the newest rows held, for completion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracer.filters.fields import Field
from tracer.filters.values import TIME
from tracer.handshake.rows import Coded, Rows
from tracer.store.chunks import StoreRows
from tui.lines import safe

LOOKED_AT = 2000  # rows
LONGEST = 100  # characters


def seen_values(rows: StoreRows, fields: Sequence[Field]) -> list[str]:
    """What these fields have in the newest rows, the most frequent first; nothing that a terminal would obey."""
    found: Counter[str] = Counter()
    left = LOOKED_AT
    for chunk, begin, end in reversed(list(rows.pieces())):
        if left <= 0:
            break
        begin = max(begin, end - left)
        left -= end - begin
        part = chunk.part(begin, end)
        for field in fields:
            for value, times in _counted(field, part):
                found[value] += times
    return [value for value, _ in found.most_common() if value and len(value) <= LONGEST and safe(value) == value]


def _counted(field: Field, part: Rows) -> list[tuple[str, int]]:
    column = field.column(part)
    values: Sequence[Any]
    if isinstance(column, Coded):
        values, counts = column.values, np.bincount(column.codes, minlength=len(column.values)).tolist()
    else:
        numbers = column.astype(np.float64)
        unique, of_each = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
        values, counts = [f"{one:.15g}" for one in unique.tolist()], of_each.tolist()
    found: list[tuple[str, int]] = []
    for value, times in zip(values, counts, strict=True):
        if value is not None and times:
            # of a time its minute: nobody asks for more digits
            several = value if isinstance(value, tuple) else (value[11:16] if field.name == TIME else value,)
            found += [(str(one), times) for one in several]
    return found
