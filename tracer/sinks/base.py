"""What a sink is: start, write batches, tick, close. The pipeline drives all sinks alike."""

from __future__ import annotations

from typing import Protocol

from tracer.decode import Batch
from tracer.records import End, NoticeRecord, Start, Stats


class SinkClosedError(Exception):
    """The reader has gone (a closed pipe): an end as asked, not a failure."""


class Sink(Protocol):
    """A consumer of records. Methods raise SinkClosedError when the reader left, EndedEarlyError when it broke."""

    def start(self, record: Start) -> None: ...
    def write(self, batch: Batch) -> None: ...
    def notice(self, record: NoticeRecord) -> None: ...
    def stats(self, record: Stats) -> None: ...
    def tick(self) -> None: ...
    def close(self, record: End | None) -> None: ...
