"""Clients for which Fast Open worked with a server before: where it breaks for them without a failure, that shows it.

A client whose cookie is lost on the way goes on without Fast Open, and sends no SYN with data that could fail.
"""

from __future__ import annotations

import numpy as np

from tracer.aggregate.tally import HAS_FAILED
from tracer.causes.attempts import PeerHash
from tracer.causes.notes import Earlier, Notes
from tracer.causes.peer_history import REMEMBER_NS
from tracer.handshake.batch import Batch
from tracer.handshake.events import Bool

PAIRS = 1 << 14
_HOUR = np.uint64(REMEMBER_NS)


class Returning:
    """Takes batches in the order of settling; how many handshakes each has makes no difference. Its memory is bounded:
    the latest of clients and services that need the same place is remembered."""

    def __init__(self) -> None:
        self._hash = PeerHash()
        self._worked = Notes(PAIRS, "when_ns")  # client, server and its port, at an interface
        self._any = False

    def of(self, batch: Batch, worked: Bool) -> Bool:
        """Which rows are of a client for which Fast Open worked with the same service, in a row before, within an hour
        of its SYN? `worked` says for which it works now.

        A handshake that failed without data in its SYN says nothing of Fast Open: it is left out.
        """
        some = bool(worked.any())
        if not some and not self._any:
            return np.zeros(len(batch), np.bool_)
        self._any = True
        events = batch.events
        keys, when = self._hash.keys(events).pairs_by_port, np.ascontiguousarray(events["syn_ns"])
        new = np.flatnonzero(worked)
        known, (before_ns,) = self._worked.past(
            Earlier(keys[new], new, keys), (when[new],), keys, np.arange(len(batch), dtype=np.intp)
        )
        if some:
            self._worked.add(keys[new], when[new])
        found: Bool = known & (when < before_ns + _HOUR)
        found &= ~HAS_FAILED[events["result"]] | (events["syn"]["payload_len"] != 0)
        return found
