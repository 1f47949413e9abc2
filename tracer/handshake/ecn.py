"""ECN in the TCP flags of SYN and SYN-ACK: RFC 3168 section 6.1.1, RFC 9768 section 3.1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, Bool, Events
from tracer.vocabulary.vocabulary import ANSWERED_ECN_WORDS

ACK, ECE, CWR, AE = 0x10, 0x40, 0x80, 0x100
ECN_FLAGS = AE | CWR | ECE
# AccECN: how a SYN-ACK reports the ECN bits of the SYN that arrived (RFC 9768, table 2)
_ACCECN_ANSWERS = frozenset({CWR, CWR | ECE, AE, AE | CWR})
_ECN_ANSWERS = frozenset({ECE, AE | ECE})

# the flags of a SYN that asks for it, and some flags of a SYN-ACK that grant it
SYN_FLAGS = {"none": 0, "ecn": CWR | ECE, "accecn": ECN_FLAGS}
SYNACK_FLAGS = {"none": 0, "ecn": ECE, "accecn": CWR}


def syn_ecn(tcp_flags: int) -> str:
    """What a SYN asks for: none, ecn (RFC 3168) or accecn (RFC 9768)."""
    asked = tcp_flags & ECN_FLAGS
    if asked == ECN_FLAGS:
        return "accecn"
    return "ecn" if asked == CWR | ECE else "none"


def synack_ecn(tcp_flags: int) -> str:
    """What a SYN-ACK alone grants."""
    granted = tcp_flags & ECN_FLAGS
    if granted in _ACCECN_ANSWERS:
        return "accecn"
    return "ecn" if granted in _ECN_ANSWERS else "none"


def segment_ecn(tcp_flags: int) -> str:
    """What a SYN asks for or a SYN-ACK grants."""
    return synack_ecn(tcp_flags) if tcp_flags & ACK else syn_ecn(tcp_flags)


def negotiated_ecn(asked: str, granted: str) -> str:
    """What both ends will use: AccECN only if both speak it, classic ECN if the client offered either."""
    if asked == "none" or granted == "none":
        return "none"
    if granted == "accecn":
        return "accecn" if asked == "accecn" else "none"
    return "ecn"


_RETX_AE = 0x01  # in retx_flags, whose other flags stand where TCP has them
_ASKED: U8 = np.array([ANSWERED_ECN_WORDS.index(syn_ecn(flags)) for flags in range(2 * AE)], np.uint8)


def answered_ecn(events: Events, answered_syn: U8) -> U8:
    """What the SYN that was answered asked for, as a number of ANSWERED_ECN_WORDS; `answered_syn` 0 is unknown."""
    found: U8 = _ASKED.take(events["syn"]["tcp_flags"] & (2 * AE - 1)) * (answered_syn != 0)
    rows = np.flatnonzero(answered_syn > 1)
    if len(rows):
        places = np.minimum(answered_syn[rows] - 2, events["retx_flags"].shape[1] - 1)
        flags = events["retx_flags"][rows, places].astype(np.uint16)
        found[rows] = _ASKED.take(flags & (ECE | CWR) | (flags & _RETX_AE) * AE)
    return found


def asked_no_more(events: Events, answered_syn: U8) -> Bool:
    """Did the first SYN ask for ECN, and the one that was answered not? Then nobody has declined it."""
    found = asks_for_ecn(events["syn"]["tcp_flags"])
    found &= answered_syn > 1
    rows = np.flatnonzero(found)
    if len(rows):
        found[rows] = answered_ecn(events[rows], answered_syn[rows]) == ANSWERED_ECN_WORDS.index("none")
    return found


def asks_for_ecn(tcp_flags: NDArray[Any]) -> Bool:
    """Does a SYN ask for ECN, of either kind?"""
    found: Bool = _ASKED.take(tcp_flags & (2 * AE - 1)) > ANSWERED_ECN_WORDS.index("none")
    return found


def asked_again(events: Events) -> Bool:
    """The same of each retransmission, a column each."""
    flags = events["retx_flags"].astype(np.uint16)
    return asks_for_ecn(flags & (ECE | CWR) | (flags & _RETX_AE) * AE)


def retx_flags(ecn: str) -> int:
    """The flags of a SYN that asks for it, as retx_flags has them."""
    flags = SYN_FLAGS[ecn]
    return flags & (ECE | CWR) | (_RETX_AE if flags & AE else 0)
