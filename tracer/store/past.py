"""What the dashboard would have shown at an earlier moment, made from the handshakes that are held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tracer.aggregate.peers import Peers
from tracer.filters.times import local_ns
from tracer.store.chunks import Chunk, StoreRows
from tracer.store.snapshot import Snapshot
from tracer.store.sums import Sums, rate

PART_ROWS = 2048
_HOUR_NS = 3_600_000_000_000


def range_ns(snapshot: Snapshot) -> tuple[int, int] | None:
    """From when to when there is something to show, on the records' clock; None without handshakes.

    If rows are no longer held, sums go back further than these: an hour.
    """
    rows = snapshot.rows
    if not len(rows):
        return None
    settled = [chunk.part(begin, end).events["settled_ns"] for chunk, begin, end in _parts(rows)]
    first, last = min(int(part.min()) for part in settled), max(int(part.max()) for part in settled)
    if not _all_held(snapshot):
        first = min(first, max(snapshot.history.began_ns, snapshot.taken_ns - _HOUR_NS))
    return first, last


def _all_held(snapshot: Snapshot) -> bool:
    return snapshot.history.total.handshakes == len(snapshot.rows)


def past(snapshot: Snapshot, time_ns: int) -> Snapshot:
    """The snapshot with the handshakes that had settled at a time of the records' clock, and the sums over them.

    If rows are no longer held, peers, comparisons and distributions are of the others only (`held` says of how many),
    and totals come from the steps of history.py. What is not counted from handshakes (balance, counters, host) stays as
    of the snapshot. It takes some microseconds a row: use a thread.
    """
    sums, length, seen, offset_ns = Sums(), 0, 0, 0
    for chunk, begin, end in _parts(snapshot.rows):
        part = chunk.part(begin, end)
        settled = np.flatnonzero(part.events["settled_ns"] <= time_ns)
        if len(settled):
            if len(settled) < len(part):
                part = chunk.pick(begin + settled)
            sums.add(part)
            offset_ns = int(part.offset_ns[-1])
            length = seen + int(settled[-1]) + 1
        seen += end - begin
    held = None
    if _all_held(snapshot):
        history = sums.history.view(min(snapshot.history.began_ns, time_ns), time_ns)
    else:
        history, held = snapshot.history.until(time_ns), length
    return replace(
        snapshot,
        taken_ns=time_ns,
        totals=history.total,
        history=history,
        handshakes_per_s=rate(history, "handshakes"),
        attempts_per_s=rate(history, "attempts"),
        comparisons=sums.servers.comparisons(),
        peers=Peers(sums.servers, sums.clients),
        listeners=sums.listeners.listening(),
        distributions=sums.distributions.snapshot(),
        rows=replace(snapshot.rows, length=length),
        ended=None,
        moment=str(np.datetime64(local_ns(time_ns + offset_ns), "ns"))[11:19],
        held=held,
    )


def _parts(rows: StoreRows) -> Iterator[tuple[Chunk, int, int]]:
    for chunk, begin, end in rows.pieces():
        for at in range(begin, end, PART_ROWS):
            yield chunk, at, min(at + PART_ROWS, end)
