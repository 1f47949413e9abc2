"""What became of a SYN that asked for more than Fast Open: ECN, MPTCP, or data without a cookie."""

from __future__ import annotations

from tracer.probe.model import Asks, Passage
from tracer.records.record import Handshake

_NO_ECN = "none"
EXTRAS = (Asks.ECN, Asks.MPTCP, Asks.SYN_DATA)


def passage(asks: Asks, record: Handshake | None) -> Passage:
    """By a handshake; what its SYN did not ask for was not tried."""
    if record is None or not _has_asked(asks, record):
        return Passage.NOT_TRIED
    if record.synack is None or _was_sent_again(record):
        return Passage.DROPPED
    return Passage.GRANTED if _is_granted(asks, record) else Passage.PASSED


def _was_sent_again(record: Handshake) -> bool:
    """Did only a later SYN get the answer? Linux sends that without data, and after some without ECN and MPTCP."""
    answered = record.handshake.answered_syn
    return record.handshake.syn_count > 1 if answered is None else answered > 1


def _has_asked(asks: Asks, record: Handshake) -> bool:
    match asks:
        case Asks.ECN:
            return record.syn.ecn != _NO_ECN
        case Asks.MPTCP:
            return record.syn.mptcp is not None
        case _:
            return record.syn.payload_len > 0 and record.tfo.cookie_id is None


def _is_granted(asks: Asks, record: Handshake) -> bool:
    agreed, synack = record.negotiated, record.synack
    if agreed is None or synack is None:
        return False
    match asks:
        case Asks.ECN:
            return agreed.ecn not in (None, _NO_ECN)
        case Asks.MPTCP:
            return agreed.mptcp
        case _:
            return synack.acked_payload_len == record.syn.payload_len
