"""The handshakes that a report shows one by one: of each way to fail one or two, of Fast Open's too, the slowest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.tally import HAS_FAILED
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.records.record import Handshake
from tracer.vocabulary.vocabulary import Group, HandshakeResult

OF_EACH = 2  # at different servers
SLOWEST = 3
KINDS_HELD = 256
_NO_MORE = -1


@dataclass(slots=True)
class Kind:
    """Handshakes of one kind: how many there were, and the first of them."""

    seen: int = 0
    shown: list[Handshake] = field(default_factory=list)
    servers: set[tuple[bytes, int]] = field(default_factory=set)


class Worst:
    """Picks them from batches; keeps at most OF_EACH records of KINDS_HELD kinds, and SLOWEST."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._kinds: dict[int, Kind] = {}
        self._slowest: list[tuple[float, Handshake]] = []  # the slowest first

    def add(self, batch: Batch) -> None:
        """Look at a batch before the composer forgets it."""
        self._add_kinds(batch)
        self._add_slow(batch)

    def _add_kinds(self, batch: Batch) -> None:
        kind = kinds(batch)
        rows = np.flatnonzero(kind != _NO_MORE)
        if not len(rows):
            return
        numbers, times = np.unique(kind[rows], return_counts=True)
        for number, seen in zip(numbers.tolist(), times.tolist(), strict=True):
            one = self._kinds.get(number)
            if one is None:
                if len(self._kinds) >= KINDS_HELD:
                    continue
                one = self._kinds[number] = Kind()
            one.seen += seen
            if len(one.shown) < OF_EACH:
                self._show(one, batch, rows[kind[rows] == number])

    def _show(self, one: Kind, batch: Batch, rows: NDArray[np.intp]) -> None:
        """Take the first at each server."""
        servers, ports = batch.events["server"][rows], batch.events["server_port"][rows]
        for row, server, port in zip(rows.tolist(), servers, ports.tolist(), strict=True):
            place = server.tobytes(), port
            if place not in one.servers:
                one.servers.add(place)
                one.shown += self._composer.compose(batch.rows(row, row + 1))
                if len(one.shown) == OF_EACH:
                    return

    def _add_slow(self, batch: Batch) -> None:
        took = np.where(batch.events["result"] == HandshakeResult.ESTABLISHED, batch.durations.connect_us, np.nan)
        least = self._slowest[-1][0] if len(self._slowest) == SLOWEST else 0.0
        rows = np.flatnonzero(took > least)
        for row in rows[np.argsort(-took[rows], kind="stable")][:SLOWEST].tolist():
            self._slowest.append((float(took[row]), next(self._composer.compose(batch.rows(row, row + 1)))))
        if len(rows):
            self._slowest = sorted(self._slowest, key=lambda one: -one[0])[:SLOWEST]

    def kinds(self) -> Iterator[Kind]:
        """The most frequent first."""
        yield from sorted(self._kinds.values(), key=lambda one: -one.seen)

    def slowest(self) -> list[Handshake]:
        """The slowest that were established, without those that are shown as kinds."""
        shown = {one.id for kind in self._kinds.values() for one in kind.shown}
        return [one for _, one in self._slowest if one.id not in shown]


def kinds(batch: Batch) -> NDArray[np.int64]:
    """A number for each way to fail or to lack Fast Open; -1 where all went well."""
    result = batch.events["result"].astype(np.int64)
    why = batch.causes.handshake_cause.astype(np.int64)
    group, cause = batch.verdicts.group, batch.causes.cause.astype(np.int64)
    fated = HAS_FAILED[batch.events["result"]] | (why != 0)
    unlucky = (group == Group.DEGRADED) | (group == Group.FAILED)
    found: NDArray[np.int64] = np.where(
        fated, result << 8 | why, np.where(unlucky, 1 << 20 | cause << 8 | batch.verdicts.outcome, _NO_MORE)
    )
    return found
