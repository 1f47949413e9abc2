"""What one place saw: a slim row for each handshake, and when the place was watching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.batch import Batch
from tracer.handshake.events import Events
from tracer.records.run import Balance, End, NoticeRecord, Start, Stats

# a SYN or SYN-ACK; `options` is an index into Place.layouts
SEGMENT = np.dtype([
    ("seq", "<u4"), ("ack", "<u4"), ("ts_val", "<u4"), ("options", "<u4"), ("payload_len", "<u2"), ("window", "<u2"),
    ("mss", "<u2"), ("has", "<u2"), ("tcp_flags", "<u2"), ("wscale", "u1"), ("ttl", "u1"), ("cookie_len", "u1"),
])  # fmt: skip
_COPIED = (
    "id", "syn_ns", "synack_ns", "ack_ns", "response_ns", "client", "server", "client_port", "server_port", "ifindex",
    "family", "result", "reason", "syn_count", "synack_count", "synack_isns", "reset_from", "reset_ttl", "one_way",
    "resumed", "request_repeats",
)  # fmt: skip
# Times are nanoseconds on this place's wall clock; what did not happen is 0.
ROW = np.dtype([
    ("id", "<u8"), ("syn_ns", "<i8"), ("synack_ns", "<i8"), ("ack_ns", "<i8"), ("response_ns", "<i8"),
    ("client", "u1", 16), ("server", "u1", 16), ("client_port", "<u2"), ("server_port", "<u2"), ("ifindex", "<u4"),
    ("family", "u1"), ("result", "u1"), ("reason", "u1"), ("syn_count", "u1"), ("synack_count", "u1"),
    ("synack_isns", "u1"), ("reset_from", "u1"), ("reset_ttl", "u1"), ("one_way", "u1"), ("resumed", "u1"),
    ("request_us", "<f8"), ("request_repeats", "u1"), ("vantage", "u1"), ("after", "u1"), ("syn", SEGMENT),
    ("synack", SEGMENT),
])  # fmt: skip
Rows = NDArray[np.void]  # of ROW
SECOND_NS = 1_000_000_000
RESPONSE_TIMEOUT_NS = 5 * SECOND_NS  # where the command line does not say otherwise
# words of a command line after which not every handshake has a record
_SELECTING = ("--filter", "-f", "--filter-record", "--count", "-c", "--local")


@dataclass(slots=True)
class Layouts:
    """The layouts of options that were met, by number: their option bytes without values, as recordings have them."""

    known: list[bytes] = field(default_factory=list)
    _numbers: dict[bytes, int] = field(default_factory=dict)

    def numbers(self, segments: Events) -> NDArray[np.uint32]:
        """The number of each segment's layout."""
        lengths = segments["options_len"].astype(np.intp)
        width = segments["options"].shape[1]
        both = np.concatenate((segments["options"], segments["options_len"][:, None]), axis=1)
        both[:, :-1][np.arange(width) >= lengths[:, None]] = 0
        flat = np.ascontiguousarray(both).view(f"V{width + 1}").ravel()
        found, inverse = np.unique(flat, return_inverse=True)
        numbers = np.array([self._number(one.tobytes()) for one in found], np.uint32)
        taken: NDArray[np.uint32] = numbers[inverse]
        return taken

    def _number(self, padded: bytes) -> int:
        layout = padded[: padded[-1]]
        number = self._numbers.setdefault(layout, len(self.known))
        if number == len(self.known):
            self.known.append(layout)
        return number


@dataclass(slots=True)
class Place:
    """A sink that keeps what a comparison needs of each handshake, some 220 bytes.

    `interface`: of several in the recording, the one that counts; None for all.
    """

    name: str
    layouts: Layouts
    interface: str | None = None
    interfaces: dict[int, str] = field(default_factory=dict)
    began_ns: int = 0  # on this place's wall clock, likewise:
    argv: Sequence[str] = ()
    balance: Balance | None = None
    is_capture: bool = False
    ended_ns: int = 0
    is_complete: bool = True  # one run was read, whole
    _chunks: list[Rows] = field(default_factory=list)

    # --- the methods of a sink ---

    def start(self, record: Start) -> None:
        """The first run of the recording begins."""
        self.argv = record.argv
        # a replay's own beginning and end are not those of the capture
        self.is_capture = any(one.hook == "replay" for one in record.interfaces)
        self.began_ns = 0 if self.is_capture else wall_ns(record.ts)

    def write(self, batch: Batch) -> None:
        """Keep what counts of a batch."""
        self._chunks.append(_slim(batch, self.layouts))

    def notice(self, _record: NoticeRecord) -> None:
        """Nothing to keep."""

    def stats(self, record: Stats) -> None:
        """The latest balance counts."""
        self.balance = record.balance

    def tick(self) -> None:
        """Nothing to do."""

    def close(self, record: End | None) -> None:
        """The recording is over."""
        if record is not None:
            self.ended_ns = 0 if self.is_capture else wall_ns(record.ts)
            self.balance = record.balance or self.balance

    # --- the result ---

    def rows(self) -> Rows:
        """One row for each handshake, by its id: the first record of each, in the order of ids.

        `resumed` is set if any record of the handshake has it: then the first one does not tell all.
        """
        everything = np.concatenate(self._chunks) if self._chunks else np.zeros(0, ROW)
        self._chunks = [everything]
        if self.interface is not None:
            wanted = [index for index, name in self.interfaces.items() if name == self.interface]
            everything = take(everything, np.flatnonzero(np.isin(everything["ifindex"], wanted)))
        order = np.lexsort((everything["syn_ns"], everything["id"]))
        ids = everything["id"][order]
        first = np.ones(len(ids), np.bool_)
        first[1:] = ids[1:] != ids[:-1]
        rows = take(everything, order[first])
        if len(rows):
            rows["resumed"] = np.maximum.reduceat(everything["resumed"][order], np.flatnonzero(first))
        return rows

    @property
    def is_whole(self) -> bool:
        """Has every handshake that passed here a record?

        Not where some were lost, where only some were wanted, in a cut recording, or between several runs.
        """
        lost = self.balance is not None and (self.balance.lost, self.balance.evicted, self.balance.suppressed) != (
            0,
            0,
            0,
        )
        dropped = self.balance is not None and self.balance.dropped != 0
        selects = any(word.split("=")[0] in _SELECTING for word in self.argv)
        return self.is_complete and not lost and not dropped and not selects

    @property
    def response_timeout_ns(self) -> int | None:
        """How long this place waited for a response; None if its command line says so in other words than seconds."""
        words = [part for word in self.argv for part in word.split("=", 1)]
        if "--response-timeout" not in words:
            return RESPONSE_TIMEOUT_NS
        try:
            return int(float(words[words.index("--response-timeout") + 1]) * SECOND_NS)
        except (IndexError, ValueError, OverflowError):
            return None

    def span(self, rows: Rows) -> tuple[int, int]:
        """From when to when this place surely watched, ns on its clock. `rows` are its own.

        Of a capture that is from the first to the last segment that counted.
        """
        if not len(rows):
            return 0, 0
        begins = self.began_ns or int(rows["syn_ns"].min())
        if self.ended_ns:
            return begins, self.ended_ns
        last = max(int(rows[name].max()) for name in ("syn_ns", "synack_ns", "ack_ns", "response_ns"))
        return begins, last


def wall_ns(ts: str) -> int:
    """A time of a record as nanoseconds since 1970. 0 if it is none."""
    try:
        return int(np.datetime64(ts.rstrip("Z"), "ns").astype(np.int64))
    except ValueError:
        return 0


def take(rows: Rows, chosen: NDArray[np.intp]) -> Rows:
    """Some rows, copied as bytes."""
    found: Rows = np.ascontiguousarray(rows).view(f"V{ROW.itemsize}")[chosen].view(ROW)
    return found


def _slim(batch: Batch, layouts: Layouts) -> Rows:
    events, rows = batch.events, np.zeros(len(batch), ROW)
    for name in _COPIED:
        rows[name] = events[name]
    rows["vantage"], rows["after"] = batch.vantage, batch.verdicts.after
    rows["request_us"] = batch.durations.first_request_us
    for name in ("syn", "synack"):
        segment, slim = events[name], rows[name]
        for member in SEGMENT.names or ():
            if member != "options":
                slim[member] = segment[member]
        slim["options"] = layouts.numbers(segment)
    return rows
