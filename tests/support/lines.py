"""The recorded lab as JSON lines, as `tfotrace demo --json` wrote them, but judged by today's rules."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain

import msgspec

from tests.support.rows import golden
from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.benefit import BenefitTable
from tracer.causes.judge import CauseJudge
from tracer.encode.composer import Composer
from tracer.records.record import SCHEMA, Handshake
from tracer.records.run import End, NoticeRecord, Record, Stats

_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=1)
def run_records() -> tuple[Record, ...]:
    """Every kind of record: the lab's start, handshakes with their causes, stats and end, and a notice."""
    recorded = golden()
    judge, totals, benefit = CauseJudge(), Aggregate(), BenefitTable()
    judge.set_interfaces({index: index for index in recorded.interfaces})
    batches = [judge.judge(batch) for batch in recorded.decoded()]
    for batch in batches:
        totals.add(batch)
        benefit.add(batch)
    composer = Composer(
        recorded.interfaces, offset_ns=recorded.start.boot_clock_offset_ns, changes=judge.change_table.words
    )
    handshakes = list(chain.from_iterable(composer.compose(batch) for batch in batches))
    ts, counters = handshakes[-1].ts, dict(recorded.counters)
    sheet = msgspec.structs.replace(recorded.balance, received=len(handshakes))
    return (
        recorded.start,
        *handshakes,
        NoticeRecord(SCHEMA, ts, "interface_down", "eth9 is down", "eth9"),
        Stats(SCHEMA, ts, sheet, counters, totals.totals()),
        End(SCHEMA, ts, "duration", 0, 20.0, totals.totals(), sheet, counters, benefit.benefits()),
    )


def handshakes() -> list[Handshake]:
    """The handshakes among them."""
    return [record for record in run_records() if isinstance(record, Handshake)]


def as_lines(records: tuple[Record, ...] | list[Handshake]) -> bytes:
    """One JSON object per line, like --json and -w."""
    return b"".join(_encode(record) + b"\n" for record in records)
