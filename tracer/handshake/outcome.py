"""What TCP Fast Open did, as facts seen on the wire: TFO.md sections 2 and 3 over whole batches.

The input is structured arrays of struct handshake_event (bpf/event.h), the output one column per question. Durations
are microseconds as float64, NaN if unknown. This makes no Python object per handshake.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import F64, U8, U32, U64, Bool, Events, Indexes, byte_rows, has, pick
from tracer.handshake.life import died, judge_life
from tracer.vocabulary.vocabulary import GROUP_OF, After, Group, HandshakeResult, Has, Outcome, Request

COOKIE_MAX = 16  # bytes, RFC 7413 section 4.1.1

GROUP_TABLE: U8 = np.array([GROUP_OF[outcome] for outcome in Outcome], np.uint8)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One row per handshake, in the order of the batch.

    Request and outcome are those of the first SYN-ACK; the others are those of the SYN-ACK that the client took.
    """

    request: U8  # Request
    outcome: U8  # Outcome
    group: U8  # Group
    attempted: Bool  # a TFO option or data in the first SYN
    acked_payload_len: U32  # bytes of the first SYN's data acked by the SYN-ACK
    answered_after_us: F64  # first SYN to the SYN that was answered, NaN if that is ambiguous
    answered_syn: U8  # which SYN was answered, from 1; 0 if that is not certain
    after: U8  # After
    lived: Bool  # the server answered, closed, or acked more than its SYN-ACK did

    @property
    def answer_known(self) -> Bool:
        """Is it certain which SYN was answered?"""
        known: Bool = self.answered_syn != 0
        return known


# by cookie_len
_KEPT: NDArray[np.uint64] = np.array(
    [np.frombuffer((b"\xff" * length).ljust(COOKIE_MAX, b"\0"), "<u8") for length in range(COOKIE_MAX + 1)]
)


def cookie_words(segment: Events, rows: NDArray[np.intp] | None = None) -> NDArray[np.uint64]:
    """The TFO cookie of each segment, or of those in `rows`, as two little-endian words: [n, 2].

    Bytes after `cookie_len` are zero.
    """
    # options as one value each: numpy copies rows of bytes many times slower
    width = segment["options"].shape[1]
    columns = segment["options"].view(f"V{width}")[:, 0], segment["tfo_offset"], segment["cookie_len"]
    options, offsets, lengths = columns if rows is None else (column[rows] for column in columns)
    text = np.zeros(len(options) + 1, options.dtype)
    text[:-1] = options
    at = np.minimum(offsets, width)
    # every byte of the text may begin a cookie
    words = np.ndarray((len(options) * width + 1,), f"V{COOKIE_MAX}", text, strides=(1,))
    found: NDArray[np.uint64] = words[np.arange(len(options)) * width + at].view("<u8").reshape(-1, 2)
    found &= _KEPT.take(np.minimum(np.minimum(lengths, COOKIE_MAX), width - at), axis=0)
    return found


def cookie_rows(segment: Events) -> list[bytes]:
    """The TFO cookie of each segment, empty where there is none."""
    lengths = segment["cookie_len"].tolist()
    if not any(lengths):
        return [b""] * len(lengths)
    whole = byte_rows(cookie_words(segment).astype("<u8", copy=False).view(np.uint8))
    return [row[:length] for row, length in zip(whole, lengths, strict=True)]


@dataclass(frozen=True, slots=True)
class FirstAnswers:
    """The first SYN-ACK of each handshake, which decides about Fast Open, whichever the client took."""

    ns: U64
    ack: U32
    ts_ecr: U32
    has: NDArray[np.uint16]
    tfo_kind: U8
    cookie_len: U8
    others: Indexes  # rows whose client took another one


def first_answers(events: Events) -> FirstAnswers:
    """Columns of `synack`, and of `first_answer` where there is one."""
    synack, first = events["synack"], events["first_answer"]
    rows = np.flatnonzero(first["has"])
    columns = {"ns": events["synack_ns"], **{name: synack[name] for name in _ANSWER}}
    if len(rows):
        for name, column in columns.items():
            columns[name] = column.copy()
            columns[name][rows] = first[name][rows]
    return FirstAnswers(**columns, others=rows)


_ANSWER = ("ack", "ts_ecr", "has", "tfo_kind", "cookie_len")


def first_cookie_words(events: Events, rows: NDArray[np.intp]) -> NDArray[np.uint64]:
    """The cookie of the first SYN-ACK of some rows, as cookie_words() has it."""
    found = cookie_words(events["synack"], rows)
    first = events["first_answer"]
    other = np.flatnonzero(first["has"][rows])
    if len(other):
        cookies = np.ascontiguousarray(first["cookie"][rows[other]]).view("<u8")
        found[other] = cookies & _KEPT.take(np.minimum(first["cookie_len"][rows[other]], COOKIE_MAX), axis=0)
    return found


def first_cookie_rows(events: Events) -> list[bytes]:
    """The cookie of each first SYN-ACK, empty where there is none."""
    found = cookie_rows(events["synack"])
    first = events["first_answer"]
    for row in np.flatnonzero(first["has"]).tolist():
        found[row] = first["cookie"][row].tobytes()[: int(first["cookie_len"][row])]
    return found


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


# who goes on after a reset or an ICMP error did not wait for a timeout
_WAS_REFUSED = np.zeros(256, np.bool_)
_WAS_REFUSED[[HandshakeResult.ABORTED, HandshakeResult.REJECTED, HandshakeResult.UNREACHABLE]] = True


@dataclass(frozen=True, slots=True)
class _Answered:
    """The SYN that a SYN-ACK answers: its number from 0, when it left, is it certain?"""

    which: U8
    after_us: F64
    known: Bool

    @property
    def later(self) -> Bool:
        """May it be another one than the first?"""
        found: Bool = self.which > 0
        return found

    def put(self, rows: Indexes, others: _Answered) -> None:
        """Replace some rows."""
        self.which[rows], self.after_us[rows], self.known[rows] = others.which, others.after_us, others.known


def _answered(events: Events, synack_ns: U64, carried: NDArray[np.uint16], ts_ecr: U32) -> _Answered:
    """The SYN-ACK's TSecr decides, unless SYNs of one millisecond share a TSval.

    If it does not decide and several SYNs came before the SYN-ACK, the outcome assumes a later SYN (TFO.md section 3),
    and the delay the last one of them.
    """
    found = _Answered(np.zeros(len(events), np.uint8), np.zeros(len(events)), np.ones(len(events), np.bool_))
    rows = np.flatnonzero(events["retx_count"])
    if not len(rows):
        return found
    syn, retx, count = events["syn"], events["retx"][rows], events["retx_count"][rows]
    waited_us = (synack_ns[rows] - events["syn_ns"][rows]).view(np.int64) // 1000
    there = np.arange(retx.shape[1]) < count[:, None]
    before = there & (retx["after_us"] <= waited_us[:, None])
    stamped = has(syn["has"][rows], Has.TIMESTAMPS) & has(carried[rows], Has.TIMESTAMPS)
    echo = ts_ecr[rows]
    first = stamped & (syn["ts_val"][rows] == echo)
    named = there & stamped[:, None] & (retx["ts_val"] == echo[:, None])
    # a SYN-ACK may overtake its SYN on the way to us, but only where it names no SYN that came before it
    earlier = first | (named & before).any(axis=1)
    named &= before | ~earlier[:, None]
    any_named, preceding = named.any(axis=1), before.sum(axis=1)
    open_ = ~first & ~any_named
    which = np.where(any_named, named.argmax(axis=1) + 1, np.where(open_, preceding, 0))
    after = np.where(which > 0, retx["after_us"][np.arange(len(rows)), which - 1].astype(np.float64), 0.0)
    known = (first.astype(np.intp) + named.sum(axis=1) == 1) | (open_ & (preceding == 0))
    found.put(rows, _Answered(which.astype(np.uint8), after, known))
    return found


def _number(events: Events, which: U8) -> U8:
    """Which SYN that is, from 1. Where retx[] is too short the latest SYN overwrote the last place."""
    number: U8 = which + np.uint8(1)
    rows = np.flatnonzero(which == events.dtype["retx"].shape[0])
    if len(rows):
        before = events["syn_count"][rows].astype(np.int16) - events["late_syns"][rows]
        number[rows] = np.maximum(number[rows], before)
    return number


# facts that every handshake needs
_IN_ORDER = [
    np.uint16(fact)
    for fact in (
        _Fact.OPTION, _Fact.DATA, _Fact.ANSWERED, _Fact.ACKED_MORE, _Fact.ACKED_ALL, _Fact.ACKED_SOME, _Fact.LATER_SYN,
        _Fact.ONE_WAY, _Fact.MALFORMED,
    )
]  # fmt: skip


def _facts(events: Events, answer: FirstAnswers, acked: U32, later: Bool) -> NDArray[np.intp]:
    """All facts of each handshake as one number."""
    syn = events["syn"]
    carried, back, length = syn["has"], answer.has, syn["payload_len"].astype(np.uint32)
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
    sent_len, back_len = syn["cookie_len"][rows], answer.cookie_len[rows]
    with_cookie = sent_len != 0
    # ignore a cookie that was not asked for, like Linux
    cookie_back = answered[rows] & has(back[rows], Has.TFO) & (back_len != 0)
    of_option = with_cookie * np.uint16(_Fact.COOKIE) | cookie_back * np.uint16(_Fact.COOKIE_BACK)
    both = np.flatnonzero(cookie_back & with_cookie & (sent_len == back_len))
    if len(both):
        same = (cookie_words(syn, rows[both]) == first_cookie_words(events, rows[both])).all(axis=1)
        of_option[both] |= same * np.uint16(_Fact.SAME_COOKIE)
    facts[rows] |= of_option
    return facts.astype(np.intp)


def _acked(synack_ack: U32, seq: U32, carried: NDArray[np.uint16]) -> U32:
    """How many bytes of the SYN's data are acked, modulo 2^32, as sequence numbers are."""
    acked: U32 = synack_ack - seq - np.uint32(1)
    acked *= has(carried, Has.SEGMENT)
    return acked


def judge(events: Events) -> Verdicts:
    """The facts of TFO.md section 3 for a batch."""
    first = first_answers(events)
    acked = _acked(first.ack, events["syn"]["seq"], first.has)
    answer = _answered(events, first.ns, first.has, first.ts_ecr)
    # who was reset or challenged did not wait for a timeout, but had the SYN answered otherwise
    challenged = events["challenge_acks"] != 0
    timed_out = answer.later & ~(challenged | _WAS_REFUSED.take(events["resumed"]))
    facts = _facts(events, first, acked, timed_out)
    outcome = _OUTCOMES.take(facts)
    if len(first.others):
        taken = pick(events, first.others)
        synack = taken["synack"]
        acked[first.others] = _acked(synack["ack"], taken["syn"]["seq"], synack["has"])
        answer.put(first.others, _answered(taken, taken["synack_ns"], synack["has"], synack["ts_ecr"]))
    answered = has(first.has, Has.SEGMENT)
    known = answered & answer.known
    # an ambiguous answer still gives the delay of a fallback, but no round trip
    after_us = answer.after_us
    np.copyto(after_us, np.nan, where=~(known | answered & (outcome == Outcome.SYN_TIMEOUT_FALLBACK)))
    group = _GROUPS.take(facts)
    after, lived = judge_life(events)
    attempts = np.flatnonzero((group != Group.NOT_APPLICABLE) & (after != After.RESPONSE))
    group[died(events, attempts, lived)] = Group.FAILED
    return Verdicts(
        request=_REQUESTS.take(facts),
        outcome=outcome,
        group=group,
        attempted=_ATTEMPTED.take(facts),
        acked_payload_len=acked,
        answered_after_us=after_us,
        answered_syn=_number(events, answer.which) * known,
        after=after,
        lived=lived,
    )
