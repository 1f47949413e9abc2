"""What TCP Fast Open did, as facts seen on the wire: TFO.md sections 2 and 3 over whole batches.

The input is structured arrays of struct handshake_event (bpf/event.h), the output one column per question. Durations
are microseconds as float64, NaN if unknown. This makes no Python object per handshake.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import F64, U8, U32, Bool, Events, byte_rows, has
from tracer.vocabulary.vocabulary import GROUP_OF, HandshakeResult, Has, Outcome, Request

COOKIE_MAX = 16  # bytes, RFC 7413 section 4.1.1

GROUP_TABLE: U8 = np.array([GROUP_OF[outcome] for outcome in Outcome], np.uint8)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One row per handshake, in the order of the batch."""

    request: U8  # Request
    outcome: U8  # Outcome
    group: U8  # Group
    attempted: Bool  # a TFO option or data in the first SYN
    acked_payload_len: U32  # bytes of the first SYN's data acked by the first SYN-ACK
    answered_after_us: F64  # first SYN to the SYN that was answered, NaN if that is ambiguous
    answer_known: Bool  # which SYN was answered is certain


# by cookie_len
_KEPT: NDArray[np.uint64] = np.array(
    [np.frombuffer((b"\xff" * length).ljust(COOKIE_MAX, b"\0"), "<u8") for length in range(COOKIE_MAX + 1)]
)


def cookie_words(segment: Events, rows: NDArray[np.intp] | None = None) -> NDArray[np.uint64]:
    """The TFO cookie of each segment, or of those in `rows`, as two little-endian words: [n, 2].

    Bytes after `cookie_len` are zero.
    """
    options, offsets, lengths = segment["options"], segment["tfo_offset"], segment["cookie_len"]
    if rows is not None:
        options, offsets, lengths = options[rows], offsets[rows], lengths[rows]
    found = np.zeros((len(lengths), 2), np.uint64)
    # clients use few different layouts: one step per offset
    taken = np.flatnonzero(np.bincount(offsets[lengths != 0])).tolist()
    for offset in taken:
        part = options[:, offset : offset + COOKIE_MAX]
        if part.shape[1] < COOKIE_MAX:
            part = np.pad(part, ((0, 0), (0, COOKIE_MAX - part.shape[1])))
        if len(taken) == 1:
            found[:] = part.view("<u8")
        else:
            np.copyto(found, part.view("<u8"), where=(offsets == offset)[:, None])
    found &= _KEPT.take(np.minimum(lengths, COOKIE_MAX), axis=0)
    return found


def cookie_rows(segment: Events) -> list[bytes]:
    """The TFO cookie of each segment, empty where there is none."""
    lengths = segment["cookie_len"].tolist()
    if not any(lengths):
        return [b""] * len(lengths)
    whole = byte_rows(cookie_words(segment).astype("<u8", copy=False).view(np.uint8))
    return [row[:length] for row, length in zip(whole, lengths, strict=True)]


class _Fact(IntFlag):
    """The facts that determine request and outcome, one bit each; together they index the tables."""

    OPTION = 1 << 0
    MALFORMED = 1 << 1
    COOKIE = 1 << 2
    DATA = 1 << 3
    ANSWERED = 1 << 4
    COOKIE_BACK = 1 << 5  # in answer to an option
    SAME_COOKIE = 1 << 6
    ONE_WAY = 1 << 7
    REFUSED = 1 << 8
    ACKED_MORE = 1 << 9  # than the data's length
    ACKED_ALL = 1 << 10
    ACKED_SOME = 1 << 11
    LATER_SYN = 1 << 12  # a later SYN was answered


def _verdicts() -> tuple[U8, U8]:
    """Request and outcome for every combination of facts (TFO.md section 3)."""
    facts = np.arange(2 * _Fact.LATER_SYN, dtype=np.uint16)

    def are(*wanted: _Fact) -> Bool:
        every = np.uint16(sum(wanted))
        found: Bool = (facts & every) == every
        return found

    request = np.select(
        [
            are(_Fact.OPTION, _Fact.COOKIE, _Fact.DATA),
            are(_Fact.OPTION, _Fact.COOKIE),
            are(_Fact.OPTION, _Fact.DATA),
            are(_Fact.OPTION),
            are(_Fact.MALFORMED),
            are(_Fact.DATA),
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
    )
    with_data, with_cookie = are(_Fact.DATA), are(_Fact.OPTION, _Fact.COOKIE)
    answered, cookie_back, same_cookie = are(_Fact.ANSWERED), are(_Fact.COOKIE_BACK), are(_Fact.SAME_COOKIE)
    all_acked, some_acked = are(_Fact.DATA, _Fact.ACKED_ALL), are(_Fact.ACKED_SOME)
    outcome = np.select(
        [
            ~are(_Fact.OPTION) & ~with_data,
            ~answered & are(_Fact.ONE_WAY),
            ~answered & are(_Fact.REFUSED),
            ~answered,
            are(_Fact.ACKED_MORE),
            all_acked & cookie_back,
            all_acked,
            some_acked,
            are(_Fact.LATER_SYN) & ~cookie_back,
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
    )
    return request.astype(np.uint8), outcome.astype(np.uint8)


_REQUESTS, _OUTCOMES = _verdicts()
_GROUPS: U8 = GROUP_TABLE[_OUTCOMES]
_ATTEMPTED: Bool = np.arange(2 * _Fact.LATER_SYN) & (_Fact.OPTION | _Fact.DATA) != 0
_REFUSED = np.zeros(256, np.uint16)
_REFUSED[[HandshakeResult.REJECTED, HandshakeResult.UNREACHABLE]] = _Fact.REFUSED


@dataclass(frozen=True, slots=True)
class _Answered:
    """The SYN that a SYN-ACK answers: when it left, may it be a later one, is it certain?"""

    after_us: F64
    later: Bool
    known: Bool


def _answered(events: Events) -> _Answered:
    """The SYN-ACK's TSecr decides, unless SYNs of one millisecond share a TSval.

    If it does not decide and several SYNs came before the SYN-ACK, the outcome assumes a later SYN (TFO.md section 3),
    and the delay the last one.
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


# facts that every handshake needs
_IN_ORDER = [
    np.uint16(fact)
    for fact in (
        _Fact.OPTION, _Fact.DATA, _Fact.ANSWERED, _Fact.ACKED_MORE, _Fact.ACKED_ALL, _Fact.ACKED_SOME, _Fact.LATER_SYN,
        _Fact.ONE_WAY, _Fact.MALFORMED,
    )
]  # fmt: skip


def _facts(events: Events, acked: U32, later: Bool) -> NDArray[np.intp]:
    """All facts of each handshake as one number."""
    syn, synack = events["syn"], events["synack"]
    carried, back, length = syn["has"], synack["has"], syn["payload_len"].astype(np.uint32)
    with_option, answered = has(carried, Has.TFO), has(back, Has.SEGMENT)
    facts = _REFUSED.take(events["result"])
    for fact, column in zip(
        _IN_ORDER,
        (
            with_option, length != 0, answered, acked > length, acked == length, acked != 0, later,
            events["one_way"] != 0, has(carried, Has.TFO_MALFORMED),
        ),
        strict=True,
    ):  # fmt: skip
        facts |= column * fact
    rows = np.flatnonzero(with_option)
    if not len(rows):
        return facts.astype(np.intp)
    sent_len, back_len = syn["cookie_len"][rows], synack["cookie_len"][rows]
    with_cookie = sent_len != 0
    # ignore a cookie that was not asked for, like Linux
    cookie_back = answered[rows] & has(back[rows], Has.TFO) & (back_len != 0)
    of_option = with_cookie * np.uint16(_Fact.COOKIE) | cookie_back * np.uint16(_Fact.COOKIE_BACK)
    both = np.flatnonzero(cookie_back & with_cookie & (sent_len == back_len))
    if len(both):
        same = (cookie_words(syn, rows[both]) == cookie_words(synack, rows[both])).all(axis=1)
        of_option[both] |= same * np.uint16(_Fact.SAME_COOKIE)
    facts[rows] |= of_option
    return facts.astype(np.intp)


def judge(events: Events) -> Verdicts:
    """The facts of TFO.md section 3 for a batch."""
    answered = has(events["synack"]["has"], Has.SEGMENT)
    # modulo 2^32, as sequence numbers are
    acked: U32 = events["synack"]["ack"] - events["syn"]["seq"] - np.uint32(1)
    acked *= answered
    answer = _answered(events)
    facts = _facts(events, acked, answer.later)
    outcome = _OUTCOMES.take(facts)
    # an ambiguous answer still gives the delay of a fallback, but no round trip
    told = answered & (answer.known | (outcome == Outcome.SYN_TIMEOUT_FALLBACK))
    after_us = answer.after_us
    after_us[~told] = np.nan
    return Verdicts(
        request=_REQUESTS.take(facts),
        outcome=outcome,
        group=_GROUPS.take(facts),
        attempted=_ATTEMPTED.take(facts),
        acked_payload_len=acked,
        answered_after_us=after_us,
        answer_known=answered & answer.known,
    )
