"""One readable line a handshake, aligned as tcplife's are: when, what came of it and why, who, and what else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.records.fate import standing
from tracer.records.record import Handshake
from tracer.records.run import End, NoticeRecord, Start, Stats
from tracer.sinks import text_columns
from tracer.sinks.base import SinkFullError
from tracer.sinks.stream import Stream
from tracer.store.list_columns import UNKNOWN, ListColumn
from tracer.vocabulary import local_time
from tracer.vocabulary.printable import cells

# SGR codes; colour never carries meaning alone, the words are there too
_COLOURS = {"degraded": "33", "failed": "31"}
_JUDGED = ("result", "cause", "outcome", "standing")


def wants_colour(is_terminal: bool, environment: Mapping[str, str] = os.environ) -> bool:
    """Colour on a terminal, unless NO_COLOR (no-color.org) is set to anything or the terminal is dumb."""
    return is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class Lines:
    """Makes the lines of a run; each ends without a newline. Strings from the network are safe to print."""

    def __init__(self, columns: Sequence[ListColumn], colour: bool = False) -> None:
        self._columns = columns
        self._colour = colour
        self._has_time = any(one.name == "time" for one in columns)
        self._told = ""  # the day and the zone of the lines above
        self._has_head = False

    def of(self, records: Iterable[Handshake]) -> list[str]:
        """The lines of records: before the first those that say how to read them, and where day or zone changes
        another one that says so."""
        found = []
        for record in records:
            if self._has_time:
                told = f"{local_time.day(record.ts)}, times in {local_time.zone(record.ts)}"
                if told != self._told:
                    found.append(told)
                    self._told = told
            if not self._has_head:
                found.append(self._line([one.title.upper() for one in self._columns], None))
                self._has_head = True
            found.append(self._line([one.text(record) for one in self._columns], record))
        return found

    def _line(self, texts: list[str], record: Handshake | None) -> str:
        code = _COLOURS.get(standing(record) or "") if record is not None and self._colour else None
        parts, over = [], 0
        for column, text in zip(self._columns, texts, strict=True):
            room = column.width - (len(text) if text.isascii() else cells(text))
            gap = " " * max(0, room - over)
            over = max(0, over - room)  # what is too long takes the room of those behind it
            if code is not None and column.name in _JUDGED and text != UNKNOWN:
                text = f"\x1b[{code}m{text}\x1b[0m"
            parts.append(gap + text if column.right else text + gap)
        if self._columns[-1] is text_columns.NOTES and texts[-1] == UNKNOWN:
            parts.pop()
        return " ".join(parts).rstrip(" ")


class Text:
    """Writes handshakes as lines; the pipeline writes notices and statistics to standard error."""

    def __init__(
        self, stream: Stream, composer: Composer, colour: bool = False, fields: Sequence[str] | None = None
    ) -> None:
        """`fields`: names of text_columns.py; None: the usual ones."""
        self._stream = stream
        self._composer = composer
        self._colour = colour
        self._fields = fields
        self._lines = Lines(text_columns.columns(fields or ()), colour)

    def start(self, record: Start) -> None:
        """Choose the columns; the narration says the rest."""
        self._lines = Lines(text_columns.of_run(self._fields, record), self._colour)

    def write(self, batch: Batch) -> None:
        """Write one line per handshake."""
        if self._stream.is_full():
            raise SinkFullError(len(batch))
        lines = self._lines.of(self._composer.compose(batch))
        if lines:
            self._stream.write(("\n".join(lines) + "\n").encode())

    def notice(self, record: NoticeRecord) -> None:
        """Do nothing: the narration says it."""

    def stats(self, record: Stats) -> None:
        """Do nothing: the balance is in the summary."""

    def tick(self) -> None:
        """Offer the buffer to the reader; notice one that left."""
        self._stream.tick()

    def close(self, record: End | None) -> None:  # noqa: ARG002 - the summary says it
        """Close the stream."""
        self._stream.close()
