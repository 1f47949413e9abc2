"""SYNs that timed out, of which only a bare one was answered."""

from __future__ import annotations

from tracer.causes.attempts import PeerHash
from tracer.causes.case import Case
from tracer.causes.peer_history import PeerHistory
from tracer.vocabulary.vocabulary import Cause, Confidence, Outcome, Vantage

# A SYN sent again sooner had not timed out: Linux waits a second (RFC 6298), or not at all after an ICMP error.
LOST_AFTER_NS = 200_000_000

_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share


def timed_out(case: Case, hashes: PeerHash, history: PeerHistory) -> None:
    """The SYN was lost, or the path drops SYNs with data."""
    rows = case.outcome_is(Outcome.SYN_TIMEOUT_FALLBACK)
    if not len(rows):
        return
    waited = case.batch.verdicts.answered_after_us[rows] * 1000 >= LOST_AFTER_NS
    away = (case.batch.vantage[rows] & _AT_SERVER) == 0
    rows = rows[waited & away]
    data = case.batch.events["syn"]["payload_len"][rows] > 0
    with_data = rows[data]
    again = history.timed_out(hashes.of(case.batch, with_data))
    case.say(with_data[again], Cause.PATH_DROPS_SYN_DATA, Confidence.LIKELY)
    case.say(rows, Cause.PACKET_LOSS, Confidence.POSSIBLE)
