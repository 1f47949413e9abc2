"""What the connections to one address show together. Facts of the wire decide; words are in text.py."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

from tracer.probe.benefit import benefit
from tracer.probe.model import GOOD, Agreed, Answer, Asks, Connection, Payload, Side, Verdict
from tracer.records.record import Handshake
from tracer.vocabulary.vocabulary import ClientFail, Outcome, Request, word

_TAKEN = {word(Outcome.DATA_ACKED), word(Outcome.DATA_ACKED_NEW_COOKIE)}
_REFUSED = {
    word(one) for one in (
        Outcome.DATA_NOT_ACKED, Outcome.DATA_NOT_ACKED_NEW_COOKIE, Outcome.DATA_NOT_ACKED_SAME_COOKIE,
        Outcome.DATA_PARTLY_ACKED,
    )
}  # fmt: skip
_REPLACED = word(Outcome.DATA_NOT_ACKED_NEW_COOKIE)
_UNANSWERED = {word(Outcome.SYN_TIMEOUT_FALLBACK), word(Outcome.NO_ANSWER), word(Outcome.REJECTED)}
_NOT_ATTEMPTED = word(Request.NONE)
_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM, errno.ENETDOWN, errno.EADDRNOTAVAIL}


def judged(ip: str, connections: Sequence[Connection], payload: Payload) -> Answer:
    """The verdict on an address, and its figures. The connections are in the order in which they were made."""
    plain = [one for one in connections if one.asks is Asks.PLAIN]
    fast_open = [one for one in connections if one.asks is Asks.FAST_OPEN]
    answer = Answer(ip, Verdict.NOT_SEEN, _side(plain, _has_no_data), _side(fast_open, _is_taken))
    answer.connections = list(connections)
    answer.fails = dict(Counter(word(one.client_fail) for one in fast_open if one.client_fail is not ClientFail.NONE))
    seen = [(one, one.record) for one in fast_open if one.record is not None]
    answer.outcomes = dict(Counter(record.tfo.outcome for _, record in seen if record.tfo.outcome is not None))
    _count(answer, seen)
    answer.negotiated = _agreed(connections)
    answer.benefit = benefit(_responses(plain, _has_no_data), _responses(fast_open, _is_taken))
    answer.verdict = _verdict(answer, plain, [record for _, record in seen], payload)
    return answer


def _count(answer: Answer, seen: Sequence[tuple[Connection, Handshake]]) -> None:
    granted = [record.tfo.synack_cookie_id for _, record in seen if record.tfo.synack_cookie_id is not None]
    lengths = [record.tfo.synack_cookie_len for _, record in seen if record.tfo.synack_cookie_id is not None]
    answer.cookies, answer.cookie_len = len(set(granted)), lengths[-1] if lengths else None
    if not seen:
        return
    first = seen[0][1].tfo
    answer.was_cached = first.cookie_id is not None
    # a cookie of earlier days tells of those: the key may have changed since
    answer.was_stale = answer.was_cached and first.outcome == _REPLACED
    for one, record in seen[1:] if answer.was_stale else seen:
        if not record.syn.payload_len:
            continue
        outcome = record.tfo.outcome
        answer.tried += 1
        answer.taken += outcome in _TAKEN
        answer.lived += outcome in _TAKEN and _is_served(one, answer)
        answer.refused += outcome in _REFUSED
        answer.replaced += outcome == _REPLACED
        answer.unanswered += outcome in _UNANSWERED


def _agreed(connections: Sequence[Connection]) -> Agreed | None:
    for one in reversed([one for one in connections if one.asks is Asks.PLAIN]):
        record = one.record
        if record is not None and record.synack is not None and record.negotiated is not None:
            both = record.negotiated
            scale = record.synack.wscale if both.wscale else None
            return Agreed(record.synack.mss, scale, both.sack, both.timestamps, record.synack.hops)
    return None


def _is_served(one: Connection, answer: Answer) -> bool:
    """Did the connection live? Where plain ones are not answered either, an acked request is as much as can be had."""
    if one.answered:
        return True
    return not answer.plain.answered and one.connected and one.error != errno.ECONNRESET


def _verdict(answer: Answer, plain: Sequence[Connection], records: Sequence[Handshake], payload: Payload) -> Verdict:
    if not answer.plain.established and not answer.fast_open.established:
        return _failed(answer.connections)
    if not records:
        return Verdict.NOT_SEEN
    if payload is not Payload.NONE and not answer.plain.answered + answer.fast_open.answered and _is_silent(plain):
        return Verdict.SILENT
    tried = [record for record in records if record.tfo.request != _NOT_ATTEMPTED]
    if not tried:
        return Verdict.NOT_SENT
    if answer.tried:
        return _of_data(answer)
    if answer.cookie_len is not None:
        return Verdict.GRANTS if payload is Payload.NONE or len(records) == 1 else Verdict.NOT_SENT
    if answer.was_cached:
        return Verdict.CACHED
    if all(record.tfo.outcome in _UNANSWERED for record in tried):
        return Verdict.DROPS_OPTION
    return Verdict.NOT_GRANTED


def _is_silent(plain: Sequence[Connection]) -> bool:
    """Did nothing come back for the request of any plain connection, not even an ACK?"""
    acked = [one.record.handshake.request_acked for one in plain if one.record is not None and one.connected]
    return bool(acked) and not any(acked)


def _of_data(answer: Answer) -> Verdict:
    """Data was sent in SYNs."""
    if answer.lived == answer.tried:
        return Verdict.WORKS
    if answer.replaced and answer.replaced + answer.lived == answer.tried:
        return Verdict.KEY_NOT_SHARED
    if answer.lived:
        return Verdict.PARTLY
    counts = {
        Verdict.BREAKS_AFTER: answer.taken, Verdict.DROPS_SYN_DATA: answer.unanswered, Verdict.NOT_TAKEN: answer.refused
    }  # fmt: skip
    return max(counts, key=lambda one: counts[one])


def _failed(connections: Sequence[Connection]) -> Verdict:
    errors = [one.error for one in connections]
    common = max(set(errors), key=errors.count) if errors else 0
    if common == errno.ECONNREFUSED:
        return Verdict.REFUSED
    return Verdict.UNREACHABLE if common in _UNREACHABLE else Verdict.NO_ANSWER


def is_good(answers: Sequence[Answer]) -> bool:
    """Does Fast Open work with all of these?"""
    return bool(answers) and all(one.verdict in GOOD for one in answers)


def _has_no_data(record: Handshake) -> bool:
    return not record.syn.payload_len and record.handshake.syn_count == 1


def _is_taken(record: Handshake) -> bool:
    return record.tfo.outcome in _TAKEN


def _side(connections: Sequence[Connection], counts: Callable[[Handshake], bool]) -> Side:
    """`counts` chooses the handshakes whose response is measured."""
    records = [one.record for one in connections if one.record is not None]
    rtts = [record.handshake.rtt_us for record in records if record.handshake.rtt_us is not None]
    responses = _responses(connections, counts)
    return Side(
        len(connections),
        sum(one.connected for one in connections),
        sum(one.answered for one in connections),
        median(rtts) if rtts else None,
        median(responses) if responses else None,
        sum(record.handshake.syn_count > 1 for record in records),
    )


def _responses(connections: Sequence[Connection], counts: Callable[[Handshake], bool]) -> list[float]:
    return [
        one.record.handshake.first_response_us
        for one in connections
        if one.record is not None and one.record.handshake.first_response_us is not None and counts(one.record)
    ]
