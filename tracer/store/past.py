"""What the dashboard would have shown at an earlier moment, made from the handshakes that are held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tracer.aggregate.peers import Peers
from tracer.store.chunks import Chunk, StoreRows
from tracer.store.snapshot import Snapshot
from tracer.store.sums import Sums, rate

PART_ROWS = 2048


def held_ns(rows: StoreRows) -> tuple[int, int] | None:
    """When the oldest and the newest handshake settled, on the records' clock; None without any."""
    if not len(rows):
        return None
    first, last = (int(rows.part(row).events["settled_ns"][0]) for row in (0, len(rows) - 1))
    return min(first, last), max(first, last)


def past(snapshot: Snapshot, time_ns: int) -> Snapshot:
    """The snapshot with the handshakes that had settled at a time of the records' clock, and the sums over them.

    What older handshakes added to the sums is not in it if their rows are no longer held. What is not counted from
    handshakes (balance, counters, the host) stays as of the snapshot. It takes some microseconds a row: use a thread.
    """
    sums, length, offset_ns = Sums(), 0, 0
    for chunk, begin, end in _parts(snapshot.rows):
        part = chunk.part(begin, end)
        late = np.flatnonzero(part.events["settled_ns"] > time_ns)
        if len(late):
            part = chunk.part(begin, begin + int(late[0]))
        if len(part):
            sums.add(part)
            offset_ns = int(part.offset_ns[-1])
        length += len(part)
        if len(late):
            break
    history = sums.history.view(min(snapshot.history.began_ns, time_ns), time_ns)
    return replace(
        snapshot,
        taken_ns=time_ns,
        totals=history.total,
        history=history,
        handshakes_per_s=rate(history, "handshakes"),
        attempts_per_s=rate(history, "attempts"),
        comparisons=sums.servers.comparisons(),
        peers=Peers(sums.servers, sums.clients),
        distributions=sums.distributions.snapshot(),
        rows=replace(snapshot.rows, length=length),
        ended=None,
        moment=str(np.datetime64(time_ns + offset_ns, "ns"))[11:19],
    )


def _parts(rows: StoreRows) -> Iterator[tuple[Chunk, int, int]]:
    for chunk, begin, end in rows.pieces():
        for at in range(begin, end, PART_ROWS):
            yield chunk, at, min(at + PART_ROWS, end)
