"""Random record filters against a plain evaluation of the same tree over the JSON of the records.

TFOTRACE_RECORD_FILTERS and TFOTRACE_SEED set number and seed (make test-filters); a failure prints both.
"""

from __future__ import annotations

import os
import random
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.support.naive_filter import Maker
from tests.support.rows import new_store, parts_of, random_batch, records_of
from tracer.filters.filter import parse
from tracer.filters.grammar import LENGTH_MAX, FilterError
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows

SEED = int(os.environ.get("TFOTRACE_SEED", "7413"))
FILTERS = int(os.environ.get("TFOTRACE_RECORD_FILTERS", "1000"))
ROWS = 120


@lru_cache(maxsize=1)
def made_up() -> tuple[StoreRows, list[Handshake], list[dict[str, Any]]]:
    """Odd handshakes: as rows, as records and as what their JSON says."""
    store = new_store()
    store.write(random_batch(SEED, ROWS))
    rows = store.snapshot().rows
    assert isinstance(rows, StoreRows)
    records = records_of(rows)
    return rows, records, [msgspec.json.decode(msgspec.json.encode(record)) for record in records]


@pytest.mark.timeout(900)
def test_random_filters_agree_with_a_plain_evaluation() -> None:
    rows, records, plain = made_up()
    maker = Maker(SEED, plain)
    telling = tried = 0
    while tried < FILTERS:
        tree = maker.tree()
        text = tree.write(maker.random)
        if len(text) > LENGTH_MAX:
            continue
        tried += 1
        expected = [tree.holds(record) for record in plain]
        telling += 0 < sum(expected) < len(expected)
        expression = parse(text)
        found = np.concatenate([expression.mask(part) for part in parts_of(rows)]).tolist()
        assert found == expected, f"as columns, seed {SEED}: {text}"
        assert [expression.matches(record) for record in records] == expected, f"as records, seed {SEED}: {text}"
    # a filter that lets all or nothing through proves little
    assert telling > FILTERS // 2, telling


def damaged(text: str, pick: random.Random) -> str:
    """A filter with some characters gone, doubled, swapped or replaced."""
    letters = list(text)
    for _ in range(pick.randint(1, 4)):
        at = pick.randrange(len(letters) + 1)
        odd = pick.choice(
            ["(", ")", "!", "=", "~", "'", '"', "\\", ",", "&", "|", "<", "0", "x", "\0", "\n", "é", "中", " "]
        )
        way = pick.randrange(4)
        if way == 0:
            letters[at : at + pick.randint(1, 5)] = []
        elif way == 1:
            letters.insert(at, odd)
        elif way == 2:
            letters[at:at] = letters[max(0, at - 6) : at]
        else:
            letters[at : at + 1] = [odd]
    return "".join(letters)


def refusal(text: str) -> FilterError | None:
    try:
        parse(text)
    except FilterError as error:
        return error
    return None


def test_damaged_filters_are_understood_or_refused_with_the_place() -> None:
    rows, _, plain = made_up()
    maker = Maker(SEED + 1, plain)
    refused = 0
    for _ in range(4000):
        text = damaged(maker.tree(2).write(maker.random), maker.random)
        error = refusal(text)
        if error is None:
            assert len(rows.mask(parse(text))) == len(rows)
            continue
        refused += 1
        line, mark = error.shown
        assert line.isprintable(), ascii(text)
        assert mark.strip(" ").strip("^") == "", ascii(text)
        assert 0 <= error.at <= len(text), ascii(text)
    assert 1000 < refused < 3900, refused
