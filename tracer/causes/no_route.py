"""SYNs that a listener of this host took, and whose client the host has no route to (TFO.md section 8).

tcp_conn_request of net/ipv4/tcp_input.c: the SYN counts as ListenDrops, and nothing else is said of it.
"""

from __future__ import annotations

import numpy as np

from tracer.causes.case import Case
from tracer.causes.kernel_evidence import KernelEvidence
from tracer.handshake.events import Indexes, pick
from tracer.ipc.messages import ListenerAnswer
from tracer.linux.routes import NO_ROUTE
from tracer.vocabulary.vocabulary import CauseAt, Confidence, HandshakeCause


def judge_no_route(case: Case, rows: Indexes, evidence: KernelEvidence) -> None:
    """Give the cause to those of `rows` (unanswered_here) of which kernel and socket table say so."""
    rows = rows[np.array([_has_none(case.silent.get(row)) for row in rows.tolist()], np.bool_)]
    if not len(rows):
        return
    events = pick(case.batch.events, rows)
    rose = evidence.rose(events["syn_ns"], events["settled_ns"])
    dropped = rose.known & (rose.drops > 0) & (rose.overflows == 0) & (rose.syn_queue == 0)
    case.blame(rows[dropped], HandshakeCause.NO_ROUTE_BACK, Confidence.CERTAIN, CauseAt.THIS_HOST)


def _has_none(told: ListenerAnswer | None) -> bool:
    return told is not None and bool(told.sockets) and told.translated is False and told.leaves_by == NO_ROUTE
