"""What lists show that no field of the record has by itself: texts and judgements made of several of them.

They have names of their own here, for lists sort by them and filters compare with what they show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracer.filters.fields import Column, Field, Kind, coded, process_rows
from tracer.handshake.events import F64
from tracer.handshake.rows import Coded, Rows
from tracer.records import fate
from tracer.records.ends import Process
from tracer.records.life import drop_of
from tracer.records.record import Handshake
from tracer.vocabulary.causes import CAUSES_OF_DROPS
from tracer.vocabulary.fates import brief_cause, came_of
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.printable import printable
from tracer.vocabulary.vocabulary import GROUP_OF, HANDSHAKE_CAUSE_WORDS, word

_GROUPS = {word(outcome): group.word for outcome, group in GROUP_OF.items()}
_CAUSES_OF_DROPS = np.isin(np.array([str(one) for one in HANDSHAKE_CAUSE_WORDS]), CAUSES_OF_DROPS)

_ALONE = np.uint64(1 << 63)
_NOTHING = object()
KNOWN_MAX = 4096  # kinds of rows whose text is remembered


def died(outcome: str | None, group: str | None) -> bool:
    """Did the connection fail only afterwards, whatever its outcome promised?"""
    return group == "failed" and _GROUPS.get(outcome or "", group) != group


def _result(record: Handshake) -> str:
    tfo, result = record.tfo, record.handshake.result
    words = printable(came_of(result, tfo.outcome))
    return f"{words}, died" if result == "established" and died(tfo.outcome, tfo.group) else words


def _cause(record: Handshake) -> str | None:
    timing, tfo = record.handshake, record.tfo
    if timing.cause is not None:
        return printable(brief_cause(timing.cause, drop_of(timing)))
    return None if tfo.cause is None else in_words(printable(tfo.cause))


def _outcome(record: Handshake) -> str:
    return fate.fate(record.handshake) if fate.told_first(record) else _result(record)


def _slow(record: Handshake) -> bool:
    return record.handshake.cause is not None and not fate.failed(record.handshake)


def _judged(of: Callable[[Handshake], Any]) -> Callable[[Rows], Column]:
    """The column of what depends on results, outcomes and causes alone.

    Of equal rows one record is composed, and what it says is remembered for later chunks.
    """
    known: dict[int, Any] = {}

    def column(rows: Rows) -> Column:
        causes, verdicts = rows.causes, rows.verdicts
        parts = (rows.events["result"], verdicts.outcome, verdicts.group, causes.handshake_cause,
                 causes.handshake_confidence, causes.cause, causes.drop)  # fmt: skip
        kinds = np.zeros((len(rows), 8), np.uint8)
        for at, part in enumerate(parts):
            kinds[:, at] = part
        keys = kinds.view(np.uint64).reshape(-1)
        if not rows.names.columns_tell_all:  # by what it was dropped only the record knows
            alone = np.flatnonzero(_CAUSES_OF_DROPS[causes.handshake_cause])
            keys[alone] = alone.astype(np.uint64) | _ALONE
        kinds_there, first, codes = np.unique(keys, return_index=True, return_inverse=True)
        found = [known.get(key, _NOTHING) for key in kinds_there.tolist()]
        new = [at for at, value in enumerate(found) if value is _NOTHING]
        if new:
            if len(known) > KNOWN_MAX:
                known.clear()
            made = [of(record) for record in rows.names.compose(rows.batch.select(first[new]))]
            # a drop is named by a number of this run: what is said of one is not remembered
            for at, value in zip(new, made, strict=True):
                found[at] = value
                if not causes.drop[first[at]] and kinds_there[at] < _ALONE:
                    known[int(kinds_there[at])] = value
        return Coded(found, codes.astype(np.min_scalar_type(len(found))))

    return column


def _slow_rows(rows: Rows) -> Column:
    found = _judged(_slow)(rows)
    assert isinstance(found, Coded)
    column: F64 = np.array(found.values, np.float64)[found.codes]
    return column


def process_text(process: Process) -> str:
    """Name and pid."""
    return f"{printable(process.name)}[{process.pid}]"


def _process(end: str, says: str) -> Field:
    def of(record: Handshake) -> str | None:
        found = record.client.process if end == "client" else record.server.process
        return None if found is None else process_text(found)

    def column(rows: Rows) -> Column:
        return coded(None if one is None else process_text(one) for one in process_rows(rows, end))

    return Field(f"{end}.process", Kind.TEXT, of, column, says=says)


def _text(name: str, of: Callable[[Handshake], Any], says: str) -> Field:
    return Field(name, Kind.TEXT, of, _judged(of), says=says)


SHOWN: dict[str, Field] = {
    field.name: field
    for field in (
        _text("result", _result, "what came of the handshake, and of Fast Open where it was tried"),
        _text("cause", _cause, "why it failed or was slow, else why Fast Open did what it did"),
        _text("outcome", _outcome, "what came of the handshake or of Fast Open, and why it failed or was slow, in one"),
        _text("standing", fate.standing, "handshake and Fast Open together: ok, degraded, failed"),
        Field("slow", Kind.FLAG, _slow, _slow_rows),
        _process("client", "the client's process, where known"),
        _process("server", "the process that listens, where known"),
    )
}
