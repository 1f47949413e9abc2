"""A batch with its verdicts, computed once, column by column, for all sinks and aggregates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.dissect.payload import Payload
from tracer.handshake.causes import Causes
from tracer.handshake.durations import Durations, measure
from tracer.handshake.events import U8, Events, Selection, SynPayload, some_rows
from tracer.handshake.outcome import Verdicts, judge
from tracer.handshake.vantage import Local
from tracer.records.ends import Process

PayloadKey = tuple[int, int]  # handshake id, first SYN's time in ns


@dataclass(frozen=True, slots=True)
class RowOwners:
    """Processes named by the root part, as indexes into `table`; entry 0 is None: unknown."""

    client: NDArray[np.uint32]
    server: NDArray[np.uint32]
    table: Sequence[Process | None]


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

    def select(self, chosen: Selection) -> Batch:
        """Some rows of the batch."""
        kinds, owners = self.kinds, self.owners
        if kinds is not None:
            numbers = np.arange(len(self))[chosen].tolist()
            kinds = {place: kinds[row] for place, row in enumerate(numbers) if row in kinds}
        if owners is not None:
            owners = RowOwners(owners.client[chosen], owners.server[chosen], owners.table)
        return Batch(
            self.events[chosen], some_rows(self.verdicts, chosen), some_rows(self.durations, chosen),
            self.vantage[chosen], self.payloads, some_rows(self.causes, chosen), kinds, owners,
        )  # fmt: skip


def decode(events: Events, local: Local, payloads: Mapping[PayloadKey, SynPayload]) -> Batch:
    """Judge a batch of records; tracer/causes/judge.py adds the causes."""
    verdicts = judge(events)
    vantage = local.vantage(events)
    return Batch(events, verdicts, measure(events, verdicts, vantage), vantage, payloads, Causes.none(len(events)))
