"""Columns: each has a text and keys that sort by its meaning."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import pytest

from tests.support.rows import batch_of, new_store, random_batch, random_events
from tracer.filters.fields import FIELDS
from tracer.filters.filter import fields_of
from tracer.records.ends import Endpoint, Process
from tracer.records.record import DnsInfo, Handshake, HttpInfo, TlsInfo
from tracer.store.chunks import CHUNK_ROWS, StoreRows
from tracer.store.list_columns import (
    COLUMNS,
    UNKNOWN,
    milliseconds,
    name_of,
    sort_keys,
    value_text,
)

HOSTILE = "\x1b[31m[bold]evil[/]\u202e\u2066\x00\r\n\ud800x"


@lru_cache(maxsize=1)
def rows() -> StoreRows:
    store = new_store()
    store.write(random_batch(1, 500))
    found = store.snapshot().rows
    assert isinstance(found, StoreRows)
    return found


@lru_cache(maxsize=1)
def records() -> tuple[Handshake, ...]:
    return tuple(rows().record(row) for row in range(len(rows())))


@pytest.mark.parametrize("name", COLUMNS)
def test_keys_group_rows_as_texts_do(name: str) -> None:
    """Rows with equal keys show the same, and what is not known has no key."""
    column = COLUMNS[name]
    keys = sort_keys(rows(), name)
    assert len(keys) == len(rows())
    texts = [column.text(record) for record in records()]
    shown: dict[object, set[str]] = {}
    for key, text in zip(keys.tolist(), texts, strict=True):
        if key != key:
            assert text == UNKNOWN, text
        else:
            shown.setdefault(key, set()).add(text)
    assert all(len(texts) == 1 for texts in shown.values())


@pytest.mark.parametrize("name", [name for name, column in COLUMNS.items() if column.field is not None])
def test_keys_sort_as_values_do(name: str) -> None:
    field = COLUMNS[name].field
    assert field is not None
    if name in ("client", "server"):
        return
    values = [FIELDS[field].of(record) for record in records()]
    keys = sort_keys(rows(), name)
    known = [row for row, value in enumerate(values) if value is not None]
    by_key = sorted(known, key=lambda row: keys[row])

    def order(row: int) -> object:
        value = values[row]
        return (value.casefold(), value) if isinstance(value, str) else value

    assert [values[row] for row in by_key] == [values[row] for row in sorted(known, key=order)]  # type: ignore[arg-type]


def test_addresses_sort_as_numbers() -> None:
    events = random_events(np.random.default_rng(1), 4, odd=False)
    for row, last in enumerate((10, 9, 100, 9)):
        events["client"][row] = [0] * 10 + [255, 255, 10, 0, 0, last]
    events["client_port"] = [1, 500, 1, 80]
    store = new_store()
    store.write(batch_of(events))
    assert np.argsort(sort_keys(store.snapshot().rows, "client")).tolist() == [3, 1, 0, 2]


def test_addresses_of_both_kinds_sort_together() -> None:
    events = random_events(np.random.default_rng(1), CHUNK_ROWS + 3, odd=False)
    events["client"] = [0] * 10 + [255, 255, 10, 0, 0, 2]
    events["client_port"] = 700
    events["client"][1], events["client_port"][2] = [0] * 10 + [255, 255, 10, 0, 0, 1], 9
    events["client"][CHUNK_ROWS], events["client"][CHUNK_ROWS + 1] = [0] * 15 + [1], [32, 1] + [0] * 13 + [1]
    store = new_store()
    store.write(batch_of(events))
    order = np.argsort(sort_keys(store.snapshot().rows, "client"), kind="stable")
    assert order[:4].tolist() == [CHUNK_ROWS, 1, 2, 0]
    assert order[-2:].tolist() == [CHUNK_ROWS + 2, CHUNK_ROWS + 1]


@pytest.mark.parametrize("name", COLUMNS)
def test_hostile_names_are_shown_harmlessly(name: str) -> None:
    record = msgspec.structs.replace(
        records()[0],
        interface=HOSTILE,
        client=Endpoint("192.0.2.1", 1, Process(1, HOSTILE, 0)),
        tls=TlsInfo(HOSTILE, (HOSTILE,), False),
        http=HttpInfo("GET", HOSTILE),
        dns=DnsInfo(HOSTILE, "A"),
    )
    text = COLUMNS[name].text(record)
    assert text.isprintable()
    assert "\u202e" not in text


def test_every_column_is_fit_to_be_chosen() -> None:
    for name, column in COLUMNS.items():
        assert column.name == name
        assert column.says
        assert len(column.title) <= max(column.width, len(column.title))
        assert column.field is None or fields_of(column.field)
    titles = [column.title for column in COLUMNS.values()]
    assert len(set(titles)) == len(titles)


def test_no_such_column() -> None:
    with pytest.raises(KeyError):
        sort_keys(rows(), "nothing")


@pytest.mark.parametrize(
    ("duration_us", "text"),
    [(None, "-"), (0.0, "0.000"), (812.4, "0.812"), (99_999.0, "99.999"), (123_456.7, "123.5"), (1e8, "100000")],
)
def test_milliseconds(duration_us: float | None, text: str) -> None:
    assert milliseconds(duration_us) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "yes"), (False, "no"), ((), "-"), ((10, 20), "10,20"), ("a\x1bb", "a\\x1bb")],
)
def test_values(value: object, text: str) -> None:
    assert value_text(value) == text


def test_the_name_asked_for() -> None:
    found = {name_of(record) for record in records()}
    assert None in found
    assert len(found) > 3
