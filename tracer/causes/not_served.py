"""Connections that were established and got no answer: who left, was reset, or asked in vain.

Data that is acked and not answered is ordinary: one-way protocols, slow servers.
"""

from __future__ import annotations

import numpy as np

from tracer.causes.asked import Asked
from tracer.causes.server_memory import Noted, ServerMemory
from tracer.handshake.events import F64, among
from tracer.vocabulary.vocabulary import After, CauseAt, Confidence, HandshakeCause, SettleReason

_BY_CLIENT = among((After.RESET_BY_CLIENT, After.CLIENT_CLOSED))
PATIENCE_US, PATIENCE_RTTS = 1_000_000, 10  # who waits as long has given up, and is not in a hurry


def judge_not_served(asked: Asked, noted: Noted, servers: ServerMemory) -> None:
    """Give causes to established rows without a response."""
    if not asked.not_served.any():
        return
    events, durations = asked.events, asked.case.batch.durations
    sent, unacked = asked.sent, asked.unacked
    by_client = _BY_CLIENT.take(asked.after) & sent
    since_ns = np.maximum(events["request_ns"], np.maximum(events["ack_ns"], events["syn_ns"]))
    waited_us: F64 = (events["settled_ns"] - np.minimum(since_ns, events["settled_ns"])) / 1000
    rtt_us = np.nan_to_num(durations.rtt_us[asked.rows])
    patient = by_client & (waited_us >= PATIENCE_US) & (waited_us >= PATIENCE_RTTS * rtt_us)
    # a server that takes data, never answers any, and closes when the client does speaks a one-way protocol
    both_closed = (asked.after == After.CLIENT_CLOSED) & (events["reason"] == SettleReason.BY_FIN)
    taken = patient & ~unacked
    one_way = both_closed & taken & ~asked.whether(taken & both_closed, lambda rows: servers.responds(noted, rows))
    # so does one of which this was seen before, however its clients leave
    one_way |= asked.whether(taken & ~both_closed, lambda rows: servers.is_one_way(noted, rows))
    asked.blame(patient & ~one_way, HandshakeCause.CLIENT_GAVE_UP, Confidence.LIKELY)
    asked.blame(asked.in_vain, HandshakeCause.SILENT_AFTER_ESTABLISHED, Confidence.LIKELY)
    reset = asked.after == After.RESET_BY_SERVER
    here = reset & sent & asked.answered & asked.reset_fits_synack
    asked.blame(here, HandshakeCause.RESET_AFTER_ESTABLISHED, Confidence.LIKELY, CauseAt.SERVER)
    asked.blame(reset & sent, HandshakeCause.RESET_AFTER_ESTABLISHED, Confidence.LIKELY)
    # nothing was asked: the server may have closed what was idle, or a health check was over
    asked.blame(reset & (events["client_fin"] == 0), HandshakeCause.RESET_AFTER_ESTABLISHED, Confidence.POSSIBLE)
