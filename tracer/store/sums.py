"""Everything that is added up of the handshakes that a store is given."""

from __future__ import annotations

from tracer.aggregate.counted import counted_of
from tracer.aggregate.distributions import DistributionCounts
from tracer.aggregate.history import History, HistoryView
from tracer.aggregate.listeners import ListenerTable
from tracer.aggregate.peers import PeerTable, server_side
from tracer.handshake.rows import Rows

RATE_S = 3  # a rate is the mean over so many whole seconds


class Sums:
    """Totals, peers, listeners and distributions; one thread at a time."""

    def __init__(self) -> None:
        self.history = History()
        self.servers = PeerTable("server")
        self.clients = PeerTable("client")
        self.listeners = ListenerTable()
        self.distributions = DistributionCounts()

    def add(self, rows: Rows) -> None:
        """Add some rows, a few thousands at most."""
        known = counted_of(rows)
        self.history.add(rows.batch)
        self.servers.add(rows, known)
        self.clients.add(rows, known, server_side(rows))
        self.listeners.add(rows, known)
        self.distributions.add(rows, known)


def rate(history: HistoryView, name: str) -> float:
    """How many there were of something a second, of late (HistoryView.seconds has the names)."""
    last = history.seconds(name, RATE_S)
    return float(last.mean()) if len(last) else 0.0
