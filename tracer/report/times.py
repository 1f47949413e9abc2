"""Times of day on a page: local ones or UTC, with the date where a run has several days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo

from tracer.aggregate.history import NS_PER_S
from tracer.words.verdicts import Ago

_DAY_S = 86_400
# round distances of marks on an axis, seconds
_MARKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, _DAY_S)
MARKS = 7  # at most, roughly


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a run goes, nanoseconds since 1970. `zone`: None for local time."""

    began_ns: int
    ended_ns: int
    zone: tzinfo | None = None

    def _at(self, seconds: float) -> datetime:
        try:
            return datetime.fromtimestamp(seconds, timezone.utc).astimezone(self.zone)
        except (OverflowError, ValueError, OSError):  # a record's time may be anything
            return datetime.fromtimestamp(0, timezone.utc)

    @property
    def has_days(self) -> bool:
        """Does it begin and end on different days?"""
        return self._at(self.began_ns / NS_PER_S).date() != self._at(self.ended_ns / NS_PER_S).date()

    def time(self, seconds: float) -> str:
        """The time of day, to a second."""
        return self._at(seconds).strftime("%Y-%m-%d %H:%M:%S" if self.has_days else "%H:%M:%S")

    def moment(self, ts: str) -> str:
        """A record's time, RFC 3339, to a millisecond; as it is if it is none."""
        try:
            at = datetime.fromisoformat(f"{ts[:23]}+00:00").astimezone(self.zone)
        except (ValueError, OverflowError):
            return ts
        return f"{at.strftime('%Y-%m-%d %H:%M:%S')}.{at.microsecond // 1000:03d} {_offset(at)}"

    def whole(self) -> str:
        """Begin, end and zone."""
        began, ended = self._at(self.began_ns / NS_PER_S), self._at(self.ended_ns / NS_PER_S)
        last = ended.strftime("%Y-%m-%d %H:%M:%S" if self.has_days else "%H:%M:%S")
        zone, first_zone = _offset(ended), _offset(began)
        before = f" {first_zone}" if first_zone != zone else ""  # the clocks were changed meanwhile
        return f"{began.strftime('%Y-%m-%d %H:%M:%S')}{before} to {last} {zone}"

    def marks(self, began_s: int, size_s: int, bins: int) -> dict[int, str]:
        """The bins of an axis that have a mark, and its words: round times."""
        span_s = size_s * bins
        apart = next((one for one in _MARKS if span_s / one <= MARKS), -(-span_s // (MARKS * _DAY_S)) * _DAY_S)
        offset = self._at(began_s).utcoffset()
        off_s = int(offset.total_seconds()) if offset is not None else 0
        first = -(-(began_s + off_s) // apart) * apart - off_s
        form = "%m-%d" if apart >= _DAY_S else "%H:%M:%S" if apart < 60 else "%H:%M"
        marks = {}
        for mark in range(first, began_s + span_s, apart):
            at = self._at(mark)
            is_midnight = at.hour == at.minute == at.second == 0
            marks[(mark - began_s) // size_s] = at.strftime("%m-%d" if is_midnight else form)
        return marks


def _offset(time: datetime) -> str:
    text = time.strftime("%z")
    return f"UTC{text[:3]}:{text[3:]}" if text.strip("+-0") else "UTC"


@dataclass(frozen=True, slots=True)
class At(Ago):
    """Says of a moment so many seconds before the end what the time was."""

    span: Span

    def _time(self, seconds: int) -> str:
        return self.span.time(self.span.ended_ns // NS_PER_S - seconds)

    def at(self, seconds: int) -> str:
        """To stand behind what happened then."""
        return f"at {self._time(seconds)}"

    def until(self, seconds: int) -> str:
        """Likewise behind what went on until then."""
        return f"until {self._time(seconds)}"
