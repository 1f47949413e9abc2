"""JSON lines (DESIGN.md section 3): one object per line, always valid UTF-8, one write per batch."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from tracer.encode.composer import PART_MAX, Composer
from tracer.encode.lines import line_maker
from tracer.handshake.batch import Batch
from tracer.linux.clock import wall_now
from tracer.records.record import SCHEMA
from tracer.records.run import End, NoticeRecord, Start, Stats
from tracer.sinks.base import Outlet, SinkFullError

_encoder = msgspec.json.Encoder()
_CONTINUED = "this file is full or was moved away: the run continues in the next one"


def _encoded(record: Start | NoticeRecord | Stats | End) -> bytes:
    return _encoder.encode(record) + b"\n"


def _continued() -> bytes:
    return _encoded(NoticeRecord(SCHEMA, wall_now(), "continued", _CONTINUED, None))


class JsonLines:
    """Writes every record to a stream or file; each file of a run begins with `start`."""

    def __init__(self, stream: Outlet, composer: Composer) -> None:
        self._stream = stream
        self._maker = line_maker(composer)

    def _line(self, record: Start | NoticeRecord | Stats | End) -> None:
        self._stream.write(_encoded(record))

    def start(self, record: Start) -> None:
        """Write the first line of every part."""
        self._stream.begin(lambda part: _encoded(replace(record, part=part)), _continued)

    def write(self, batch: Batch) -> None:
        """Write one line per handshake."""
        # part by part: a full ring would become a hundred megabytes of objects and text
        for done in range(0, len(batch), PART_MAX):
            if self._stream.is_full():
                raise SinkFullError(len(batch) - done)
            for lines in self._maker.lines(batch.rows(done, done + PART_MAX)):
                self._stream.write(lines)

    def notice(self, record: NoticeRecord) -> None:
        """Write one line."""
        self._line(record)

    def stats(self, record: Stats) -> None:
        """Write one line."""
        self._line(record)

    def tick(self) -> None:
        """Let the stream flush its buffer and notice a reader that left."""
        self._stream.tick()

    def reopen(self) -> None:
        """Continue in the file that has the name now."""
        self._stream.reopen()

    def close(self, record: End | None) -> None:
        """Write the last line, unless the run failed before it."""
        if record is not None:
            self._line(record)
        self._stream.close()
