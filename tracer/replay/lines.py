"""Reads recorded JSON lines as records, and reports lines that are none by their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import get_args

import msgspec

from tracer.records.record import SCHEMA, Handshake
from tracer.records.run import Record
from tracer.replay.input import Input

LINE_MAX = 1 << 20  # bytes: a record has some thousands, `start` with hundreds of interfaces some ten thousands
HANDSHAKE_MAX = 1 << 15  # bytes of a handshake: with 16 protocols and a host name, every byte escaped, it has 22,000
_TOLD = 3  # lines of each kind that are reported by number


class Bad(Enum):
    """Why a line is not a record; the value follows the line's number in a sentence for people."""

    CUT = "is cut off"
    FOREIGN = "is no record of tfotrace"
    NEWER = f"has a newer schema than this version reads ({SCHEMA}): a newer tfotrace wrote it, and reads it"
    INVALID = "is a damaged record"


class _Head(msgspec.Struct):
    """The beginning of every record in every schema."""

    schema: int
    event: str


_EVENTS = {kind.__struct_config__.tag for kind in get_args(Record)}
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_head: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Line:
    """One record and the bytes it was made of."""

    number: int
    raw: bytes
    record: Record


@dataclass(slots=True)
class Problems:
    """Lines that were skipped: how many of each kind, and the first few by number."""

    counts: Counter[Bad] = field(default_factory=Counter)
    first: dict[Bad, list[int]] = field(default_factory=dict)

    def add(self, bad: Bad, number: int) -> None:
        """Count one."""
        self.counts[bad] += 1
        numbers = self.first.setdefault(bad, [])
        if len(numbers) < _TOLD:
            numbers.append(number)

    def forget(self, bad: Bad) -> None:
        """Say nothing of this kind."""
        self.counts.pop(bad, None)

    def sentences(self, name: str) -> Iterator[str]:
        """One for each kind of problem."""
        for bad, count in self.counts.items():
            numbers = self.first[bad]
            listed = ", ".join(map(str, numbers))
            if count == 1:
                yield f"{name}: line {listed} {bad.value}; skipped"
            elif count == len(numbers):
                yield f"{name}: lines {listed}: each {bad.value}; skipped"
            else:
                yield f"{name}: lines {listed} and {count - len(numbers)} more: each {bad.value}; skipped"


def parse(raw: bytes) -> Record | Bad:
    """One line without its newline."""
    try:
        record = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _why_not(raw)
    if isinstance(record, Handshake) and len(raw) > HANDSHAKE_MAX:
        return Bad.INVALID  # many are in memory at a time
    return record if record.schema == SCHEMA else _schema_of(record.schema)


def _schema_of(schema: int) -> Bad:
    return Bad.NEWER if schema > SCHEMA else Bad.FOREIGN


def _why_not(raw: bytes) -> Bad:
    try:
        head = _head.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Bad.FOREIGN
    if head.schema != SCHEMA:
        return _schema_of(head.schema)
    return Bad.INVALID if head.event in _EVENTS else Bad.FOREIGN


def read_lines(source: Input, problems: Problems) -> Iterator[list[Line]]:
    """Every record in the order of the file, some thousands at a time; `problems` counts skipped lines."""
    number = 1
    rest = b""
    too_long = False
    while chunk := source.read():
        pieces = (rest + chunk).split(b"\n")
        rest = pieces.pop()
        found: list[Line] = []
        for piece in pieces:
            if too_long or len(piece) > LINE_MAX:
                problems.add(Bad.FOREIGN, number)
                too_long = False
            else:
                _take(piece, number, found, problems)
            number += 1
        if len(rest) > LINE_MAX:  # this is not a record: do not keep the rest in memory
            rest, too_long = b"", True
        yield found
    if too_long:
        problems.add(Bad.FOREIGN, number)
    else:
        last: list[Line] = []
        _take(rest, number, last, problems, has_end=False)
        yield last


def _take(raw: bytes, number: int, found: list[Line], problems: Problems, *, has_end: bool = True) -> None:
    if not raw.strip():
        return
    record = parse(raw)
    if isinstance(record, Bad):
        # it begins like one of ours
        cut = not has_end and record is Bad.FOREIGN and raw.lstrip().startswith(b"{")
        problems.add(Bad.CUT if cut else record, number)
    else:
        found.append(Line(number, raw, record))
