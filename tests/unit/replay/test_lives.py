"""What records say of a connection's life, of resets, misfits and other hosts comes through a replay."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.support.rows import INTERFACES, batch_of, random_events
from tracer.encode.composer import Composer
from tracer.filters.fields import FIELDS
from tracer.handshake.batch import Batch
from tracer.handshake.rows import Coded, Rows, rows_of
from tracer.records.record import Handshake
from tracer.records.refusal import Misfits, Reset
from tracer.replay.columns import BatchBuilder, RecordedComposer

OURS = [
    name
    for name in FIELDS
    if name.startswith("handshake.") or name in ("tfo.group", "tfo.rtt_saved_us", "tfo.synack_kind")
]
_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Handshake).decode


@pytest.fixture(scope="module")
def live() -> Batch:
    return batch_of(random_events(np.random.default_rng(16), 800, odd=False, lives=True))


@pytest.fixture(scope="module")
def records(live: Batch) -> list[Handshake]:
    found = [*Composer(dict(INTERFACES), offset_ns=1_700_000_000_000_000_000).compose(live)]
    assert sum(one.handshake.reset is not None for one in found) > 50
    assert sum(one.handshake.misfits is not None for one in found) > 50
    assert {one.handshake.after for one in found} >= {"response", "silence", "client_closed", "reset_by_server", None}
    return [_decode(_encode(one)) for one in found]


def older(record: Handshake) -> Handshake:
    """As a version before these fields wrote it."""
    line = msgspec.json.decode(_encode(record))
    names = list(line["handshake"])
    for name in names[names.index("connect_us") :]:
        del line["handshake"][name]
    return msgspec.convert(line, Handshake)


def replayed(records: list[Handshake], keep: int) -> tuple[Batch, RecordedComposer]:
    rows = BatchBuilder()
    composer = RecordedComposer(rows.interfaces, keep)
    batch, bad = rows.batch(records)
    assert not bad
    composer.add(batch, records, [_encode(one) for one in records])
    return batch, composer


def values(rows: Rows, name: str) -> list[object]:
    column = FIELDS[name].column(rows)
    if isinstance(column, Coded):
        return [column.values[code] for code in column.codes.tolist()]
    return [None if value != value else value for value in column.tolist()]


@pytest.mark.parametrize("name", OURS)
def test_columns_say_what_the_records_say(live: Batch, records: list[Handshake], name: str) -> None:
    expected = [FIELDS[name].of(record) for record in records]
    live_rows = rows_of(live, Composer(dict(INTERFACES)), 0)
    assert values(live_rows, name) == expected
    for recorded in (records, [older(record) for record in records]):
        batch, composer = replayed(recorded, 10_000)
        rows = rows_of(batch, composer, 0)
        assert values(rows, name) == [FIELDS[name].of(record) for record in recorded]


def test_what_is_forgotten_is_composed_from_columns(records: list[Handshake]) -> None:
    rows = BatchBuilder()
    batch, _ = rows.batch(records)
    plain = Composer(rows.interfaces.by_index)  # as RecordedComposer does it where it has no record any more
    for old, record in zip(plain.compose(batch), records, strict=True):
        assert old.handshake == record.handshake


def test_who_lived_is_known_again(live: Batch, records: list[Handshake]) -> None:
    batch, _ = replayed(records, 0)
    np.testing.assert_array_equal(batch.verdicts.lived, live.verdicts.lived)
    np.testing.assert_array_equal(batch.verdicts.after, live.verdicts.after)
    np.testing.assert_array_equal(batch.verdicts.answered_syn, live.verdicts.answered_syn)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("answered_syn", 256), ("answered_syn", -1), ("after", "party"), ("resumed", "party"), ("copies", 256),
        ("answered_ecn", "party"), ("request_repeats", -1), ("connect_us", 1e300), ("first_request_us", -1.0),
        ("reset", Reset("server", 1e300, 64, 0)), ("reset", Reset("party", 1.0, 64, 0)),
        ("misfits", Misfits(256, 0, 0)),
    ],
)  # fmt: skip
def test_what_has_no_place_is_damage(records: list[Handshake], name: str, value: object) -> None:
    record = msgspec.structs.replace(
        records[0], handshake=msgspec.structs.replace(records[0].handshake, **{name: value})
    )
    _, bad = BatchBuilder().batch([record])
    assert bad == [0]
