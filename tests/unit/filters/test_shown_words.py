"""One vocabulary: what lists show as result, outcome, cause, process or time can be asked for, as well as the record's
words; and `failed`, `degraded` and `slow` alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec
import numpy as np
import pytest

from tests.support.naive_filter import quoted
from tests.support.rows import new_store, parts_of, random_batch
from tracer.filters.filter import fields_of, parse
from tracer.filters.grammar import FilterError
from tracer.filters.shown import SHOWN
from tracer.filters.times import moment
from tracer.handshake.rows import Coded
from tracer.records import fate
from tracer.records.ends import Process
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows
from tracer.store.list_columns import COLUMNS, UNKNOWN
from tracer.vocabulary.fates import FAILED_WORDS
from tracer.vocabulary.vocabulary import Cause, Confidence, HandshakeCause


@lru_cache(maxsize=1)
def rows() -> StoreRows:
    """Odd handshakes, some with causes."""
    store, random = new_store(), np.random.default_rng(3)
    for seed in range(4):
        batch = random_batch(seed, 300)
        causes = batch.causes
        causes.handshake_cause[:] = random.integers(0, len(HandshakeCause), len(batch))
        causes.handshake_cause[::3] = 0
        causes.handshake_confidence[:] = np.where(causes.handshake_cause > 0, random.integers(1, len(Confidence)), 0)
        causes.cause[:] = random.integers(0, len(Cause), len(batch))
        causes.cause[::2] = 0
        store.write(batch)
    found = store.snapshot().rows
    assert isinstance(found, StoreRows)
    return found


@lru_cache(maxsize=1)
def records() -> tuple[Handshake, ...]:
    return tuple(rows().record(row) for row in range(len(rows())))


def chosen(text: str) -> list[int]:
    """What a filter lets through, by both evaluations."""
    expression = parse(text)
    by_record = [expression.matches(record) for record in records()]
    assert rows().mask(expression).tolist() == by_record, text
    return np.flatnonzero(by_record).tolist()


def those(holds: Callable[[Handshake], bool]) -> list[int]:
    return [row for row, record in enumerate(records()) if holds(record)]


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_is_the_same_of_records_and_rows(name: str) -> None:
    field, found = SHOWN[name], []
    for part in parts_of(rows()):
        column = field.column(part)
        found += (
            [column.values[code] for code in column.codes.tolist()] if isinstance(column, Coded) else column.tolist()
        )
    assert found == [field.of(record) for record in records()]


@pytest.mark.parametrize("name", ["result", "outcome", "cause", "group", "handshake_cause", "after", "request"])
def test_whatever_a_column_shows_can_be_asked_for(name: str) -> None:
    shown: dict[str, list[int]] = {}
    for row, record in enumerate(records()):
        shown.setdefault(COLUMNS[name].text(record), []).append(row)
    assert len(shown) > 3
    for text, expected in shown.items():
        if text == UNKNOWN:
            continue
        for written in (quoted(text), quoted(text.upper())):
            found = chosen(f"{name} == {written}")
            # "established" is shown where Fast Open has nothing to say, and matches all that were
            assert set(expected) <= set(found), text
        assert set(expected) <= set(chosen(f"{name} ~ {quoted(text)}")), text


@pytest.mark.parametrize("name", COLUMNS)
def test_the_name_of_a_column_is_the_name_of_a_field(name: str) -> None:
    assert fields_of(name)


def test_words_of_lists_and_of_records_mean_the_same() -> None:
    for brief, word in (("no reply", "no_reply"), ("reset", "aborted"), ("refused", "rejected")):
        expected = those(lambda one, word=word: one.handshake.result == word)  # type: ignore[misc]
        assert expected
        for name in ("result", "outcome", "handshake.result"):
            assert chosen(f'{name} == "{brief}"') == chosen(f'{name} in ("{brief.upper()}")') == expected
        assert chosen(f"result == {word}") == expected
    no_listener = chosen("handshake.cause == no_listener")
    assert no_listener
    assert chosen('why == "nobody listens"') == chosen("cause == no_listener") == no_listener
    assert chosen("result == data_acked") == chosen("tfo.outcome == data_acked")
    assert chosen("cause == packet_loss") == those(
        lambda one: "packet_loss" in (one.handshake.cause, one.tfo.cause)
    )  # fmt: skip
    assert chosen("cause == null") == those(lambda one: one.handshake.cause is None and one.tfo.cause is None)
    assert chosen("cause != key_rotation") == those(
        lambda one: one.tfo.cause != "key_rotation" and (one.tfo.cause or one.handshake.cause) is not None
    )


def test_a_result_with_its_cause() -> None:
    expected = those(lambda one: one.handshake.result == "half_open" and one.handshake.cause == "ack_missing")
    assert expected
    assert chosen('outcome == "half open: ACK missing"') == expected
    assert chosen('outcome == "Half_open: ack missing"') == expected
    assert chosen('outcome ~ "ACK missing"') == those(
        lambda one: one.handshake.cause == "ack_missing" and fate.told_first(one)
    )


def test_words_that_stand_alone() -> None:
    assert chosen("failed") == those(lambda one: fate.standing(one) == "failed")
    assert chosen("degraded") == those(lambda one: fate.standing(one) == "degraded")
    slow = those(lambda one: one.handshake.cause is not None and one.handshake.result not in FAILED_WORDS)
    assert slow
    assert chosen("slow") == chosen("Slow") == slow
    assert chosen("failed and not degraded") == chosen("failed")
    assert chosen('"failed"') == [], "in quotation marks it is a text to look for"


def owned() -> Handshake:
    record = records()[0]
    return msgspec.structs.replace(
        record, server=msgspec.structs.replace(record.server, process=Process(812, "nginx", 0))
    )


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('process == "nginx[812]"', True), ("process == nginx[812]", True), ("process == nginx", True),
        ("process == nginx[813]", False), ("process != nginx[812]", False), ("process ~ [81", True),
        ("server.process == nginx[812]", True), ("client.process == nginx[812]", False), ("process ~ gin", True),
        ("process =~ '^nginx\\\\[8'", True), ("process in (curl, nginx[812])", True),
    ],
)  # fmt: skip
def test_a_process_with_its_pid(text: str, matches: bool) -> None:
    assert parse(text).matches(owned()) is matches


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("time == 12:14", True), ("time == 12:14:33", True), ("time == 12:14:33.0", False),
        ("time == 12:14:33.5", True),
        ("time == 12:14:33.501", True), ("time == 12:14:33.502", False), ("time > 12:14", False),
        ("time >= 12:14", True), ("time > 12:13", True), ("time < 12:15", True), ("time <= 12:14", True),
        ("time < 12:14:33.501", False), ("time <= 12:14:33.501", True), ("time != 12:14", False),
        ("time == 2026-11-23", True), ("time < 2026-11-23", False), ("time > 2026-11-22", True),
        ("time >= 2026-11-23T12:14", True), ('ts < "2026-11-23 12:14:34"', True), ("ts > 2026-11-23T12:14:34Z", False),
        ("time > 12:13 and time < 12:15", True), ("time in (11:00, 12:14)", True), ("time ~ 12:14", True),
        ("ts == 2026-11-23T12:14:33.501000000Z", True), ("ts =~ ^2026", True),
    ],
)  # fmt: skip
def test_times(text: str, matches: bool) -> None:
    record = msgspec.structs.replace(records()[0], ts="2026-11-23T12:14:33.501000000Z")
    assert parse(text).matches(record) is matches


def test_times_of_rows() -> None:
    one = records()[7].ts
    for text in (
        f"ts == {one}",
        f"time == {one[11:23]}",
        f"time > {one[11:19]}",
        f"ts <= {one[:16]}",
        f"time < {one[:10]}",
    ):
        chosen(text)
    assert 7 in chosen(f"time == {one[11:23]}")


@pytest.mark.parametrize("text", ["", "Z", "12", "24:00", "12:60", "2026-13-01", "12:14:33.", "noon"])
def test_what_is_no_time(text: str) -> None:
    assert moment(text) is None


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ('outcome == "no replay"', 11, "did you mean no reply?"), ("result == refusd", 10, "did you mean refused?"),
        ("cause == nobody", 9, "is never 'nobody'"), ("outcome == a:b", 11, "is never 'a:b'"),
        ("outcome > 5", 0, "compares numbers"), ("time == noon", 8, "write it as 12:14"), ("ts > noon", 5, "is a time"),
        ('why == "nobody listen"', 7, 'did you mean "nobody listens"?'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_still_said(text: str, at: int, says: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert says in str(caught.value).replace('"no reply"', "no reply")
    assert caught.value.at == at
