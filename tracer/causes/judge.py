"""Why a handshake went as it did: TFO.md section 4, inferred from the record, its peer's history, and the traced host's
own counters and sysctls.

A cause is an inference, separate from the outcome, and depends on the vantage: we never claim of a remote server what
only its host can know. This works on whole batches, and only on rows with something to explain; ordinary traffic costs
one mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tracer.causes.after_accept import AfterAccept
from tracer.causes.attempts import Attempts, PeerHash
from tracer.causes.both_ends import BothEnds
from tracer.causes.case import Case
from tracer.causes.cookie_check import CookieChecks
from tracer.causes.cookies import COOKIE_SENT, REFUSED, key_rotation, refused
from tracer.causes.kernel_evidence import COOKIE_NOT_REQUIRED, SERVER_ENABLE, SYN_COOKIES_ALWAYS, KernelEvidence
from tracer.causes.peer_history import PeerHistory
from tracer.causes.timeouts import LOST_AFTER_NS, timed_out
from tracer.dissect import signature
from tracer.handshake.batch import Batch
from tracer.handshake.causes import Causes
from tracer.handshake.events import Bool, Indexes, has, pick
from tracer.ipc.messages import Host, HostAnswer, HostQuestion
from tracer.vocabulary.vocabulary import (
    Cause,
    CauseAt,
    Confidence,
    HandshakeCause,
    HandshakeResult,
    Has,
    Outcome,
    Request,
    SettleReason,
    Vantage,
)

BLACKHOLE_REPEATS = 2  # the third timeout comes after two

AskHost = Callable[[HostQuestion], HostAnswer | None]

_AT_SERVER = 2  # the bit that SERVER and LOCAL share
_HOPS = np.array([signature.hops(ttl) for ttl in range(256)], np.uint8)
_SAME_BACK = (Outcome.DATA_NOT_ACKED_SAME_COOKIE, Outcome.COOKIE_ONLY_SAME_COOKIE)
_NO_OPTION_BACK = (Outcome.COOKIE_NOT_GRANTED, Outcome.DATA_NOT_ACKED)
_WITHOUT_DATA = (Outcome.COOKIE_ONLY, Outcome.COOKIE_ONLY_NEW_COOKIE, Outcome.COOKIE_ONLY_SAME_COOKIE)
_UNEXPLAINED = np.zeros(len(Outcome), np.bool_)
_UNEXPLAINED[list(_NO_OPTION_BACK)] = True
_TO_EXPLAIN = np.zeros(len(Outcome), np.bool_)
for _outcome in (
    Outcome.DATA_ACKED_NEW_COOKIE, *REFUSED, *_SAME_BACK, *_NO_OPTION_BACK, Outcome.SYN_TIMEOUT_FALLBACK,
    *_WITHOUT_DATA,
):  # fmt: skip
    _TO_EXPLAIN[_outcome] = True


class CauseJudge:
    """Gives each batch its causes and cookie checks, in the order in which handshakes were settled.

    `ask` gets the host's state and verdicts on cookies from the root part, or None; without it (a replay) the host's
    state is unknown. `check_cookies` may be off if nobody sees the checks: they only make a cause more certain.
    """

    def __init__(self, ask: AskHost | None = None, *, check_cookies: bool = True) -> None:
        self._ask = ask
        self._check_cookies = check_cookies
        self._hash = PeerHash()
        self._history = PeerHistory()
        self._after_accept = AfterAccept(self._hash)
        self._evidence = KernelEvidence()
        self._cookies = CookieChecks()
        self._both_ends = BothEnds()

    def add_host(self, host: Host) -> None:
        """Take new counters and sysctls of the host."""
        self._evidence.add(host)
        self._cookies.keys_changed(host.key_changes)

    def set_interfaces(self, number: int) -> None:
        """Set how many interfaces are traced: with several, a handshake may be seen twice."""
        self._both_ends.several |= number > 1

    def judge(self, batch: Batch) -> Batch:
        """The same batch with its causes."""
        case = Case(batch, Causes.none(len(batch)))
        attempts = np.flatnonzero(batch.verdicts.attempted)
        dropped = _not_answered_here(batch)
        broke, broke_again = self._after_accept.died(batch)
        stripped, emptied = self._both_ends.compare(batch.events)
        if not len(attempts) and not dropped.any() and not stripped.any() and not emptied.any():
            return batch
        if len(attempts):
            tried = self._hash.of(batch, attempts)
            self._ask_root(case, tried, broke)
            self._history.note(tried)
        case.say(np.flatnonzero(stripped), Cause.OPTION_STRIPPED, Confidence.CERTAIN)
        case.say(np.flatnonzero(emptied), Cause.PAYLOAD_STRIPPED, Confidence.CERTAIN)
        case.blame(np.flatnonzero(dropped), HandshakeCause.HOST_DROPPED, Confidence.POSSIBLE, CauseAt.THIS_HOST)
        if len(broke):
            self._broke_after_accept(case, broke, broke_again)
        if _TO_EXPLAIN[batch.verdicts.outcome[attempts]].any():
            key_rotation(case)
            refused(case, self._hash, self._history)
            case.say(case.outcome_is(*_SAME_BACK), Cause.CHILD_FAILED, Confidence.LIKELY)
            self._no_option_back(case)
            timed_out(case, self._hash, self._history)
            self._no_data(case)
        return replace(batch, causes=case.causes)

    # --- asking the root part ---

    def _ask_root(self, case: Case, tried: Attempts, broke: Indexes) -> None:
        if self._ask is None:
            return
        checks = case.causes.cookie_check
        here = (tried.vantage & _AT_SERVER) != 0
        asks = _client_repeated(case.batch, broke)
        if not here.any() and not len(asks):
            return
        asked = None
        if self._check_cookies:
            sent = tried.some(here & tried.with_cookie)
            asked = self._cookies.begin(sent, checks) if len(sent.rows) else None
        # counters explain a SYN-ACK only if they were read after it
        synack_ns = tried.events["synack_ns"][here & _UNEXPLAINED.take(tried.outcome)]
        wanted_ns = np.concatenate((synack_ns, case.batch.events["settled_ns"][asks]))
        too_old = len(wanted_ns) and int(wanted_ns.max()) > self._evidence.latest_ns
        if asked is None and not too_old:
            return
        answer = self._ask(HostQuestion(cookies=asked.questions if asked is not None else []))
        if answer is None:
            return
        self.add_host(answer.host)
        if asked is not None:
            self._cookies.end(asked, answer.checks, checks)

    # --- one kind of row each ---

    def _broke_after_accept(self, case: Case, rows: Indexes, likely: Bool) -> None:
        asks = _client_repeated(case.batch, rows)
        if len(asks):
            events = pick(case.batch.events, asks)
            sure = self._evidence.saw_blackhole(events["syn_ns"], events["settled_ns"])
            case.say(asks[sure], Cause.PATH_BREAKS_AFTER_ACCEPT, Confidence.CERTAIN)
        case.say(rows[likely], Cause.PATH_BREAKS_AFTER_ACCEPT, Confidence.LIKELY)
        case.say(rows, Cause.PATH_BREAKS_AFTER_ACCEPT, Confidence.POSSIBLE)

    def _no_option_back(self, case: Case) -> None:
        rows = case.outcome_is(*_NO_OPTION_BACK)
        if not len(rows):
            return
        batch = case.batch
        # who goes on after a reset may do so with a bare SYN, whose answer says nothing of Fast Open
        rows = rows[(batch.events["resumed"][rows] == 0) | (batch.verdicts.answered_syn[rows] == 1)]
        # a SYN-ACK that passed a router is not from this host's stack: the port is forwarded, perhaps to a container
        own = _HOPS[batch.events["synack"]["ttl"][rows]] == 0
        here = ((batch.vantage[rows] & _AT_SERVER) != 0) & own
        self._at_server(case, rows[here])
        rows = rows[case.causes.cause[rows] == Cause.NONE]
        request = batch.verdicts.request[rows]
        tried = self._hash.of(batch, rows)
        works = self._history.works(tried)
        data_only = request == Request.DATA_ONLY
        case.say(rows[data_only & works], Cause.COOKIE_REQUIRED, Confidence.LIKELY)
        case.say(rows[data_only], Cause.COOKIE_REQUIRED, Confidence.POSSIBLE)
        needless = ~np.isin(request, COOKIE_SENT) & self._history.takes_data_without_cookie(tried)
        case.say(rows[needless], Cause.COOKIE_NOT_REQUIRED, Confidence.LIKELY)
        # if it has worked before, the queue may be full or SYN cookies active: we cannot tell from here
        case.say(rows[~works], Cause.NOT_SUPPORTED, Confidence.POSSIBLE)

    def _at_server(self, case: Case, rows: Indexes) -> None:
        """Follows tcp_conn_request and tcp_try_fastopen of the kernel (net/ipv4/tcp_input.c, tcp_fastopen.c)."""
        events = pick(case.batch.events, rows)
        seen = self._evidence.around(events["syn_ns"], events["synack_ns"])
        rows, events = rows[seen.known], events[seen.known]
        if not len(rows):
            return
        seen = self._evidence.around(events["syn_ns"], events["synack_ns"])
        request = case.batch.verdicts.request[rows]
        before, after = seen.fast_open_bit(SERVER_ENABLE)
        case.say(rows[~after], Cause.SERVER_DISABLED, Confidence.CERTAIN)

        _, free = seen.fast_open_bit(COOKIE_NOT_REQUIRED)
        tried = self._hash.of(case.batch, rows)
        works = self._history.works(tried)
        without_cookie = request == Request.DATA_ONLY
        case.say(rows[without_cookie & ~free & works], Cause.COOKIE_REQUIRED, Confidence.CERTAIN)

        case.say(rows[seen.syn_cookies == SYN_COOKIES_ALWAYS], Cause.SYN_COOKIES, Confidence.CERTAIN)
        full, sent = seen.overflows > 0, seen.cookies_sent > 0
        case.say(rows[sent & ~full], Cause.SYN_COOKIES, Confidence.LIKELY)
        case.say(rows[full & ~sent], Cause.QUEUE_OVERFLOW, Confidence.LIKELY)
        # both counters rose: either may explain this handshake
        more = seen.cookies_sent > seen.overflows
        case.say(rows[full & sent & more], Cause.SYN_COOKIES, Confidence.POSSIBLE)
        case.say(rows[full & sent & ~more], Cause.QUEUE_OVERFLOW, Confidence.POSSIBLE)

        case.say(rows[without_cookie & ~free], Cause.COOKIE_REQUIRED, Confidence.LIKELY)
        takes = self._history.takes_data_without_cookie(tried)
        asks = ~np.isin(request, COOKIE_SENT) & ~without_cookie
        case.say(rows[asks & free & takes], Cause.COOKIE_NOT_REQUIRED, Confidence.CERTAIN)
        case.say(rows[asks & (free | takes)], Cause.COOKIE_NOT_REQUIRED, Confidence.LIKELY)
        # the reading before can be a second old: Fast Open may have been switched on since
        case.say(rows[~before], Cause.SERVER_DISABLED, Confidence.LIKELY)
        # Fast Open is on and nothing was full: the listener's own queue length is 0
        case.say(rows, Cause.LISTENER_DISABLED, Confidence.LIKELY)

    def _no_data(self, case: Case) -> None:
        rows = case.outcome_is(*_WITHOUT_DATA)
        # at the client's own host we know that there was none
        rows = rows[np.isin(case.batch.vantage[rows], (Vantage.SERVER, Vantage.TRANSIT))]
        if len(rows):
            always = self._history.always_sent_data(self._hash.of(case.batch, rows))
            case.say(rows[always], Cause.PAYLOAD_STRIPPED, Confidence.POSSIBLE)


def _client_repeated(batch: Batch, broke: Indexes) -> Indexes:
    """Of connections that died: those whose client is this host and had timed out often enough for its kernel to see a
    blackhole (tcp_fastopen_active_detect_blackhole in net/ipv4/tcp_fastopen.c: at the third timeout)."""
    here = batch.vantage[broke] == Vantage.CLIENT
    rows: Indexes = broke[here & (batch.events["request_repeats"][broke] >= BLACKHOLE_REPEATS)]
    return rows


def _not_answered_here(batch: Batch) -> Bool:
    """Did the first SYN arrive at its host, which never answered, or only after a later SYN?"""
    events = batch.events
    found: Bool = (events["result"] == HandshakeResult.NO_REPLY) & (events["reason"] == SettleReason.BY_TIMEOUT)
    answered_late = np.flatnonzero(events["retx_count"])
    if len(answered_late):
        found[answered_late] |= _answered_late(batch, answered_late)
    rows = np.flatnonzero(found)
    if len(rows):
        vantage, local = batch.vantage[rows], batch.vantage[rows] == Vantage.LOCAL
        arrived = ((vantage & _AT_SERVER) != 0) & (local | (events["egress"][rows] == 0))
        found[rows] = arrived & (events["challenge_acks"][rows] == 0)
    return found


def _answered_late(batch: Batch, rows: Indexes) -> Bool:
    events, verdicts = batch.events, batch.verdicts
    late: Bool = events["synack_ns"][rows] >= events["syn_ns"][rows] + np.uint64(LOST_AFTER_NS)
    late &= has(events["synack"]["has"][rows], Has.SEGMENT)
    # TSecr can show that the answer was to the first SYN after all, just late
    late &= ~(verdicts.answer_known[rows] & (verdicts.answered_after_us[rows] == 0))
    return late
