"""Where handshakes failed over a whole run: the server, or else the port, of most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.keyindex import END_WORDS, Indexes, KeyIndex, end_keys
from tracer.aggregate.tally import HAS_FAILED
from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, distinct
from tracer.records.failed_at import FailedAt
from tracer.vocabulary.addresses import ip_text
from tracer.vocabulary.fates import FAILED_RESULTS
from tracer.vocabulary.vocabulary import HandshakeResult, word

SERVERS_HELD = 1024
_PORTS = 1 << 16


class FailedPlaces:
    """Handshakes that failed, by server and port.

    Servers are at most SERVERS_HELD; the quarter that failed longest ago is forgotten when there are more.
    """

    def __init__(self) -> None:
        # by result: each takes memory only where it counts something
        self._ports: dict[int, NDArray[np.int64]] = {}
        self._servers = KeyIndex(END_WORDS, SERVERS_HELD, self._forget)
        self._failed = np.zeros((SERVERS_HELD, len(HandshakeResult)), np.int64)

    def add(self, batch: Batch) -> None:
        """Count those of a batch that failed."""
        result = batch.events["result"]
        rows = np.flatnonzero(HAS_FAILED[result])
        if len(rows):
            self._add(batch, rows, result[rows])

    def _add(self, batch: Batch, rows: Indexes, result: U8) -> None:
        for number in distinct(result).tolist():
            counts = self._ports.setdefault(number, np.zeros(_PORTS, np.int64))
            np.add.at(counts, batch.events["server_port"][rows[result == number]].astype(np.intp), np.int64(1))
        step = SERVERS_HELD // 2  # so that making room never removes the keys that need it
        for begin in range(0, len(rows), step):
            some = slice(begin, begin + step)
            slots = self._servers.place(end_keys(batch.events, "server", rows[some]))
            np.add.at(self._failed, (slots, result[some]), np.int64(1))

    def _forget(self, slots: Indexes) -> None:
        self._failed[slots] = 0

    def failed_at(self) -> tuple[FailedAt, ...]:
        """For each result that failed: the server of more than half, else the port of more than half, if any."""
        found = (self._place(result) for result in FAILED_RESULTS if result in self._ports)
        return tuple(one for one in found if one is not None)

    def _place(self, result: HandshakeResult) -> FailedAt | None:
        ports = self._ports[result]
        total, port = int(ports.sum()), int(ports.argmax())
        slot = int(self._failed[:, result].argmax())
        of_server = int(self._failed[slot, result])
        if 2 * of_server > total:
            key = self._servers.keys[slot]
            return FailedAt(word(result), ip_text(key[:2].tobytes()), int(key[2]), of_server)
        return FailedAt(word(result), None, port, int(ports[port])) if 2 * int(ports[port]) > total else None
