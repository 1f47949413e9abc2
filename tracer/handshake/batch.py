"""A batch with its verdicts, computed once, column by column, for all sinks and aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.dissect.payload import Payload
from tracer.handshake.causes import Causes
from tracer.handshake.durations import Durations, measure
from tracer.handshake.events import U8, Events, Selection, some_rows
from tracer.handshake.outcome import Verdicts, judge
from tracer.handshake.syn_payloads import SynPayloads
from tracer.handshake.vantage import Local
from tracer.records.ends import Process


@dataclass(frozen=True, slots=True)
class RowOwners:
    """Processes named by the root part, as indexes into `table`; entry 0 is None: unknown."""

    client: NDArray[np.uint32]
    server: NDArray[np.uint32]
    table: Sequence[Process | None]


@dataclass(frozen=True, slots=True)
class RowKinds:
    """What the SYN of each row carries, as an index into `table`; entry 0 is None: nothing that was captured."""

    places: NDArray[np.unsignedinteger[Any]]
    table: Sequence[Payload | None]


@dataclass(frozen=True, slots=True)
class Batch:
    """Settled handshakes in the order of the kernel, and their SYN payloads.

    Where the payloads themselves are missing, `kinds` says what they were.
    """

    events: Events
    verdicts: Verdicts
    durations: Durations
    vantage: U8
    payloads: SynPayloads
    causes: Causes
    kinds: RowKinds | None = None
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
            kinds = RowKinds(kinds.places[chosen], kinds.table)
        if owners is not None:
            owners = RowOwners(owners.client[chosen], owners.server[chosen], owners.table)
        return Batch(
            self.events[chosen], some_rows(self.verdicts, chosen), some_rows(self.durations, chosen),
            self.vantage[chosen], self.payloads, some_rows(self.causes, chosen), kinds, owners,
        )  # fmt: skip


def decode(events: Events, local: Local, payloads: SynPayloads) -> Batch:
    """Judge a batch of records; tracer/causes/judge.py adds the causes."""
    verdicts = judge(events)
    vantage = local.vantage(events)
    return Batch(events, verdicts, measure(events, verdicts, vantage), vantage, payloads, Causes.none(len(events)))
