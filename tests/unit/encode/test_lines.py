"""The fast encoder of JSON lines gives the same bytes as the plain one."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rows import INTERFACES, batch_of, golden, golden_parts, random_batch, random_events
from tracer.encode import line_pieces
from tracer.encode.composer import PART_MAX, Composer
from tracer.encode.lines import BLOCK_LINES, LEARNED_MAX, Lines, PlainLines, line_maker
from tracer.handshake.batch import Batch, RowOwners, decode
from tracer.handshake.syn_payloads import SynPayloads
from tracer.handshake.vantage import LocalSet
from tracer.ipc.event_header import struct
from tracer.ipc.traced import TracedInterface
from tracer.records.ends import Process
from tracer.replay.columns import InterfaceNumbers, RecordedComposer
from tracer.vocabulary.vocabulary import HandshakeResult, ResetFrom, SettleReason

OFFSET_NS = 1_700_000_000_000_000_000
NAMES = [b"curl", b"nginx: worker", b'a"b\\c', b"\xff\xfe", b"", b"0123456789abcdef", "żółw".encode(), b"\x01\x1b[31m"]


def composer(show_cookies: bool = False) -> Composer:
    return Composer(dict(INTERFACES), show_cookies=show_cookies, offset_ns=OFFSET_NS, cgroups={})


def plain(made: Composer, batch: Batch) -> list[bytes]:
    return b"".join(PlainLines(made).lines(batch)).splitlines()


def quick(lines: Lines, batch: Batch) -> list[bytes]:
    return b"".join(lines.lines(batch)).splitlines()


def with_processes(batch: Batch, rng: np.random.Generator) -> Batch:
    """Some clients named by the kernel, some ends by the root part."""
    said = batch.events["client_process"]
    size = len(batch)
    said["pid"] = np.where(rng.random(size) < 0.5, rng.integers(1, 4, size), 0)
    said["uid"] = rng.integers(0, 3, size)
    said["cgroup"] = rng.integers(1, 4, size)
    for row, name in enumerate(rng.integers(0, len(NAMES), size).tolist()):
        said["name"][row] = np.frombuffer(NAMES[name].ljust(16, b"\0"), np.uint8)
    table = [None, Process(7, "sshd", 0, None), Process(8, "web\n", 33, "web.service")]
    owners = (rng.integers(0, len(table), size).astype(np.uint32) for _ in range(2))
    return replace(batch, owners=RowOwners(*owners, table)) if rng.random() < 0.7 else batch


@given(
    seed=st.integers(0, 1 << 32),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    odd=st.booleans(),
    payloads=st.booleans(),
    show_cookies=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_random_batches(seed: int, sizes: list[int], odd: bool, payloads: bool, show_cookies: bool) -> None:
    made = composer(show_cookies)
    lines = Lines(made)
    cgroups: dict[int, str | None] = {1: None, 2: "a.service"}
    made.cgroups = cgroups
    rng = np.random.default_rng(seed)
    for turn, size in enumerate(sizes):
        batch = with_processes(random_batch(seed + turn, size, odd=odd, payloads=payloads), rng)
        assert quick(lines, batch) == plain(made, batch)
        cgroups[3] = f"{turn}.scope"  # names come and go
        made.offset_ns += 1


@pytest.mark.parametrize("show_cookies", [False, True])
def test_the_recorded_lab(show_cookies: bool) -> None:
    made = composer(show_cookies)
    lines = Lines(made)
    payloads = SynPayloads.of(golden().payloads)
    for _ in range(2):  # the second time everything is known
        for events in golden_parts():
            batch = decode(events, LocalSet(), payloads)
            assert quick(lines, batch) == plain(made, batch)


MEMBERS = [
    *(one.name for one in struct("handshake_event").fields if one.number_size),
    *(f"{end}.{one.name}" for end in ("syn", "synack") for one in struct("segment_facts").fields if one.number_size),
]
LIMITS = {
    "result": len(HandshakeResult) - 1, "resumed": len(HandshakeResult) - 1, "reset_from": len(ResetFrom) - 1,
    "reason": len(SettleReason) - 1, "options_len": 40, "cookie_len": 16, "retx_count": 6,
}  # fmt: skip


@pytest.mark.parametrize("member", MEMBERS)
def test_rows_that_differ_in_one_member_have_lines_of_their_own(member: str) -> None:
    """Whatever the programs send, known pieces never stand for another row's."""
    rng = np.random.default_rng(7413)
    before = random_events(rng, 40)
    after = before.copy()
    *ends, name = member.split(".")
    column = (after[ends[0]] if ends else after)[name]
    highest = LIMITS.get(name, np.iinfo(column.dtype).max >> 1)
    column[:] = rng.integers(1, highest, len(column), endpoint=True, dtype=column.dtype)
    if name == "has":
        column |= 1
    made = composer()
    lines = Lines(made)
    for events in (before, after, before):
        batch = batch_of(events)
        assert quick(lines, batch) == plain(made, batch)


@pytest.mark.parametrize("value", [0.0, 1e-3, 0.1, 123.4567, 1e9, 1e15, 1.5e16, 1.8e16, np.nan, -0.0, -3.25])
def test_durations_of_any_size(value: float) -> None:
    made = composer()
    batch = random_batch(1, 3)
    names = ("synack_delay_us", "ack_delay_us", "rtt_us", "first_response_us", "rtt_saved_us", "delay_us")
    batch = replace(batch, durations=replace(batch.durations, **{name: np.full(3, value) for name in names}))
    assert quick(Lines(made), batch) == plain(made, batch)


def test_an_interface_that_gets_another_name_is_called_by_it() -> None:
    interfaces = dict(INTERFACES)
    made = Composer(interfaces)
    lines = Lines(made)
    batch = random_batch(5, 40)
    for name in ("before", "after", 'wg"0'):
        for index in (1, 4):  # 4 was not known
            interfaces[index] = TracedInterface(index, name, "tcx", "a test")
        assert quick(lines, batch) == plain(made, batch)
        assert name in {json.loads(line)["interface"] for line in quick(lines, batch)}


def test_a_flood_of_strangers_is_written_plainly_and_learned_little_by_little(monkeypatch: pytest.MonkeyPatch) -> None:
    made = composer()
    lines = Lines(made)
    batch = random_batch(6, 400, odd=False)
    batch.events["syn"]["window"] = np.arange(400)
    asked = count()
    original = PlainLines.lines
    monkeypatch.setattr(PlainLines, "lines", lambda self, rows: (next(asked), original(self, rows))[1])
    expected = [json.loads(line) for line in plain(made, batch)]
    for turn in range(400 // LEARNED_MAX + 1):
        before = next(asked)
        assert [json.loads(line) for line in quick(lines, batch)] == expected
        assert (next(asked) - before == 2) == (turn < 400 // LEARNED_MAX), turn  # one call between the two counts


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_pieces, "KEPT", 20)
    made = composer()
    lines = Lines(made)
    for seed in range(8):
        batch = random_batch(seed, 60)
        assert quick(lines, batch) == plain(made, batch)
        known = [len(one._known) for one in lines._known]
        assert max(known) <= 20 + LEARNED_MAX, known


def test_more_rows_than_are_written_at_once() -> None:
    made = composer()
    batch = random_batch(7, 500, odd=False)
    whole = batch.select(np.arange(PART_MAX + BLOCK_LINES + 7) % 500)
    lines = Lines(made)
    assert quick(lines, whole) == plain(made, whole)
    assert quick(lines, whole) == plain(made, whole)
    blocks = list(lines.lines(whole))
    assert all(block.endswith(b"\n") and block.count(b"\n") <= BLOCK_LINES for block in blocks)


def test_nothing_of_nothing() -> None:
    batch = random_batch(8, 3)
    assert quick(Lines(composer()), batch.rows(0, 0)) == []


def test_recorded_records_are_encoded_as_they_are() -> None:
    assert isinstance(line_maker(RecordedComposer(InterfaceNumbers(), 10)), PlainLines)
    assert isinstance(line_maker(composer()), Lines)
