"""One row per server, and per client where this host is the server: sums and small samples in arrays.

There are at most `limit` peers; when full the table forgets the quarter that has not been seen for longest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.counted import Count, Counted
from tracer.aggregate.figures import Comparison, Peer
from tracer.aggregate.keyindex import END_WORDS, Indexes, KeyIndex, end_keys
from tracer.aggregate.reservoir import Reservoir, ordered
from tracer.aggregate.responses import Responses, Sample
from tracer.handshake.events import F64, U8, U64, Bool, nullable
from tracer.handshake.rows import Rows
from tracer.vocabulary.addresses import endpoint_text, ip_text
from tracer.vocabulary.vocabulary import (
    GROUP_WORDS,
    HANDSHAKE_CAUSE_WORDS,
    RESULT_WORDS,
    HandshakeCause,
    Outcome,
    Vantage,
    word,
)

PEERS_HELD = 4096
PEERS_SHOWN = 1000
RTT_KEPT = 128  # round trips of a peer
COMPARISONS_SHOWN = 20

# of a Comparison, in its order
_DURATIONS = ("tfo_median_us", "normal_median_us", "tfo_p90_us", "normal_p90_us", "rtt_median_us")
_SOONER = ("sooner_us", "sooner_rtts", "sooner_low_us", "sooner_high_us")
_NO_OUTCOME = int(Outcome.UNKNOWN)


@dataclass(slots=True)
class _Columns:
    """The sums of each peer; row = its slot. A table has some thousands of rows, a snapshot the busiest."""

    counts: NDArray[np.int64]  # [n, Count]
    saved_us: F64
    delay_us: F64
    outcome: U8  # of the last handshake
    group: U8  # of that
    seen_ns: NDArray[np.int64]
    causes: NDArray[np.int32]  # [n, HandshakeCause]
    result: U8  # of the last handshake
    cause: U8

    @classmethod
    def empty(cls, rows: int) -> _Columns:
        """Nothing seen yet."""
        return cls(
            np.zeros((rows, len(Count)), np.int64),
            np.zeros(rows),
            np.zeros(rows),
            np.full(rows, _NO_OUTCOME, np.uint8),
            np.zeros(rows, np.uint8),
            np.zeros(rows, np.int64),
            np.zeros((rows, len(HandshakeCause)), np.int32),
            np.zeros(rows, np.uint8),
            np.zeros(rows, np.uint8),
        )

    def clear(self, slots: Indexes) -> None:
        """Reset these."""
        for one in fields(self):
            getattr(self, one.name)[slots] = 0
        self.outcome[slots] = _NO_OUTCOME

    def of(self, slots: Indexes) -> _Columns:
        """A copy of some slots."""
        return _Columns(*(getattr(self, one.name)[slots] for one in fields(self)))


class PeerTable:
    """Peers by key: the address, and for servers the port behind it."""

    def __init__(self, role: str, limit: int = PEERS_HELD) -> None:
        self.role = role
        self.limit = limit
        self._index = KeyIndex(END_WORDS, limit, self._forget)
        self._names: dict[int, str] = {}
        self._columns = _Columns.empty(limit)
        self._rtt = Reservoir(limit, RTT_KEPT)
        # responses are compared server by server only
        self._responses = Responses(limit) if role == "server" else None

    def __len__(self) -> int:
        return len(self._index)

    def add(self, rows: Rows, known: Counted, wanted: Bool | None = None) -> None:
        """Count rows, or those that are `wanted`. At most half of `limit` rows at once."""
        chosen = np.arange(len(rows)) if wanted is None else np.flatnonzero(wanted)
        if not len(chosen):
            return
        slots = self._index.place(end_keys(rows.events, self.role, chosen))
        columns = self._columns
        for count, counted in enumerate(known.counted):
            _add(columns.counts, slots[counted[chosen]], count)
        np.add.at(columns.saved_us, slots, known.saved_us[chosen])
        np.add.at(columns.delay_us, slots, known.delay_us[chosen])
        columns.outcome[slots] = rows.verdicts.outcome[chosen]  # of several the last
        columns.group[slots] = rows.verdicts.group[chosen]
        columns.result[slots] = rows.events["result"][chosen]
        cause = rows.causes.handshake_cause[chosen]
        columns.cause[slots] = cause
        explained = np.flatnonzero(cause)
        if len(explained):
            _add(columns.causes, slots[explained], cause[explained].astype(np.intp))
        np.maximum.at(columns.seen_ns, slots, rows.events["settled_ns"][chosen].astype(np.int64))
        measured = known.rtt_known[chosen]
        self._rtt.add(slots[measured], rows.durations.rtt_us[chosen][measured])
        if self._responses is None:
            return
        accepted = known.counted[Count.LIVED][chosen]
        plain = ~known.counted[Count.WITH_DATA][chosen] & rows.verdicts.lived[chosen]
        durations = rows.durations
        self._responses.add_handshakes(
            slots, accepted, plain, durations.first_response_us[chosen], durations.rtt_us[chosen]
        )
        self._remember_names(slots, known.name[chosen], known.names)

    def _remember_names(self, slots: Indexes, name: NDArray[np.uint16], names: dict[int, str]) -> None:
        latest = np.zeros(self.limit, np.uint16)
        named = name != 0
        latest[slots[named]] = name[named]  # of several the last
        for slot in np.flatnonzero(latest).tolist():
            self._names[slot] = names[latest[slot]]

    def _forget(self, slots: Indexes) -> None:
        self._columns.clear(slots)
        self._rtt.clear(slots)
        if self._responses is not None:
            self._responses.clear(slots)
        for slot in slots.tolist():
            self._names.pop(slot, None)

    def busiest(self) -> _Busiest:
        """Those with most handshakes, the busiest first; among equals the one seen last."""
        live = self._index.live()
        columns = self._columns
        order = np.lexsort((-columns.seen_ns[live], -columns.counts[live, Count.HANDSHAKES]))[:PEERS_SHOWN]
        slots = live[order]
        names = [self._names.get(slot) for slot in slots.tolist()]
        # copy only what can be compared: few servers
        comparable = np.zeros(len(slots), np.bool_)
        samples = np.zeros((2, len(slots)), np.int64)
        if self._responses is not None:
            samples, comparable = self._responses.samples(slots), self._responses.enough(slots)
            sample = self._responses.of(slots[comparable])
        else:
            sample = None
        rtts = self._rtt.counts[slots]
        used = min(RTT_KEPT, int(rtts.max(initial=1)))
        return _Busiest(
            self.role, self._index.keys[slots], names, columns.of(slots), self._rtt.values[slots, :used], rtts, samples,
            comparable, sample,
        )  # fmt: skip

    def comparisons(self) -> tuple[Comparison, ...]:
        """Servers whose first response is known, those with most samples first; ahead of them those with both kinds."""
        responses = self._responses
        if responses is None or not len(self):  # nobody yet: spare the first paint the making of tables
            return ()
        slots = responses.ranked(self._index.live(), COMPARISONS_SHOWN)
        compared = responses.of(slots).compared()
        numbers = zip(
            slots.tolist(), _addresses(self._index.keys[slots], self.role),
            compared.tfo_samples.tolist(), compared.normal_samples.tolist(),
            *(nullable(getattr(compared, name)) for name in _DURATIONS + _SOONER), strict=True,
        )  # fmt: skip
        return tuple(
            Comparison(endpoint_text(ip, port or 0), self._names.get(slot), *rest)
            for slot, (ip, port), *rest in numbers
        )


_OUTCOME_WORDS = [word(outcome) for outcome in Outcome]


@dataclass(frozen=True, slots=True)
class _Busiest:
    """Peers of one table as it is at one moment; the arrays are copies."""

    role: str
    keys: U64
    names: list[str | None]
    columns: _Columns
    rtt: NDArray[np.float32]  # [n, RTT_KEPT], or as many as are used
    rtts: NDArray[np.int64]  # how many there were
    samples: NDArray[np.int64]  # [2, n]: with TFO and without
    comparable: Bool
    sample: Sample | None  # of the comparable ones

    def peers(self) -> Iterator[Peer]:
        """Make the objects."""
        columns = self.columns
        rows = zip(
            _addresses(self.keys, self.role), self.names, columns.counts.tolist(),
            nullable(ordered(self.rtt, self.rtts).quantile(0.5)), np.round(columns.saved_us, 3).tolist(),
            np.round(columns.delay_us, 3).tolist(), columns.outcome.tolist(), columns.group.tolist(),
            columns.seen_ns.tolist(), self.samples.T.tolist(), zip(*self._sooner(), strict=True),
            columns.causes.argmax(axis=1).tolist(), columns.result.tolist(), columns.cause.tolist(), strict=True,
        )  # fmt: skip
        for (ip, port), name, counts, median, saved, delay, outcome, group, seen, samples, sooner, *why in rows:
            handshakes, attempts, accepted, lived, with_data, fallbacks, failed, changes, unfinished = counts
            cause, result, last_cause = why
            sooner_us, sooner_rtts, low_us, high_us = sooner
            with_tfo, without = samples
            last = None if outcome == _NO_OUTCOME else _OUTCOME_WORDS[outcome]
            yield Peer(
                self.role, ip, port, name, handshakes, attempts, accepted, lived, with_data, fallbacks, failed,
                changes, median, saved, last, GROUP_WORDS[group], seen, sooner_us, sooner_rtts,
                unfinished, HANDSHAKE_CAUSE_WORDS[cause], RESULT_WORDS[result], HANDSHAKE_CAUSE_WORDS[last_cause],
                with_tfo, without, low_us, high_us, delay,
            )  # fmt: skip

    def _sooner(self) -> list[list[float | None]]:
        """What Fast Open is worth, in the columns of _SOONER; None where there is not enough of both."""
        found = np.full((len(_SOONER), len(self.keys)), np.nan)
        if self.sample is not None:
            compared = self.sample.compared()
            found[:, self.comparable] = [getattr(compared, name) for name in _SOONER]
        return [nullable(column) for column in found]


class Peers(Sequence[Peer]):
    """The busiest peers of several tables, one table after the other. Peer objects are made when they are read."""

    def __init__(self, *tables: PeerTable) -> None:
        self._tables = [table.busiest() for table in tables]

    def __len__(self) -> int:
        return sum(len(table.keys) for table in self._tables)

    @overload
    def __getitem__(self, index: int) -> Peer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Peer, ...]: ...
    def __getitem__(self, index: int | slice) -> Peer | tuple[Peer, ...]:
        return self._peers[index]

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers)

    @cached_property
    def _peers(self) -> tuple[Peer, ...]:
        return tuple(chain.from_iterable(table.peers() for table in self._tables))


def server_side(rows: Rows) -> Bool:
    """Rows whose server is this host, and whose client is another."""
    found: Bool = rows.vantage == Vantage.SERVER
    return found


def _addresses(keys: U64, role: str) -> list[tuple[str, int | None]]:
    """Address and, of a server, port of each key."""
    ports = keys[:, 2].tolist() if role == "server" else [None] * len(keys)
    return [(ip_text(key[:2].tobytes()), port) for key, port in zip(keys, ports, strict=True)]


def _add(counts: NDArray[Any], row: Indexes | int, column: NDArray[np.intp] | int) -> None:
    """Add 1 at each of these places."""
    # of exactly this type: with any other, even Python's int, numpy takes seventy times as long
    np.add.at(counts.reshape(-1), row * counts.shape[1] + column, counts.dtype.type(1))
