"""Replays recorded JSON lines: hands the records to the sinks as if they happened now. Needs no root.

A file can hold several runs (appended, concatenated), which become one: the first run's `start`, everything between,
one `end`; a notice says where a later run begins. A single whole recording comes out as it went in.
"""

from __future__ import annotations

import os
import platform
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.benefit import BenefitTable
from tracer.aggregate.summary import summarize
from tracer.aggregate.unread import Source
from tracer.errors import UsageError
from tracer.ipc.traced import TracedInterface
from tracer.linux import privileges
from tracer.records.record import SCHEMA, Handshake
from tracer.records.run import Balance, End, NoticeRecord, Start, Stats
from tracer.replay.columns import BatchBuilder, RecordedComposer, is_time
from tracer.replay.input import Input
from tracer.replay.lines import Bad, Line, Problems, read_lines
from tracer.replay.progress import Progress
from tracer.run.assembly import Assembly
from tracer.run.fanout import Fanout, Narrate
from tracer.run.stop import Ending, StopRequest
from tracer.version import __version__
from tracer.vocabulary.packets import not_read

BATCH_ROWS = 1000
CONTINUED = "continued"  # the notice at the end of a file that was rotated (sinks/jsonl.py)
COUNTERS_MAX = 1000  # how many names are summed up; there are about 40
_NO_BALANCE = Balance(0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class _Run:
    """One recorded run, as far as it has been read."""

    first_ts: str
    last_ts: str
    balance: Balance = _NO_BALANCE
    counters: dict[str, int] = field(default_factory=dict)
    end: End | None = None
    continued: bool = False  # the file says that the run continues in another one

    @property
    def duration_s(self) -> float:
        """From its `end`, otherwise from the first record's time to the last one's."""
        if self.end is not None:
            return self.end.duration_s
        if not is_time(self.first_ts) or not is_time(self.last_ts):
            return 0.0
        span = np.datetime64(self.last_ts[:-1], "ns") - np.datetime64(self.first_ts[:-1], "ns")
        return max(0.0, float(span.astype(np.int64)) / 1e9)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over some recorded runs."""

    balance: Balance = _NO_BALANCE
    counters: dict[str, int] = field(default_factory=dict)
    duration_s: float = 0.0
    unfinished: int = 0  # how many have no end and do not continue in another file
    balance_is_known: bool = True  # every one has its end, and so its balance

    def plus(self, run: _Run) -> _Sums:
        """The sums with one more run."""
        sheets = (msgspec.structs.astuple(self.balance), msgspec.structs.astuple(run.balance))
        counters = dict(self.counters)
        for name, value in run.counters.items():
            if name in counters or len(counters) < COUNTERS_MAX:
                counters[name] = counters.get(name, 0) + value
        return _Sums(
            Balance(*map(sum, zip(*sheets, strict=True))),
            counters,
            self.duration_s + run.duration_s,
            self.unfinished + (run.end is None and not run.continued),
            self.balance_is_known and run.end is not None and run.end.balance is not None,
        )


@dataclass(slots=True)
class _Runs:
    """All recorded runs: the last one, and only the sums of earlier ones, since a file can hold any number."""

    count: int = 0
    last: _Run | None = None
    _before: _Sums = field(default_factory=_Sums)

    def begin(self, run: _Run) -> None:
        """Another one."""
        self._before = self.sums()
        self.last = run
        self.count += 1

    def sums(self) -> _Sums:
        """Of all runs."""
        return self._before.plus(self.last) if self.last is not None else self._before


@dataclass(slots=True)
class RecordReplay:
    """Reads `sources` to their end, one after the other, and hands everything to the sinks."""

    sources: Sequence[Input]
    composer: RecordedComposer
    rows: BatchBuilder
    fanout: Fanout
    argv: tuple[str, ...]
    stop: StopRequest
    summarizes: bool = True  # at the end, for people
    aggregate: Aggregate = field(default_factory=Aggregate)
    benefit: BenefitTable = field(default_factory=BenefitTable)
    _problems: Problems = field(default_factory=Problems)  # of the file that is being read
    _had_problems: bool = False
    _runs: _Runs = field(default_factory=_Runs)
    _waiting: list[Line] = field(default_factory=list)
    _known_interfaces: int = 0
    _progress: Progress = field(init=False)
    _ending: Ending = field(init=False)

    def __post_init__(self) -> None:
        sizes = [one.size for one in self.sources if one.size is not None]
        self._progress = Progress(sum(sizes) if len(sizes) == len(self.sources) else None, "handshakes")
        self._ending = self.fanout.ending

    def run(self) -> int:
        """Replay; returns the exit code. Sinks are closed.

        Raises:
            UsageError: there is no record in it.
        """
        for source in self.sources:
            self._read(source)
            if self._ending.reason is not None or self.stop.reason is not None:
                break
        if self.stop.reason is not None:
            self._ending.set(self.stop.reason, 0)
        self._progress.clear()
        self._tell_unfinished()
        self._close()
        return self._ending.exit_code

    def _read(self, source: Input) -> None:
        self._problems = Problems()
        for lines in read_lines(source, self._problems):
            for line in lines:
                self._take(line)
                if self._ending.reason is not None:
                    break
            self._flush()
            self.fanout.each(lambda sink: sink.tick())
            self._progress.show(sum(one.position for one in self.sources), self.aggregate.handshakes)
            if self._ending.reason is not None or self.stop.reason is not None:
                break
        self._progress.clear()
        self._tell_problems(source)

    # --- records ---

    def _take(self, line: Line) -> None:
        record = line.record
        if isinstance(record, Handshake):
            self._begin(record.ts)
            self._waiting.append(line)
            if len(self._waiting) >= BATCH_ROWS or self.fanout.quota.is_met(len(self._waiting)):
                self._flush()
            return
        self._flush()
        match record:
            case Start():
                self._start(record)
            case Stats():
                run = self._begin(record.ts)
                run.balance, run.counters = record.balance, record.counters
                sums = self._runs.sums()
                self.fanout.tell(lambda one: one.set_balance(sums.balance, sums.counters))
                self.fanout.each(lambda sink: sink.stats(record))
            case NoticeRecord():
                self._begin(record.ts).continued = record.kind == CONTINUED
                self.fanout.each(lambda sink: sink.notice(record))
            case End():
                run = self._begin(record.ts)
                run.counters, run.end = record.counters, record
                if record.balance is not None:
                    run.balance = record.balance

    def _start(self, record: Start) -> None:
        for one in record.interfaces:
            self.rows.interfaces.add(
                TracedInterface(one.index, one.name, one.hook, one.why, list(one.others), list(one.warnings), one.group)
            )
        if record.part > 1 and self._runs.last is not None and self._runs.last.continued:
            return  # files of one run, one after the other
        self._runs.begin(_Run(record.ts, record.ts))
        if self._runs.count == 1:
            self.rows.begin(record.ts)
            self.fanout.each(lambda sink: sink.start(record))
        else:
            text = f"here begins another recorded run: {' '.join(record.argv)}"
            notice = NoticeRecord(SCHEMA, record.ts, "another_run", text, None)
            self.fanout.each(lambda sink: sink.notice(notice))

    def _begin(self, ts: str) -> _Run:
        """The run that a record belongs to. A run whose `start` is not in the file begins here."""
        if self._runs.last is None:
            self._start(Start(SCHEMA, ts, __version__, self.argv, platform.release(), (), "ring", 0, 0))
        assert self._runs.last is not None
        self._runs.last.last_ts = ts
        return self._runs.last

    def _flush(self) -> None:
        lines, self._waiting = self._waiting, []
        if not lines or self._ending.reason is not None:
            return
        batch, bad = self.rows.batch([_handshake(line) for line in lines])
        for place in bad:
            self._problems.add(Bad.INVALID, lines[place].number)
        wrong = set(bad)
        kept = [line for place, line in enumerate(lines) if place not in wrong]
        if not kept:
            return
        self.composer.add(batch, [_handshake(line) for line in kept], [line.raw for line in kept])
        if len(self.composer.interfaces) != self._known_interfaces:
            self._known_interfaces = len(self.composer.interfaces)
            self.fanout.tell(lambda one: one.set_interfaces(self.composer.interfaces.values()))
        batch = self.fanout.quota.take(batch)
        self.aggregate.add(batch)
        self.benefit.add(batch)
        self.fanout.write(batch)
        if self.fanout.quota.is_met():
            self._ending.set("count", 0)

    # --- the end ---

    def _tell_problems(self, source: Input) -> None:
        if self._runs.last is None and self._ending.reason is None and source is self.sources[-1]:
            self._problems.forget(Bad.FOREIGN)  # not one line of it is tfotrace's: one sentence says so
        self._had_problems |= bool(self._problems.counts)
        for text in self._problems.sentences(source.name):
            self.fanout.narrate(text)
        if source.broken is not None and self._ending.reason is None:
            self.fanout.narrate(f"{source.name}: the compressed file is cut or damaged: {source.broken}")

    @property
    def _name(self) -> str:
        """Of what is read, for people."""
        more = len(self.sources) - 1
        return self.sources[0].name + (f" and {more} more" if more else "")

    def _tell_unfinished(self) -> None:
        if self._runs.last is None:
            if self._ending.reason is None:
                raise UsageError(f"{self._name} holds no record of tfotrace: give a file of -w or --json, or a capture")
            return
        unfinished = self._runs.sums().unfinished
        if unfinished and self._ending.reason is None:
            what = "the recording has" if self._runs.count == 1 else f"{unfinished} of {self._runs.count} runs have"
            self.fanout.narrate(f"{self._name}: {what} no end record: cut, killed, or still being written")

    @property
    def is_whole(self) -> bool:
        """Was one run read, from its `start` to its `end`, without skipping a line?"""
        last = self._runs.last
        ended = last is not None and last.end is not None
        return ended and self._runs.count == 1 and self._ending.reason is None and not self._had_problems

    def _close(self) -> None:
        last, sums = self._runs.last, self._runs.sums()
        if last is None:
            self.fanout.close(None)
            return
        totals, benefits = self.aggregate.totals(), self.benefit.benefits()
        record = last.end
        if record is None or not self.is_whole:
            record = End(
                SCHEMA, last.last_ts, self._ending.reason or f"all of {os.path.basename(self._name)} was read",
                self._ending.exit_code, round(sums.duration_s, 3), totals,
                sums.balance if sums.balance_is_known else None, sums.counters, benefits,
                not_read=not_read(sums.counters),
            )  # fmt: skip
        self.fanout.close(record)
        if not self.summarizes:
            return
        record = msgspec.structs.replace(record, totals=totals, benefits=benefits)
        summarize(record, self.fanout.narrate, source=Source.RECORDS)


def _handshake(line: Line) -> Handshake:
    assert isinstance(line.record, Handshake)
    return line.record


def replay_records(
    sources: Sequence[Input], options: Namespace, argv: tuple[str, ...], user: privileges.User | None, narrate: Narrate
) -> int:
    """Replay open JSON lines as `user`; returns the exit status.

    Raises:
        TfotraceError: it cannot begin, or there is no record in it.
    """
    assembly = Assembly(options, narrate)
    for source in sources:
        source.end_when(lambda: assembly.stop.reason is not None)
    assembly.become(user)
    rows = BatchBuilder()
    composer = RecordedComposer(rows.interfaces, options.keep if assembly.app is not None else 0)
    fanout = assembly.open(composer)
    run = RecordReplay(sources, composer, rows, fanout, argv, assembly.stop)
    return assembly.run(run, clock=lambda: rows.settled_ns, replay_of=os.path.basename(sources[0].name))
