"""--filter-record: which handshakes are written. Sums, balance and the dashboard's store go on seeing every one."""

from __future__ import annotations

import numpy as np

from tracer.encode.batch_rows import part_of
from tracer.encode.composer import Composer
from tracer.filters.filter import Filter
from tracer.handshake.batch import Batch
from tracer.handshake.events import Bool
from tracer.handshake.payloads import classified
from tracer.records.record import End, NoticeRecord, Start, Stats
from tracer.sinks.base import Reopens, Sink
from tracer.store.chunks import CHUNK_ROWS

_OF_PAYLOADS = ("payload.", "tls.", "http.", "dns.")


class RecordFilter:
    """Judges each batch once, however many sinks ask."""

    def __init__(self, expression: Filter, composer: Composer) -> None:
        self._expression = expression
        self._composer = composer
        self._looks_into_payloads = any(name.startswith(_OF_PAYLOADS) for name in expression.fields)
        self._batch: Batch | None = None
        self._mask: Bool = np.zeros(0, np.bool_)
        self._chosen: Batch | None = None

    def mask(self, batch: Batch) -> Bool:
        """Which handshakes of a batch pass?"""
        if batch is not self._batch:
            self._batch, self._chosen = batch, None
            pieces = [self._mask_of(batch.rows(at, at + CHUNK_ROWS)) for at in range(0, len(batch), CHUNK_ROWS)]
            self._mask = np.concatenate(pieces) if pieces else np.zeros(0, np.bool_)
        return self._mask

    def _mask_of(self, rows: Batch) -> Bool:
        payloads = classified(rows) if self._looks_into_payloads else {}
        return self._expression.mask(part_of(rows, self._composer, payloads))

    def choose(self, batch: Batch) -> Batch:
        """The handshakes that pass, in their order."""
        mask = self.mask(batch)
        if self._chosen is None:
            self._chosen = batch if mask.all() else batch.select(np.flatnonzero(mask))
        return self._chosen

    def until(self, batch: Batch, count: int) -> Batch:
        """The beginning of a batch that ends with the `count`th handshake that passes; all of it if fewer pass."""
        places = np.flatnonzero(self.mask(batch))
        return batch if len(places) <= count else batch.rows(0, int(places[count - 1]) + 1)

    def passing(self, batch: Batch) -> int:
        """How many pass."""
        return int(np.count_nonzero(self.mask(batch)))


class Filtered:
    """A sink that is given only what passes; records about the run reach it as they are."""

    def __init__(self, sink: Sink, record_filter: RecordFilter) -> None:
        self._sink = sink
        self._filter = record_filter

    def start(self, record: Start) -> None:
        """Handed on."""
        self._sink.start(record)

    def write(self, batch: Batch) -> None:
        """Hand on what passes."""
        chosen = self._filter.choose(batch)
        if len(chosen):
            self._sink.write(chosen)

    def notice(self, record: NoticeRecord) -> None:
        """Handed on."""
        self._sink.notice(record)

    def stats(self, record: Stats) -> None:
        """Handed on: the sums are those of all handshakes."""
        self._sink.stats(record)

    def tick(self) -> None:
        """Handed on."""
        self._sink.tick()

    def reopen(self) -> None:
        """Handed on to a sink that has files."""
        if isinstance(self._sink, Reopens):
            self._sink.reopen()

    def close(self, record: End | None) -> None:
        """Handed on."""
        self._sink.close(record)
