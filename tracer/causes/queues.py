"""What a listener of this host does when it cannot take more, or does not want to yet.

net/ipv4/tcp_ipv4.c (tcp_conn_request), tcp_minisocks.c (tcp_check_req).
"""

from __future__ import annotations

from tracer.causes.asked import Asked
from tracer.causes.kernel_evidence import KernelEvidence
from tracer.vocabulary.vocabulary import After, CauseAt, Confidence, HandshakeCause, HandshakeResult


def judge_queues(asked: Asked, evidence: KernelEvidence) -> None:
    """Give causes to rows whose listener's queue was full, or that waits for data."""
    events, here = asked.events, asked.at_server & asked.listening.here
    silent = asked.is_result(HandshakeResult.NO_REPLY)
    again = asked.after == After.SYNACK_AGAIN
    rose = evidence.rose(events["syn_ns"], events["settled_ns"])
    full = here & (silent | again) & (rose.overflows > 0)
    asked.blame(full, HandshakeCause.ACCEPT_QUEUE_FULL, Confidence.LIKELY, CauseAt.THIS_HOST)
    asked.blame(here & silent & (rose.syn_queue > 0), HandshakeCause.SYN_QUEUE_FULL, Confidence.LIKELY,
                CauseAt.THIS_HOST)  # fmt: skip
    deferred = here & again & rose.known
    asked.blame(deferred & (rose.deferred > 0), HandshakeCause.ACCEPT_DEFERRED, Confidence.LIKELY,
                CauseAt.THIS_HOST)  # fmt: skip
    asked.blame(deferred, HandshakeCause.ACCEPT_DEFERRED, Confidence.POSSIBLE, CauseAt.THIS_HOST)
    # elsewhere no counters are known: what the client did tells the two apart
    sent = (events["request_ns"] != 0) | (events["syn"]["payload_len"] != 0)
    unacked = (events["request_repeats"] != 0) & (events["request_acked"] == 0)
    elsewhere = again & ~(asked.at_server & rose.known)
    asked.blame(elsewhere & unacked, HandshakeCause.ACCEPT_QUEUE_FULL, Confidence.POSSIBLE, CauseAt.SERVER)
    asked.blame(elsewhere & ~sent, HandshakeCause.ACCEPT_DEFERRED, Confidence.POSSIBLE, CauseAt.SERVER)
