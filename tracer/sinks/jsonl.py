"""JSON lines (DESIGN.md section 3): one object a line, always valid UTF-8, a batch a write."""

from __future__ import annotations

import msgspec

from tracer.compose import Composer
from tracer.decode import Batch
from tracer.records import End, NoticeRecord, Start, Stats
from tracer.sinks.stream import Stream

_encoder = msgspec.json.Encoder()


class JsonLines:
    """Writes every record to a stream."""

    def __init__(self, stream: Stream, composer: Composer) -> None:
        self._stream = stream
        self._composer = composer
        self._buffer = bytearray()

    def _line(self, record: Start | NoticeRecord | Stats | End) -> None:
        self._stream.write(_encoder.encode(record) + b"\n")

    def start(self, record: Start) -> None:
        """First line."""
        self._line(record)

    def write(self, batch: Batch) -> None:
        """A line a handshake; the whole batch is on its way when this returns."""
        # Part by part: a ring full would be a hundred megabytes of objects and text. Not Encoder.encode_lines(), which
        # in msgspec 0.22 never lets go of an iterator, and so of the columns behind it.
        lines = self._buffer
        for part in self._composer.compose_parts(batch):
            for record in part:
                _encoder.encode_into(record, lines, -1)
                lines += b"\n"
            self._stream.write(bytes(lines))
            lines.clear()

    def notice(self, record: NoticeRecord) -> None:
        """One line."""
        self._line(record)

    def stats(self, record: Stats) -> None:
        """One line."""
        self._line(record)

    def tick(self) -> None:
        """Nothing waits here to be flushed; notice a reader that left."""
        self._stream.check()

    def close(self, record: End | None) -> None:
        """Last line, unless the run broke before it."""
        if record is not None:
            self._line(record)
        self._stream.close()
