"""A batch with its verdicts, computed once, column by column, for all sinks and aggregates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from tracer.dissect.payload import Payload
from tracer.handshake.causes import Causes
from tracer.handshake.durations import Durations, measure
from tracer.handshake.events import U8, Events, SynPayload
from tracer.handshake.outcome import Verdicts, judge
from tracer.handshake.vantage import LocalSet
from tracer.records.record import Process

PayloadKey = tuple[int, int]  # handshake id, first SYN's time in ns


@dataclass(frozen=True, slots=True)
class RowOwners:
    """Processes named by the root part, as indexes into `table`; entry 0 is None: unknown."""

    client: NDArray[np.uint32]
    server: NDArray[np.uint32]
    table: Sequence[Process | None]

    def rows(self, chosen: slice | NDArray[np.intp]) -> RowOwners:
        """Some rows."""
        return RowOwners(self.client[chosen], self.server[chosen], self.table)


@dataclass(frozen=True, slots=True)
class Batch:
    """Settled handshakes in the order of the kernel, and their SYN payloads.

    In a replay of records, `kinds` gives the kind of each row's payload, since the payloads themselves are missing.
    """

    events: Events
    verdicts: Verdicts
    durations: Durations
    vantage: U8
    payloads: Mapping[PayloadKey, SynPayload]
    causes: Causes
    kinds: Mapping[int, Payload] | None = None
    owners: RowOwners | None = None

    def __len__(self) -> int:
        return len(self.events)

    def rows(self, start: int, stop: int) -> Batch:
        """A part of the batch, without copies."""
        if start == 0 and stop >= len(self):
            return self
        return self.select(slice(start, stop))

    def select(self, chosen: slice | NDArray[np.intp]) -> Batch:
        """Some rows of the batch: by a slice, without copies, or by number."""
        return Batch(
            self.events[chosen],
            Verdicts(*(getattr(self.verdicts, one.name)[chosen] for one in fields(Verdicts))),
            Durations(*(getattr(self.durations, one.name)[chosen] for one in fields(Durations))),
            self.vantage[chosen],
            self.payloads,
            self.causes.rows(chosen),
            _moved(self.kinds, chosen, len(self)),
            self.owners.rows(chosen) if self.owners is not None else None,
        )


def _moved(
    kinds: Mapping[int, Payload] | None, chosen: slice | NDArray[np.intp], length: int
) -> Mapping[int, Payload] | None:
    if kinds is None:
        return None
    rows = range(*chosen.indices(length)) if isinstance(chosen, slice) else chosen.tolist()
    return {place: kinds[row] for place, row in enumerate(rows) if row in kinds}


def decode(events: Events, local: LocalSet, payloads: Mapping[PayloadKey, SynPayload]) -> Batch:
    """Judge a batch of records; tracer/causes/judge.py adds the causes."""
    verdicts = judge(events)
    vantage = local.vantage(events)
    return Batch(events, verdicts, measure(events, verdicts, vantage), vantage, payloads, Causes.none(len(events)))
