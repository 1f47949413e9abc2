"""Some handshakes as columns, with all that is needed to read them: lists, filters and sums work on these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.dissect.payload import Payload
from tracer.handshake.batch import Batch, RowOwners
from tracer.handshake.causes import Causes
from tracer.handshake.columns import Columns
from tracer.handshake.durations import Durations
from tracer.handshake.events import U8, Events
from tracer.handshake.outcome import Verdicts
from tracer.records.record import Handshake, Process

KEPT_COLUMNS = 6  # of a full chunk: cached for the next filter


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of one chunk, as columns. `payload` is an index into `payloads`, whose entry 0 is None: not captured.

    If the rows are packed, `events` has fields by name but is no array; `batch` has arrays.
    """

    columns: Columns
    payloads: Sequence[Payload | None]
    names: RowNames
    owner_table: Sequence[Process | None] | None = None
    kept: dict[str, Any] | None = None  # cached columns of a full chunk; others are made each time

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def events(self) -> Events:
        """The records."""
        return self.columns.events

    @property
    def verdicts(self) -> Verdicts:
        """The verdicts on Fast Open."""
        return self.columns.verdicts

    @property
    def durations(self) -> Durations:
        """The durations in microseconds."""
        return self.columns.durations

    @property
    def causes(self) -> Causes:
        """The causes."""
        return self.columns.causes

    @property
    def vantage(self) -> U8:
        """Vantage of each row."""
        return self.columns.vantage

    @property
    def offset_ns(self) -> NDArray[np.int64]:
        """CLOCK_REALTIME - CLOCK_MONOTONIC when the row was written."""
        return self.columns.offset_ns

    @property
    def payload(self) -> NDArray[np.uint16]:
        """Indexes into `payloads`."""
        return self.columns.payload

    def column(self, name: str, make: Callable[[Part], Any]) -> Any:
        """A column made by `make`, cached for a full chunk."""
        if self.kept is None:
            return make(self)
        found = self.kept.get(name)
        if found is None:
            found = make(self)
            keep(self.kept, name, found, KEPT_COLUMNS)
        return found

    @property
    def batch(self) -> Batch:
        """The same rows as a batch for sinks, without payloads."""
        found = self.columns.arrays()
        table = self.owner_table
        owners = RowOwners(found.client_owner, found.server_owner, table) if table is not None else None
        return Batch(found.events, found.verdicts, found.durations, found.vantage, {}, found.causes, owners=owners)


class RowNames(Protocol):
    """Resolves the numbers in rows: names of interfaces, and all that only a composer knows."""

    @property
    def columns_tell_all(self) -> bool:
        """Is all that records say made of the rows? Rows of a replay are made of records, and say less."""
        ...

    def interface(self, index: int) -> tuple[str, str]:
        """Name and hook of an interface."""
        ...

    @property
    def cgroups(self) -> Mapping[int, str | None]:
        """Names of cgroups by number."""
        ...

    def records(self, part: Part) -> Iterable[Handshake]:
        """The records of some rows, without the content of their payloads: slow, for rare use."""
        ...


@dataclass(frozen=True, slots=True)
class Coded:
    """A column with few distinct values: `values[codes[row]]`. None = unknown."""

    values: Sequence[Any]
    codes: NDArray[np.integer[Any]]


def keep(kept: dict[Any, Any], key: object, value: Any, limit: int) -> None:
    # two threads may run this at once: list() is one step, an iterator would not be
    for oldest in list(kept)[: len(kept) + 1 - limit]:
        kept.pop(oldest, None)
    kept[key] = value
