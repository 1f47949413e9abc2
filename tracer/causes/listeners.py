"""What the root part knows of the sockets that listen on this host: the witness of what a server did without."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from tracer.handshake.events import U64, Bool, Events, Indexes, byte_rows, pick
from tracer.ipc.messages import FlowQuestion, ListenerAnswer

SERVICES = 4096
QUESTIONS_MAX = 64  # of a batch


@dataclass(frozen=True, slots=True)
class Listening:
    """One row per handshake: who listened for it? What is not known is False."""

    known: Bool  # the socket table was read
    nobody: Bool  # no socket of this host listens, and the host does not send the SYN elsewhere
    here: Bool  # a socket of this host listens, and the host does not send the SYN elsewhere
    on: Bool  # all these sockets have a Fast Open queue
    off: Bool  # none has
    changed: Bool  # it was otherwise before the SYN, so when it changed is not known
    since_before: Bool  # it was so before the SYN, too


@dataclass(slots=True)
class _Service:
    """The last answer about an address and port, and when (CLOCK_MONOTONIC) it was first another one than before."""

    answer: ListenerAnswer
    asked_ns: int
    changed_ns: int = 0
    since_ns: int = 0  # when it was first so, as far as is known

    state: tuple[bool, bool, bool, bool, bool] = field(init=False)  # known, nobody, here, on, off

    def __post_init__(self) -> None:
        known, stays = self.answer.sockets is not None, not self.answer.translated
        any_listens, on, off = self.listens
        self.state = known, known and not any_listens and stays, any_listens and stays, on and stays, off and stays

    @property
    def is_complete(self) -> bool:
        """Were the sockets and all their queues known?"""
        return self.answer.sockets is not None and len(self.answer.queues) == self.answer.sockets

    @property
    def listens(self) -> tuple[bool, bool, bool]:
        """Does any socket, do all with a Fast Open queue, all without? Where a SYN goes instead differs by client."""
        queues = self.answer.queues if self.is_complete else []
        return bool(self.answer.sockets), min(queues, default=0) > 0, max(queues, default=1) == 0


_UNKNOWN = _Service(ListenerAnswer(), 0)


class Listeners:
    """Memory of the answers, by keys of server and port."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Service] = OrderedDict()

    def begin(self, keys: U64, events: Events, rows: Indexes) -> tuple[list[int], list[FlowQuestion]]:
        """The services of some rows to ask about, each with one of its handshakes, and the questions.

        A program may have been started anew since the last answer, with Fast Open or without.
        """
        # the last of each, for they are in the order of settling
        _, lasts = np.unique(keys[::-1], return_index=True)
        lasts = len(keys) - 1 - lasts
        settled_ns = events["settled_ns"][rows[lasts]]
        asked = [
            at for at, key, when_ns in zip(lasts.tolist(), keys[lasts].tolist(), settled_ns.tolist(), strict=True)
            if when_ns >= self._known.get(key, _UNKNOWN).asked_ns
        ][:QUESTIONS_MAX]  # fmt: skip
        return keys[asked].tolist(), flows(pick(events, rows[asked]))

    def end(self, asked: list[int], answers: list[ListenerAnswer], taken_ns: int) -> None:
        """Take the answers, in the order of the questions; there may be fewer."""
        for key, answer in zip(asked, answers, strict=False):
            before, now = self._known.pop(key, None), _Service(answer, taken_ns, since_ns=taken_ns)
            if before is not None:
                # what was not known may have been as it is now
                changed = before.is_complete and before.listens != now.listens
                now.changed_ns = taken_ns if changed else before.changed_ns
                if before.state == now.state:
                    now.since_ns = before.since_ns
            self._known[key] = now
        while len(self._known) > SERVICES:
            self._known.popitem(last=False)

    def answer(self, key: int) -> ListenerAnswer | None:
        """The last answer about a service."""
        known = self._known.get(key)
        return known.answer if known is not None else None

    def of(self, keys: U64, syn_ns: U64) -> Listening:
        """What is known of each handshake's service."""
        distinct, places = np.unique(keys, return_inverse=True)
        found = [self._known.get(key, _UNKNOWN) for key in distinct.tolist()]
        told = [(*one.state, one.changed_ns, one.since_ns) for one in found]
        columns = np.array(told, np.uint64).reshape(len(told), 7)[places].T
        known, nobody, here, on, off = columns[:5] != 0
        changed_ns, since_ns = columns[5:]
        return Listening(known, nobody, here, on, off, syn_ns < changed_ns, known & (syn_ns > since_ns))


def flows(events: Events) -> list[FlowQuestion]:
    """Questions about these connections."""
    return [
        FlowQuestion(*one)
        for one in zip(
            byte_rows(events["client"]), byte_rows(events["server"]),
            events["client_port"].tolist(), events["server_port"].tolist(), strict=True,
        )
    ]  # fmt: skip
