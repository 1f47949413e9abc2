"""Some handshakes as columns, with all that is needed to read them: lists, filters and sums work on these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.dissect.payload import Payload
from tracer.handshake.batch import Batch, RowKinds, RowOwners
from tracer.handshake.columns import Columns
from tracer.handshake.syn_payloads import NO_PAYLOADS
from tracer.records.ends import Listener, Process
from tracer.records.record import Handshake

KEPT_COLUMNS = 6  # of a full chunk: cached for the next filter


@dataclass(frozen=True, slots=True)
class Rows(Columns):
    """Some rows of one chunk. `payload` is an index into `payloads`, whose entry 0 is None: not captured."""

    payloads: Sequence[Payload | None]
    names: RowNames
    owner_table: Sequence[Process | None]
    kept: dict[str, Any] | None = None  # cached columns of a full chunk; others are made each time

    @classmethod
    def of(
        cls, columns: Columns, payloads: Sequence[Payload | None], names: RowNames,
        owner_table: Sequence[Process | None], kept: dict[str, Any] | None = None,
    ) -> Rows:  # fmt: skip
        """Columns with the tables that they point into."""
        own = {one.name: getattr(columns, one.name) for one in fields(Columns)}
        return cls(**own, payloads=payloads, names=names, owner_table=owner_table, kept=kept)

    def column(self, name: str, make: Callable[[Rows], Any]) -> Any:
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
        """The same rows as a batch for sinks, with the kinds of their payloads."""
        owners = RowOwners(self.client_owner, self.server_owner, self.owner_table)
        events = np.asarray(self.events)
        kinds = RowKinds(self.payload, self.payloads)
        return Batch(
            events, self.verdicts, self.durations, self.vantage, NO_PAYLOADS, self.causes, kinds=kinds, owners=owners
        )


def rows_of(batch: Batch, names: RowNames, offset_ns: int, kinds: RowKinds | None = None) -> Rows:
    """The rows of a batch of fewer than 65,536; `kinds` says what their SYNs carried."""
    nobody = np.zeros(len(batch), np.uint32)
    kinds = kinds or RowKinds(nobody, [None])
    owners = batch.owners or RowOwners(nobody, nobody, [None])
    return Rows(
        batch.events, batch.verdicts, batch.durations, batch.causes, batch.vantage,
        np.full(len(batch), offset_ns, np.int64), kinds.places.astype(np.uint16), owners.client, owners.server,
        kinds.table, names, owners.table,
    )  # fmt: skip


class Place(NamedTuple):
    """What records say of where a handshake was seen, by the interface's number."""

    interface: str | None  # None: no hook saw it
    hook: str
    through: tuple[str, ...]  # the tunnels it was in
    mtu: int = 0  # of the interface, 0 = unknown


class RowNames(Protocol):
    """Resolves the numbers in rows, and composes records: a composer (tracer.encode.composer.Composer)."""

    @property
    def columns_tell_all(self) -> bool:
        """Are rows all that records are made of? In a replay rows are made of records, and say less."""
        ...

    def interface(self, index: int, /) -> Place:
        """What is said of an interface."""
        ...

    @property
    def cgroups(self) -> Mapping[int, str | None]:
        """Names of cgroups by number."""
        ...

    @property
    def listeners(self) -> Sequence[Listener | None]:
        """Listeners by the numbers in columns."""
        ...

    @property
    def changes(self) -> Sequence[tuple[str, ...] | None]:
        """What this host changed, by the numbers in columns; None is not known."""
        ...

    def compose(self, batch: Batch, /) -> Iterable[Handshake]:
        """The records of some rows: slow, for rare use."""
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
