"""--filter-record: chooses which handshakes are written. Sums, balance and the dashboard's store still see all."""

from __future__ import annotations

import numpy as np

from tracer.encode.composer import Composer
from tracer.filters.filter import Filter
from tracer.handshake.batch import Batch
from tracer.handshake.events import Bool
from tracer.handshake.payloads import classified
from tracer.handshake.rows import rows_of
from tracer.records.run import End, NoticeRecord, Start, Stats
from tracer.sinks.base import Reopens, Sink
from tracer.store.chunks import CHUNK_ROWS

_OF_PAYLOADS = ("payload.", "tls.", "http.", "dns.")


class RecordFilter:
    """Evaluates the filter once per batch, however many sinks ask."""

    def __init__(self, expression: Filter, composer: Composer) -> None:
        self._expression = expression
        self._composer = composer
        self._looks_into_payloads = any(name.startswith(_OF_PAYLOADS) for name in expression.fields)
        self._batch: Batch | None = None
        self._mask: Bool = np.zeros(0, np.bool_)
        self._chosen: Batch | None = None

    def mask(self, batch: Batch) -> Bool:
        """Which handshakes of a batch pass the filter?"""
        if batch is not self._batch:
            self._batch, self._chosen = batch, None
            pieces = [self._mask_of(batch.rows(at, at + CHUNK_ROWS)) for at in range(0, len(batch), CHUNK_ROWS)]
            self._mask = np.concatenate(pieces) if pieces else np.zeros(0, np.bool_)
        return self._mask

    def _mask_of(self, rows: Batch) -> Bool:
        kinds = classified(rows) if self._looks_into_payloads else None
        return self._expression.mask(rows_of(rows, self._composer, self._composer.offset_ns, kinds))

    def choose(self, batch: Batch) -> Batch:
        """The handshakes that pass, in order."""
        mask = self.mask(batch)
        if self._chosen is None:
            self._chosen = batch if mask.all() else batch.select(np.flatnonzero(mask))
        return self._chosen

    def until(self, batch: Batch, count: int) -> Batch:
        """The batch up to its `count`th passing handshake; all of it if fewer pass."""
        places = np.flatnonzero(self.mask(batch))
        return batch if len(places) <= count else batch.rows(0, int(places[count - 1]) + 1)

    def passing(self, batch: Batch) -> int:
        """How many handshakes pass."""
        return int(np.count_nonzero(self.mask(batch)))


class Filtered:
    """Passes a sink only the chosen handshakes, and all records about the run."""

    def __init__(self, sink: Sink, record_filter: RecordFilter) -> None:
        self._sink = sink
        self._filter = record_filter

    def start(self, record: Start) -> None:
        """Passed on."""
        self._sink.start(record)

    def write(self, batch: Batch) -> None:
        """Pass on the chosen handshakes."""
        chosen = self._filter.choose(batch)
        if len(chosen):
            self._sink.write(chosen)

    def notice(self, record: NoticeRecord) -> None:
        """Passed on."""
        self._sink.notice(record)

    def stats(self, record: Stats) -> None:
        """Passed on: the sums cover all handshakes."""
        self._sink.stats(record)

    def tick(self) -> None:
        """Passed on."""
        self._sink.tick()

    def reopen(self) -> None:
        """Passed on if the sink has files."""
        if isinstance(self._sink, Reopens):
            self._sink.reopen()

    def close(self, record: End | None) -> None:
        """Passed on."""
        self._sink.close(record)
