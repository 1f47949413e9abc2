"""The listeners of this host whose queues explain handshakes, by the numbers that a column of the batch has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from tracer.handshake.batch import Batch
from tracer.handshake.events import distinct
from tracer.ipc.messages import QueueAnswer
from tracer.records.ends import Listener, Process
from tracer.vocabulary.addresses import ip_text

TABLE_MAX = 255  # a number is a byte, and 0 is none
NOT_FULL_MAX = TABLE_MAX // 2  # those that were not full, of which there are many different ones


@dataclass(slots=True)
class QueueTable:
    """Different listeners, fills and processes of a run; what is beyond TABLE_MAX is not told."""

    records: list[Listener | None] = field(default_factory=lambda: [None])
    _sockets: list[int] = field(default_factory=lambda: [0])
    _numbers: dict[tuple[int, Listener], int] = field(default_factory=dict)

    def number(self, queue: QueueAnswer, *, as_full: bool) -> int:
        """The number of a listener, as it is now or as it was when it was full; 0 if the table is."""
        seen = queue.full if as_full and queue.full is not None else queue
        return self._number(queue.inode, Listener(ip_text(queue.address), queue.port, seen.queued, seen.backlog))

    def _number(self, socket: int, listener: Listener) -> int:
        known = self._numbers.get((socket, listener))
        if known is not None:
            return known
        if len(self.records) > (TABLE_MAX if listener.queued > listener.backlog else NOT_FULL_MAX):
            return 0
        self._numbers[socket, listener] = number = len(self.records)
        self.records.append(listener)
        self._sockets.append(socket)
        return number

    def sockets(self, batch: Batch) -> list[int]:
        """Inode numbers of the listeners that a batch names."""
        numbers = distinct(batch.causes.listener)
        return [self._sockets[number] for number in numbers.tolist() if self._sockets[number]]

    def name(self, batch: Batch, processes: Mapping[int, Process]) -> None:
        """Say whose listeners these are, by their inode numbers."""
        column = batch.causes.listener
        for number in distinct(column).tolist():
            listener, process = self.records[number], processes.get(self._sockets[number])
            if listener is not None and process is not None:
                named = self._number(self._sockets[number], msgspec.structs.replace(listener, process=process))
                column[column == number] = named or number
