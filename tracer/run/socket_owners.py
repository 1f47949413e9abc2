"""Finds the processes at local ends of handshakes: the user part's half, which asks the root part and waits a moment.

The kernel programs name the client's process if they saw it in the system call that sent the SYN. The listener, and
clients that they could not name, come as inode numbers of sockets, and the root part says which process has them open
(root/socket_owners.py). An answer counts for a handshake only if it was given after the handshake's end: so a batch
waits here for its answer, HOLD_S at most, and what is not known by then stays null.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tracer.causes.queue_table import QueueTable
from tracer.handshake.batch import Batch, RowOwners
from tracer.handshake.events import Events, distinct
from tracer.handshake.owners import named_rows
from tracer.ipc.messages import OwnerAnswer, OwnerQuestion, SocketOwner
from tracer.linux.patience import FACTOR
from tracer.records.ends import Process

HOLD_S = 0.12 * FACTOR  # a reader must see a record within 200 ms of its settling
ASK_S = 0.02
ASKED_MAX = 256  # sockets and cgroups in one question
GROUPS_HELD = 4096
ANSWERS_HELD = 8192


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    deadline_s: float
    sockets: list[int]
    cgroups: list[int]
    number: int = 0  # of the question, 0 = not asked yet


@dataclass(slots=True)
class OwnerLookup:
    """Batches on their way to the sinks, in order. `send` sends a question; times are seconds of one clock."""

    send: Callable[[OwnerQuestion], object]
    cgroups: OrderedDict[int, str | None] = field(default_factory=OrderedDict)
    queues: QueueTable = field(default_factory=QueueTable)  # whose listeners get their processes
    _queue: deque[_Waiting] = field(default_factory=deque)
    # by socket: number of the latest answered question, and the answer
    _answers: OrderedDict[int, tuple[int, Process | None]] = field(default_factory=OrderedDict)
    _number: int = 0
    _asked_s: float = 0.0
    _closed: bool = False

    def admit(self, batch: Batch, now_s: float) -> None:
        """Take a batch, which release() will give back."""
        sockets, cgroups = _unknown(batch.events, self.cgroups)
        if batch.causes.listener.any():
            sockets = list(dict.fromkeys((*self.queues.sockets(batch), *sockets)))[:ASKED_MAX]
        self._queue.append(_Waiting(batch, now_s + HOLD_S, sockets, cgroups))

    def answered(self, answer: OwnerAnswer) -> None:
        """Take an answer of the root part."""
        for owner in answer.sockets:
            self._answers[owner.socket] = (answer.number, _process(owner))
            self._answers.move_to_end(owner.socket)
        for number, name in answer.cgroups.items():
            self.cgroups[number] = name
        for held, limit in ((self._answers, ANSWERS_HELD), (self.cgroups, GROUPS_HELD)):
            while len(held) > limit:
                held.popitem(last=False)

    def ask(self, now_s: float) -> None:
        """Ask for what batches wait for and no question has named yet."""
        if self._closed:
            return
        waiting = [one for one in self._queue if not one.number and (one.sockets or one.cgroups)]
        if not waiting:
            return
        self._number += 1
        self._asked_s = now_s
        sockets = list(dict.fromkeys(socket for one in waiting for socket in one.sockets))[:ASKED_MAX]
        cgroups = list(dict.fromkeys(number for one in waiting for number in one.cgroups))[:ASKED_MAX]
        for one in waiting:
            one.number = self._number
            # what is beyond the limit will not be answered
            one.sockets = [socket for socket in one.sockets if socket in sockets]
            one.cgroups = [number for number in one.cgroups if number in cgroups]
        self.send(OwnerQuestion(self._number, sockets, cgroups))

    def close(self, now_s: float) -> None:
        """Ask for the last time: the root part is about to leave."""
        self.ask(now_s)
        self._closed = True

    def release(self, now_s: float, *, everything: bool = False) -> list[Batch]:
        """Batches that have waited long enough, in the order in which they came."""
        if now_s - self._asked_s >= ASK_S:
            self.ask(now_s)
        ready: list[Batch] = []
        while self._queue and (everything or self._is_ready(self._queue[0], now_s)):
            ready.append(self._with_owners(self._queue.popleft()))
        self._forget()
        return ready

    def _forget(self) -> None:
        """Drop answers to questions that are older than the oldest waiting batch's: no batch needs them."""
        oldest = self._queue[0].number if self._queue else 0
        needed = oldest or self._number + 1
        while self._answers and self._answers[next(iter(self._answers))][0] < needed:
            self._answers.popitem(last=False)

    def _is_ready(self, one: _Waiting, now_s: float) -> bool:
        if not (one.sockets or one.cgroups) or now_s >= one.deadline_s:
            return True
        return (
            one.number > 0
            and all(self._answers.get(socket, (0, None))[0] >= one.number for socket in one.sockets)
            and all(number in self.cgroups for number in one.cgroups)
        )

    def _with_owners(self, one: _Waiting) -> Batch:
        """Only answers to questions that were asked after the batch came count."""
        places: dict[int, int] = {}
        table: list[Process | None] = [None]
        for socket in one.sockets:
            number, process = self._answers.get(socket, (0, None))
            if process is not None and number >= (one.number or self._number + 1):
                places[socket] = len(table)
                table.append(process)
        if not places:
            return one.batch
        if one.batch.causes.listener.any():
            named = ((socket, table[at]) for socket, at in places.items())
            self.queues.name(one.batch, {socket: process for socket, process in named if process is not None})
        events = one.batch.events
        client = np.where(named_rows(events), 0, events["client_socket"])
        return replace(
            one.batch, owners=RowOwners(_looked_up(client, places), _looked_up(events["server_socket"], places), table)
        )


def _unknown(events: Events, cgroups: Mapping[int, str | None]) -> tuple[list[int], list[int]]:
    """Sockets to ask about, listeners first, and cgroups without a name."""
    named = named_rows(events)
    listeners = distinct(events["server_socket"])
    clients = distinct(events["client_socket"][~named])[:ASKED_MAX]
    sockets = list(dict.fromkeys(number for number in (*listeners.tolist(), *clients.tolist()) if number))
    groups = distinct(events["client_process"]["cgroup"][named]).tolist() if named.any() else []
    return sockets[:ASKED_MAX], [number for number in groups if number not in cgroups]


def _process(owner: SocketOwner) -> Process | None:
    return Process(owner.pid, owner.name, owner.uid, owner.cgroup) if owner.pid else None


def _looked_up(sockets: NDArray[np.uint32], places: Mapping[int, int]) -> NDArray[np.uint32]:
    numbers, codes = np.unique(sockets, return_inverse=True)
    return np.array([places.get(number, 0) for number in numbers.tolist()], np.uint32)[codes.reshape(-1)]
