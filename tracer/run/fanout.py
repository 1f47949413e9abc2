"""The sinks of a run, and the observers of its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tracer.errors import EndedEarlyError
from tracer.handshake.batch import Batch
from tracer.linux.clock import wall_now
from tracer.records.record import SCHEMA
from tracer.records.run import End, NoticeRecord, Start
from tracer.run.stop import Ending, Quota
from tracer.sinks.base import Observer, Reopens, Sink, SinkClosedError, SinkFullError, StatusListener, TakesPackets

Narrate = Callable[[str], None]


@dataclass(slots=True)
class Fanout:
    """Hands everything to every sink. One that breaks gets nothing more, and ends the run.

    `sinks` write output; observers join them later. `narrate` gets sentences for people.
    """

    sinks: list[Sink]
    narrate: Narrate
    quota: Quota = field(default_factory=Quota)
    packet_takers: list[TakesPackets] = field(default_factory=list)
    ending: Ending = field(default_factory=Ending)
    told: list[str] = field(default_factory=list)  # sentences of sinks that go on: each becomes a notice
    writes: bool = field(init=False)  # somebody may be waiting for each record; a capture has its second
    _listeners: list[StatusListener] = field(default_factory=list)
    _has_failed: bool = False
    _left_out: int = 0  # records of the last batch, by the sink that left out most
    _early: list[NoticeRecord] | None = field(default_factory=list)  # held until start(); None after it

    def __post_init__(self) -> None:
        self.writes = len(self.sinks) > len(self.packet_takers)

    def observe(self, observer: Observer) -> None:
        """Add a sink that also gets the state of the run."""
        self.sinks.append(observer)
        self._listeners.append(observer)

    def each(self, act: Callable[[Sink], None]) -> None:
        """Do something with every sink. A reader that left (a closed pipe) ends the run, but this is not a failure."""
        broken = []
        for sink in self.sinks:
            try:
                act(sink)
            except SinkClosedError:  # noqa: PERF203 - one that fails must not keep the others
                broken.append(sink)
                self.ending.set("the reader has gone", 0)
            except SinkFullError as error:
                self._left_out = max(self._left_out, error.records)
            except EndedEarlyError as error:
                broken.append(sink)
                self._has_failed = True
                self.ending.set(str(error), int(error.exit_code))
        self.sinks = [sink for sink in self.sinks if sink not in broken]
        while self.told:
            text = self.told.pop(0)
            self.narrate(text)
            self.notice(NoticeRecord(SCHEMA, wall_now(), "folder_in_the_way", text, None))

    def start(self, record: Start) -> None:
        """Give every sink the first record, then the notices that came before it."""
        self.each(lambda sink: sink.start(record))
        early, self._early = self._early or [], None
        for notice in early:
            self.notice(notice)

    def notice(self, record: NoticeRecord) -> None:
        """Give every sink a notice, but none before start()."""
        if self._early is not None:
            self._early.append(record)
        else:
            self.each(lambda sink: sink.notice(record))

    def tell(self, act: Callable[[StatusListener], None]) -> None:
        """Tell every observer about the state of the run."""
        for listener in self._listeners:
            act(listener)

    def write(self, batch: Batch) -> int:
        """Write a batch; return how many handshakes some sink did not write, now or since it broke."""
        self._left_out = 0
        self.each(lambda sink: sink.write(batch))
        return len(batch) if self._has_failed else self._left_out

    def reopen(self) -> None:
        """Close files and open them again."""
        self.each(lambda sink: sink.reopen() if isinstance(sink, Reopens) else None)

    def close(self, record: End | None) -> None:
        """Give every sink the last record; narrate a failure."""
        self.each(lambda sink: sink.close(record))
        if self.ending.exit_code:
            self.narrate(str(self.ending.reason))
