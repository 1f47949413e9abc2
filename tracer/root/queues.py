"""How full the accept queues of the traced namespace are, and which of its listeners dropped segments.

The kernel counts what listeners drop for the whole namespace (ListenDrops) and for each socket, so all listeners are
read when the namespace's counter has moved: that is seldom. A socket counts other drops, too, such as ACKs without data
under TCP_DEFER_ACCEPT. So one that has not dropped anything did not drop this; one that has may have done so for
another reason, unless it was the only one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from tracer.ipc.messages import Drops, FullQueue, QueueAnswer
from tracer.linux import sock_diag
from tracer.linux.modules import Modules
from tracer.linux.sock_diag import Listener
from tracer.root.socket_owners import SHARE

LISTENERS_MAX = 1024  # that are read at a time
AGAIN_NS = 10_000_000_000  # after this, what could not be read is tried again
KEPT = 16  # times at which a listener had dropped
ANSWERS_MAX = 16  # listeners of one address and port (SO_REUSEPORT)
_COUNTER = "ListenDrops"  # moves with ListenOverflows and TCPReqQFullDrop, too (tcp_listendrop)


@dataclass(slots=True)
class _History:
    """What was seen of a listening socket. Times are CLOCK_MONOTONIC."""

    drops: int
    since_ns: int  # all that it dropped from then on is known
    dropped: deque[Drops] = field(default_factory=lambda: deque(maxlen=KEPT))
    full: FullQueue | None = None


class Queues:
    """Follows the listeners of this process's namespace."""

    def __init__(self, modules: Modules | None = None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._modules = modules if modules is not None else Modules()
        self._clock = clock
        self._moved: int | None = None  # the counter at the last reading
        self.has_moved = False
        self._tried_ns = 0
        self._histories: dict[int, _History] = {}
        self._is_known = False  # what each has dropped by `_until_ns`
        self._until_ns = 0
        self._not_before_ns = 0

    def look(self, counters: Mapping[str, int], taken_ns: int) -> None:
        """Read the listeners if one of them has dropped something since the last look. `taken_ns`: of the counters."""
        count = counters.get(_COUNTER, 0)
        if count == self._moved and (self._is_known or taken_ns < self._tried_ns + AGAIN_NS):
            self._until_ns = taken_ns
            return
        if self._clock() < self._not_before_ns:
            return  # the next look will find it
        began_ns, found = self._clock(), None
        if self._modules.present(sock_diag.MODULE):
            with suppress(OSError):
                found = sock_diag.listeners(None, LISTENERS_MAX)
        ended_ns = self._clock()
        self._not_before_ns = ended_ns + SHARE * (ended_ns - began_ns)
        self.has_moved |= self._moved is not None and count != self._moved
        self._moved, self._tried_ns = count, began_ns
        if found is None or any(one.drops is None for one in found):
            self._is_known, self._histories = False, {}
        else:
            self._take(found, began_ns, ended_ns)

    @property
    def is_blind(self) -> bool:
        """Has some listener dropped something, and nobody knows which?"""
        return self.has_moved and not self._is_known

    def _take(self, found: list[Listener], began_ns: int, ended_ns: int) -> None:
        before, known = self._histories, self._is_known
        # a new socket has dropped nothing before
        self._histories = {
            one.inode: before.get(one.inode) or (_History(0, 0) if known else _History(one.drops or 0, began_ns))
            for one in found
        }
        droppers = [one for one in found if one.drops != self._histories[one.inode].drops]
        for one in droppers:
            history = self._histories[one.inode]
            history.dropped.append(Drops(self._until_ns, ended_ns, len(droppers) == 1))
            history.drops = one.drops or 0
        self._is_known, self._until_ns = True, began_ns
        for one in found:
            self._note(one, ended_ns)

    def _note(self, one: Listener, now_ns: int) -> None:
        history = self._histories.get(one.inode)
        if history is not None and one.queued is not None and one.backlog is not None and one.queued > one.backlog:
            history.full = FullQueue(now_ns, one.queued, one.backlog)

    def of(self, listeners: Iterable[Listener]) -> list[QueueAnswer]:
        """What is known of these, which were read just now: of as many as an answer may have."""
        now_ns, answers = self._clock(), []
        for one in listeners:
            if one.queued is None or one.backlog is None:
                continue
            self._note(one, now_ns)
            history = self._histories.get(one.inode)
            full = FullQueue(now_ns, one.queued, one.backlog) if one.queued > one.backlog else None
            known, dropped = None, []
            if self._is_known:
                history = history or _History(0, 0)  # new, and no listener has dropped anything since
                known, dropped, full = (history.since_ns, self._until_ns), list(history.dropped), history.full or full
            answers.append(QueueAnswer(one.inode, one.address, one.port, one.queued, one.backlog, full, known, dropped))
            if len(answers) == ANSWERS_MAX:
                break
        return answers
