"""What TCP Fast Open did, as facts read off the wire: TFO.md sections 2 and 3 over whole batches.

Input are structured arrays of struct handshake_event (bpf/event.h), output one column a question. Durations are
microseconds as float64, NaN where they are not known. No Python object is made for a handshake here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.events import Events
from tracer.vocabulary import GROUP_OF, HandshakeResult, Has, Outcome, Request

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

COOKIE_MAX = 16  # bytes, RFC 7413 section 4.1.1
NS_PER_US = 1000.0

GROUP_TABLE: U8 = np.array([GROUP_OF[outcome] for outcome in Outcome], np.uint8)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One row a handshake, in the order of the batch."""

    request: U8  # Request
    outcome: U8  # Outcome
    group: U8  # Group
    attempted: Bool  # a TFO option or data in the first SYN
    acked_payload_len: U32  # bytes of the first SYN's data acked by the first SYN-ACK
    answered_after_us: F64  # first SYN to the SYN that was answered, NaN where that is open
    answer_known: Bool  # which SYN was answered is certain


def has(column: NDArray[np.uint16], flag: Has) -> Bool:
    """Rows whose segment carries what `flag` names."""
    present: Bool = (column & np.uint16(flag)) != 0
    return present


def cookies(segment: Events) -> U8:
    """The TFO cookie of each segment, [n, 16], zero behind `cookie_len`."""
    columns = np.arange(COOKIE_MAX)
    # an offset of 0xff means no option: clip, then blank
    start = np.minimum(segment["tfo_offset"].astype(np.intp), segment["options"].shape[1] - 1)
    index = np.minimum(start[:, None] + columns, segment["options"].shape[1] - 1)
    found: U8 = np.take_along_axis(segment["options"], index, axis=1)
    found[columns >= segment["cookie_len"][:, None]] = 0
    return found


def _request(with_option: Bool, with_cookie: Bool, with_data: Bool, malformed: Bool) -> U8:
    return np.select(
        [
            with_option & with_cookie & with_data,
            with_option & with_cookie,
            with_option & with_data,
            with_option,
            malformed,
            with_data,
        ],
        [
            Request.COOKIE_AND_DATA,
            Request.COOKIE,
            Request.COOKIE_REQUEST_AND_DATA,
            Request.COOKIE_REQUEST,
            Request.MALFORMED,
            Request.DATA_ONLY,
        ],
        Request.NONE,
    ).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Answered:
    """Which SYN a SYN-ACK answers: when that left, whether it may be a later one, whether that is known for certain."""

    after_us: F64
    later: Bool
    known: Bool


def _answered(events: Events) -> _Answered:
    """TSecr of the SYN-ACK settles it, where TSvals differ: SYNs of one millisecond can share theirs.

    Where it does not, more than one SYN before the SYN-ACK leaves it open; for the outcome a later SYN is then taken
    (TFO.md section 3), and the last one for the delay.
    """
    syn, synack = events["syn"], events["synack"]
    later = events["retx_count"] > 0
    known = ~later
    after = np.zeros(len(events))
    rows = np.flatnonzero(later)
    if not len(rows):
        return _Answered(after, later, known)
    stamped = has(syn["has"][rows], Has.TIMESTAMPS) & has(synack["has"][rows], Has.TIMESTAMPS)
    echo = synack["ts_ecr"][rows]
    retx, count = events["retx"][rows], events["retx_count"][rows].astype(np.intp)
    match = (np.arange(retx.shape[1]) < count[:, None]) & stamped[:, None] & (retx["ts_val"] == echo[:, None])
    first = stamped & (syn["ts_val"][rows] == echo)
    which = np.where(match.any(axis=1), match.argmax(axis=1), count - 1)
    later[rows] = ~first | match.any(axis=1)
    known[rows] = first.astype(np.intp) + match.sum(axis=1) == 1
    after[rows] = np.where(later[rows], retx["after_us"][np.arange(len(rows)), which].astype(np.float64), 0.0)
    return _Answered(after, later, known)


def judge(events: Events) -> Verdicts:
    """Facts of TFO.md section 3 for a batch."""
    syn, synack = events["syn"], events["synack"]
    length = syn["payload_len"].astype(np.uint32)
    with_option = has(syn["has"], Has.TFO)
    with_cookie = with_option & (syn["cookie_len"] > 0)
    with_data = length > 0
    attempted = with_option | with_data
    answered = has(synack["has"], Has.SEGMENT)
    # modulo 2^32, as sequence numbers are
    acked = np.where(answered, synack["ack"] - (syn["seq"] + np.uint32(1)), np.uint32(0)).astype(np.uint32)

    # a cookie that was not asked for is ignored, as in Linux
    cookie_back = answered & with_option & has(synack["has"], Has.TFO) & (synack["cookie_len"] > 0)
    same_cookie = np.zeros(len(events), np.bool_)
    rows = np.flatnonzero(cookie_back & with_cookie)
    if len(rows):
        sent, got = cookies(syn[rows]), cookies(synack[rows])
        same_length = syn["cookie_len"][rows] == synack["cookie_len"][rows]
        same_cookie[rows] = same_length & (sent == got).all(axis=1)

    answer = _answered(events)
    fallback = answer.later & (acked == 0) & ~cookie_back
    refused = (events["result"] == HandshakeResult.REJECTED) | (events["result"] == HandshakeResult.UNREACHABLE)
    all_acked = with_data & (acked == length)
    outcome = np.select(
        [
            ~attempted,
            ~answered & (events["one_way"] != 0),
            ~answered & refused,
            ~answered,
            acked > length,
            all_acked & cookie_back,
            all_acked,
            acked > 0,
            fallback,
            with_data & same_cookie,
            with_data & cookie_back,
            with_data,
            with_cookie & same_cookie,
            with_cookie & cookie_back,
            with_cookie,
            cookie_back,
        ],
        [
            Outcome.NOT_ATTEMPTED,
            Outcome.UNKNOWN,
            Outcome.REJECTED,
            Outcome.NO_ANSWER,
            Outcome.OVER_ACKED,
            Outcome.DATA_ACKED_NEW_COOKIE,
            Outcome.DATA_ACKED,
            Outcome.DATA_PARTLY_ACKED,
            Outcome.SYN_TIMEOUT_FALLBACK,
            Outcome.DATA_NOT_ACKED_SAME_COOKIE,
            Outcome.DATA_NOT_ACKED_NEW_COOKIE,
            Outcome.DATA_NOT_ACKED,
            Outcome.COOKIE_ONLY_SAME_COOKIE,
            Outcome.COOKIE_ONLY_NEW_COOKIE,
            Outcome.COOKIE_ONLY,
            Outcome.COOKIE_GRANTED,
        ],
        Outcome.COOKIE_NOT_GRANTED,
    ).astype(np.uint8)
    # an open answer still gives the delay of a fallback, but no round trip
    told = answered & (answer.known | (outcome == Outcome.SYN_TIMEOUT_FALLBACK))
    return Verdicts(
        request=_request(with_option, with_cookie, with_data, has(syn["has"], Has.TFO_MALFORMED)),
        outcome=outcome,
        group=GROUP_TABLE[outcome],
        attempted=attempted,
        acked_payload_len=acked,
        answered_after_us=np.where(told, answer.after_us, np.nan),
        answer_known=answered & answer.known,
    )
