"""What is told of the two sides of a host, and what only looks like a change."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.judged import Shake, batch
from tracer.causes.changed import CHANGES_MAX, ChangeTable
from tracer.causes.judge import CauseJudge
from tracer.encode.composer import Composer
from tracer.encode.lines import line_maker
from tracer.filters.fields import FIELDS
from tracer.handshake.batch import Batch
from tracer.handshake.rows import rows_of
from tracer.ipc.event_header import constant
from tracer.vocabulary.changes import CHANGE_PATTERN, Piece, What, change, change_words
from tracer.vocabulary.vocabulary import Has

ETH0, ETH1, BRIDGE = 2, 3, 4
CAME = Shake(seq=7, id=100, ifindex=ETH0, response=True)
LEFT = replace(CAME, at_ms=1000.05, answered_ms=0.9, ifindex=ETH1, egress=True)
MSS, SACK, STAMPS = bytes((2, 4, 5, 180)), bytes((4, 2)), bytes((8, 10, *range(8)))
CLAMPED = bytes((2, 4, 5, 20))
Told = list[tuple[str, ...] | None]


def judge() -> CauseJudge:
    made = CauseJudge()
    made.set_interfaces({ETH0: ETH0, ETH1: ETH1, BRIDGE: BRIDGE})
    return made


def options(made: Batch, row: int, segment: str, data: bytes, **values: int) -> None:
    """Give a segment its options, and what they say."""
    one: Any = made.events[row][segment]
    one["options"][:] = 0
    one["options"][: len(data)] = np.frombuffer(data, np.uint8)
    one["options_len"], one["ts_offset"], one["tfo_offset"] = len(data), 0xFF, 0xFF
    one["has"] = Has.SEGMENT
    if data[:1] == b"\x02":
        one["has"], one["mss"] = one["has"] | Has.MSS, int.from_bytes(data[2:4], "big")
    if STAMPS in data:
        one["has"], one["ts_offset"], one["ts_val"] = one["has"] | Has.TIMESTAMPS, data.index(STAMPS) + 2, 99
    for name, value in values.items():
        one[name] = value


def pair(came: Shake = CAME, left: Shake = LEFT) -> Batch:
    made = batch(came, left)
    for row in (0, 1):
        options(made, row, "syn", MSS + SACK + STAMPS)
        options(made, row, "synack", MSS + STAMPS, seq=5)
    return made


def words(made: Batch, by: CauseJudge | None = None) -> Told:
    """What the records of a batch say."""
    by = by or judge()
    judged = by.judge(made)
    return [one.changed_on_host for one in Composer({}, changes=by.change_table.words).compose(judged)]


def test_nothing_was_changed() -> None:
    assert words(pair()) == [(), ()]


def test_one_interface_compares_nothing() -> None:
    only = batch(CAME, replace(CAME, id=101, at_ms=1001))
    assert words(only, CauseJudge()) == [None, None]
    assert words(only) == [None, None]


def test_the_one_that_is_settled_later_knows() -> None:
    made, by = pair(), judge()
    options(made, 1, "syn", CLAMPED + SACK + STAMPS)
    parts = [made.select(np.array([row])) for row in (1, 0)]
    assert [words(part, by) for part in parts] == [[None], [("mss_changed syn 1460 > 1300",)]]


def _clamped(made: Batch) -> None:
    options(made, 1, "syn", CLAMPED + SACK + STAMPS)
    options(made, 0, "synack", CLAMPED + STAMPS, seq=5)


def _stripped(made: Batch) -> None:
    options(made, 1, "syn", MSS + bytes((1,) * 12))


def _added(made: Batch) -> None:
    options(made, 1, "syn", MSS + SACK + STAMPS + bytes((30, 4, 0, 1)))


def _reordered(made: Batch) -> None:
    options(made, 1, "syn", MSS + STAMPS + SACK)


def _padded_otherwise(made: Batch) -> None:
    options(made, 1, "syn", MSS + bytes((1, 1)) + SACK + STAMPS)


def _cut(made: Batch) -> None:
    made.events["syn"]["payload_len"] = 517, 0


def _ecn(made: Batch) -> None:
    made.events["syn"]["tcp_flags"] = 0xC2, 0x02


def _odd_flags(made: Batch) -> None:
    made.events["syn"]["tcp_flags"] = 0x82, 0x02  # CWR alone asks for nothing


def _renumbered(made: Batch) -> None:
    made.events["synack"]["seq"] = 6, 5


def _ttl(made: Batch) -> None:
    made.events["syn"]["ttl"] = 64, 63
    made.events["synack"]["ttl"] = 63, 64


def _raised(made: Batch) -> None:
    made.events["syn"]["ttl"] = 64, 128


def _sent_again(made: Batch) -> None:
    """The first SYN never left: what left is the second one."""
    _stripped(made)
    made.events["syn_ns"][1] = 2_000_000_000
    made.events["retx_count"][0], made.events["retx"][0, 0]["after_us"] = 1, 999_000


def _sent_again_soon(made: Batch) -> None:
    _stripped(made)
    made.events["retx_count"][0], made.events["retx"][0, 0]["after_us"] = 1, 20


def _stamped_later(made: Batch) -> None:
    _clamped(made)
    made.events["syn"]["ts_val"][1] += 1


def _synack_again(made: Batch) -> None:
    options(made, 0, "synack", MSS, seq=5)
    made.events["synack_count"][1] = 2


def _other_synack(made: Batch) -> None:
    """Without timestamps it is not known to be the same one with another number."""
    for row in (0, 1):
        options(made, row, "synack", MSS, seq=5 + row)


def _proxied(made: Batch) -> None:
    made.events["syn_ns"][1] = 1_010_000_000
    made.events["synack"]["seq"] = 6, 5
    options(made, 1, "syn", CLAMPED)


def _proxied_after_two(made: Batch) -> None:
    _proxied(made)
    made.events["syn_count"][0] = 2  # may be the client's second one


CLAMP = ("mss_changed syn 1460 > 1300", "mss_changed synack 1460 > 1300")
CASES: list[tuple[Any, tuple[str, ...] | None]] = [
    (_clamped, CLAMP),
    (_stripped, ("option_stripped syn sack_permitted", "option_stripped syn timestamps")),
    (_added, ("option_added syn mptcp",)),
    (_reordered, ("options_reordered syn",)),
    (_padded_otherwise, ()),
    (_cut, ("payload_stripped syn 517 > 0",)),
    (_ecn, ("ecn_changed syn ecn > none",)),
    (_odd_flags, ()),
    (_renumbered, ("isn_changed synack",)),
    (_ttl, ()),
    (_raised, ("ttl_raised syn 64 > 128",)),
    (_sent_again, None),
    (_sent_again_soon, None),
    (_stamped_later, None),
    (_synack_again, ()),
    (_other_synack, ()),
    (_proxied, ("answered_on_path synack",)),
    (_proxied_after_two, None),
]


@pytest.mark.parametrize(("alter", "expected"), CASES, ids=[one.__name__.strip("_") for one, _ in CASES])
def test_a_change(alter: Any, expected: tuple[str, ...] | None) -> None:
    made = pair()
    alter(made)
    assert words(made) == [expected, expected]
    assert all(re.fullmatch(CHANGE_PATTERN, one) for one in expected or ())


def test_in_either_order() -> None:
    made = pair(LEFT, CAME)
    options(made, 0, "syn", CLAMPED + SACK + STAMPS)
    assert words(made) == [CLAMP[:1]] * 2


def test_over_a_translation() -> None:
    made = pair(left=replace(LEFT, id=200, server=9, port=8080))
    _clamped(made)
    assert words(made) == [CLAMP, CLAMP]
    by = judge()
    parts = [made.select(np.array([row])) for row in (1, 0)]
    assert [words(part, by) for part in parts] == [[None], [CLAMP]]


def test_others_beside_it() -> None:
    """Each of many has its own."""
    shakes = [replace(one, id=id_, seq=id_) for id_ in range(1, 200) for one in (CAME, LEFT)]
    made = batch(*shakes)
    for row in range(len(shakes)):
        options(made, row, "syn", CLAMPED if row % 6 == 1 else MSS)
    expected: Told = [CLAMP[:1] if row // 2 % 3 == 0 else () for row in range(len(shakes))]
    assert words(made) == expected


def test_a_bridge_sees_one_side_twice() -> None:
    made = batch(CAME, replace(CAME, at_ms=1000.01, ifindex=BRIDGE), LEFT)
    for row, data in enumerate((MSS, MSS, CLAMPED)):
        options(made, row, "syn", data)
    assert words(made) == [CLAMP[:1]] * 3


@pytest.mark.parametrize(("addressee", "expected"), [("TO_OTHERS", None), ("TO_HOST", CLAMP[:1])])
def test_mirror_ports_may_show_both_sides_of_another_host(addressee: str, expected: tuple[str, ...] | None) -> None:
    """A bridge of this host, too, sees what only comes in twice, but at last for this host."""
    made = batch(CAME, replace(CAME, at_ms=1000.05, ifindex=BRIDGE))
    for row, data in enumerate((MSS, CLAMPED)):
        options(made, row, "syn", data)
    made.events["addressee"] = constant("ADDRESSED_TO_OTHERS"), constant(f"ADDRESSED_{addressee}")
    assert words(made) == [expected] * 2


def test_a_box_outside_is_not_this_host() -> None:
    """It left, was elsewhere, and came again."""
    again = replace(CAME, at_ms=1000.1, ifindex=BRIDGE)
    made = batch(CAME, LEFT, again, replace(LEFT, at_ms=1000.12, ifindex=5))
    for row, data in enumerate((MSS, MSS, CLAMPED, CLAMPED)):
        options(made, row, "syn", data)
    assert words(made) == [()] * 4


def test_a_router_on_a_stick() -> None:
    made = pair(left=replace(LEFT, ifindex=ETH0))
    _clamped(made)
    assert words(made, CauseJudge()) == [CLAMP, CLAMP]


def test_two_records_of_one_place() -> None:
    made = pair(left=replace(CAME, at_ms=1000.05))
    _clamped(made)
    assert words(made) == [None, None]


def test_nobody_answered() -> None:
    made = batch(*(replace(one, answered_ms=None, response=False) for one in (CAME, LEFT)))
    options(made, 0, "syn", MSS)
    options(made, 1, "syn", CLAMPED)
    assert words(made) == [CLAMP[:1]] * 2


def test_the_table_stays_small() -> None:
    table = ChangeTable()
    for value in range(2 * CHANGES_MAX):
        number = table.number((change(What.WINDOW_CHANGED, Piece.SYN, value, value + 1),))
    assert table.words[number] == ("window_changed syn",)
    assert len(table.words) <= CHANGES_MAX + 1
    assert table.number(()) == 1
    assert table.words[table.number(("window_changed syn 0 > 1",))] == ("window_changed syn 0 > 1",)


def test_an_empty_batch() -> None:
    assert words(batch()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (change(What.MSS_CHANGED, Piece.SYN, 1460, 1300), "MSS of the SYN from 1460 to 1300"),
        (change(What.OPTION_STRIPPED, Piece.SYNACK, "tfo"), "the Fast Open option removed from the SYN-ACK"),
        (change(What.OPTION_ADDED, Piece.SYN, after="kind_99"), "option kind_99 added to the SYN"),
        (change(What.OPTIONS_REORDERED, Piece.SYN), "options of the SYN in another order"),
        (change(What.ISN_CHANGED, Piece.SYNACK), "initial sequence number of the SYN-ACK"),
        ("window_changed syn", "window of the SYN"),
        ("option_stripped syn", "an option removed from the SYN"),
        ("option_added synack", "an option added to the SYN-ACK"),
        # of a later version, or damaged
        ("checksum_changed syn 1 > 2", "checksum changed of the SYN from 1 to 2"),
        ("\x1b[31m", "\\x1b[31m"),
        ("", ""),
        ("mss_changed syn \x1b]0;x\x07 > 1", "MSS of the SYN from \\x1b]0;x\\x07 to 1"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert change_words(text) == expected


def test_lines_and_columns_say_what_records_say() -> None:
    made, by = batch(CAME, LEFT, replace(CAME, id=101, at_ms=5000)), judge()
    for row, data in enumerate((MSS, CLAMPED, MSS)):
        options(made, row, "syn", data)
    judged = by.judge(made)
    composer = Composer({}, changes=by.change_table.words)
    texts = b"".join(line_maker(composer).lines(judged)).splitlines()
    expected: list[Any] = [["mss_changed syn 1460 > 1300"]] * 2 + [None]
    assert [json.loads(text)["changed_on_host"] for text in texts] == expected
    column: Any = FIELDS["changed_on_host"].column(rows_of(judged, composer, 0))
    assert [column.values[code] and list(column.values[code]) for code in column.codes] == expected
