"""Why a handshake went as it did: TFO.md sections 4 and 8, inferred from the record, its peer's history, and the traced
host's own counters, sysctls and sockets.

A cause is an inference, separate from the outcome, and depends on the vantage: we never claim of a remote server what
only its host can know. This works on whole batches, and only on rows with something to explain; ordinary traffic costs
some masks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from tracer.causes.after_accept import AfterAccept
from tracer.causes.asked import refused_here, to_explain
from tracer.causes.at_server import AtServer, answered_here, unanswered_here
from tracer.causes.attempts import HOPS, PeerHash
from tracer.causes.both_ends import BothEnds
from tracer.causes.case import Case
from tracer.causes.changed import ChangedHere, ChangeTable
from tracer.causes.cookies import COOKIE_SENT, REFUSED, CookieCauses, key_rotation
from tracer.causes.fate import Fates
from tracer.causes.malformed import malformed_options
from tracer.causes.no_route import judge_no_route
from tracer.causes.peer_history import PeerHistory
from tracer.causes.queue_table import QueueTable
from tracer.causes.queues import queued_here
from tracer.causes.router import Router
from tracer.causes.sides import Sides
from tracer.causes.timeouts import Timeouts, lost_without_data
from tracer.causes.witness import AskHost, HostWitness, Wanted, take_back
from tracer.handshake.batch import Batch
from tracer.handshake.causes import Causes
from tracer.handshake.events import Bool, Indexes, among, has, pick
from tracer.handshake.outcome import first_answers
from tracer.ipc.messages import Host
from tracer.vocabulary.vocabulary import Cause, Confidence, HandshakeCause, Has, Outcome, Request, Vantage

BLACKHOLE_REPEATS = 2  # the third timeout comes after two
SENT_AGAIN_NS = 900_000_000  # Linux sends a SYN-ACK again after a second
_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share

_SAME_BACK = (Outcome.DATA_NOT_ACKED_SAME_COOKIE, Outcome.COOKIE_ONLY_SAME_COOKIE)
_NO_OPTION_BACK = (Outcome.COOKIE_NOT_GRANTED, Outcome.DATA_NOT_ACKED)
_NOT_AT_CLIENT = among((Vantage.SERVER, Vantage.TRANSIT))
_WITHOUT_DATA = (Outcome.COOKIE_ONLY, Outcome.COOKIE_ONLY_NEW_COOKIE, Outcome.COOKIE_ONLY_SAME_COOKIE)
_IS_NO_OPTION_BACK = np.zeros(len(Outcome), np.bool_)
_IS_NO_OPTION_BACK[list(_NO_OPTION_BACK)] = True
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
    `hears_drops`: the kernel says why it drops segments, so it is its own word that nobody listens.
    """

    def __init__(self, ask: AskHost | None = None, *, check_cookies: bool = True, hears_drops: bool = False) -> None:
        self._hash = PeerHash()
        self._history = PeerHistory()
        self._after_accept = AfterAccept()
        self._witness = HostWitness(ask, check_cookies=check_cookies)
        self._at_server = AtServer(self._hash, self._history, self._witness.evidence, self._witness.listeners)
        self._refused = CookieCauses()
        self._timeouts = Timeouts()
        self._both_ends = BothEnds()
        self._sides, self._router = Sides(), Router()
        self._changed = ChangedHere()
        self._fates = Fates(self._witness.evidence, self._witness.listeners, hears_drops=hears_drops)

    def add_host(self, host: Host) -> None:
        """Take new counters and sysctls of the host."""
        self._witness.add_host(host)

    def set_interfaces(self, groups: Mapping[int, int], seen_leaving: Collection[int] = ()) -> None:
        """Set which interfaces are traced, and the group of each: with several, a handshake may be seen twice.

        `seen_leaving`: those of which it is also seen what leaves.
        """
        self._router.set_interfaces(groups, seen_leaving)
        self._at_server.groups = groups
        self._both_ends.several |= len(groups) > 1
        self._sides.several |= len(groups) > 1

    @property
    def queue_table(self) -> QueueTable:
        """The listeners that causes name."""
        return self._fates.queues.table

    @property
    def change_table(self) -> ChangeTable:
        """What this host changed in handshakes."""
        return self._changed.table

    def judge(self, batch: Batch) -> Batch:
        """The same batch with its causes."""
        keys = self._hash.keys(batch.events)
        case = Case(batch, Causes.none(len(batch)), keys)
        events, verdicts = batch.events, batch.verdicts
        attempts = np.flatnonzero(verdicts.attempted)
        self._at_server.note(batch, keys)
        unanswered, to_tell = unanswered_here(batch), to_explain(batch)
        broke, broke_again = self._after_accept.died(batch, keys)
        stripped, emptied = self._both_ends.compare(events)
        pairs = self._sides.compare(batch)
        pairs.tell(case.causes)
        if self._sides.may_pass:
            case.causes.changed[:] = self._changed.compare(events, pairs)
        malformed = malformed_options(events)
        challenged = _challenged(batch)
        lost = lost_without_data(batch)
        if not any(map(len, (attempts, to_tell, malformed, challenged, lost))) and not (stripped | emptied).any():
            self._fates.note(batch, keys)
            self._router.note(batch, pairs)
            return replace(batch, causes=case.causes)
        silent = _without_option(case)
        here = answered_here(batch, silent)
        tried = self._hash.of(batch, attempts, keys)
        queued = queued_here(batch, to_tell, self._witness.evidence)
        wanted = Wanted(
            here, unanswered, queued, refused_here(batch, to_tell), self._router.doubtful(batch, pairs),
            _client_repeated(batch, broke),
        )  # fmt: skip
        self._witness.question(case, tried, wanted)
        self._history.note(tried)
        case.say(malformed, Cause.OPTION_MALFORMED, Confidence.CERTAIN)
        case.say(np.flatnonzero(stripped), Cause.OPTION_STRIPPED, Confidence.CERTAIN)
        case.say(np.flatnonzero(emptied), Cause.PAYLOAD_STRIPPED, Confidence.CERTAIN)
        case.blame(challenged, HandshakeCause.PORT_STILL_IN_USE, Confidence.LIKELY)
        judge_no_route(case, unanswered, self._witness.evidence)
        self._fates.judge(case, to_tell, self._router, pairs)
        self._at_server.host_dropped(case, unanswered[pairs.other[unanswered] < 0])
        if len(broke):
            self._broke_after_accept(case, broke, broke_again)
        self._refused.judge(case, tried)
        self._timeouts.judge(case, tried, lost)
        if _TO_EXPLAIN[verdicts.outcome[attempts]].any():
            key_rotation(case)
            case.say(case.outcome_is(*_SAME_BACK), Cause.CHILD_FAILED, Confidence.LIKELY)
            ours = self._at_server.no_option_back(case, here)
            elsewhere = np.zeros(len(batch), np.bool_)
            elsewhere[silent] = True
            elsewhere[ours] = False
            self._elsewhere(case, np.flatnonzero(elsewhere))
            self._no_data(case)
        take_back(case)
        return replace(batch, causes=case.causes)

    # --- one kind of row each ---

    def _broke_after_accept(self, case: Case, rows: Indexes, likely: Bool) -> None:
        asks = _client_repeated(case.batch, rows)
        if len(asks):
            events = pick(case.batch.events, asks)
            sure = self._witness.evidence.saw_blackhole(events["syn_ns"], events["settled_ns"])
            case.say(asks[sure], Cause.PATH_BREAKS_AFTER_ACCEPT, Confidence.CERTAIN)
        case.say(rows[likely], Cause.PATH_BREAKS_AFTER_ACCEPT, Confidence.LIKELY)
        case.say(rows, Cause.PATH_BREAKS_AFTER_ACCEPT, Confidence.POSSIBLE)

    def _elsewhere(self, case: Case, rows: Indexes) -> None:
        """No option came back, and this host does not explain it."""
        rows = rows[case.causes.cause[rows] == Cause.NONE]
        if not len(rows):
            return
        batch = case.batch
        request = batch.verdicts.request[rows]
        tried = self._hash.of(batch, rows, case.keys)
        works = self._history.works(tried)
        takes = self._history.takes_data_without_cookie(tried)
        data_only = request == Request.DATA_ONLY
        case.say(rows[data_only & ~takes & works], Cause.COOKIE_REQUIRED, Confidence.LIKELY)
        case.say(rows[data_only & ~takes], Cause.COOKIE_REQUIRED, Confidence.POSSIBLE)
        # a server that grants cookies or knows them wants them
        needless = ~among(COOKIE_SENT).take(request) & ~data_only & takes & ~works
        case.say(rows[needless], Cause.COOKIE_NOT_REQUIRED, Confidence.LIKELY)
        # if it has worked before, the queue may be full or SYN cookies active: we cannot tell from here
        case.say(rows[~works & ~takes], Cause.NOT_SUPPORTED, Confidence.POSSIBLE)

    def _no_data(self, case: Case) -> None:
        rows = case.outcome_is(*_WITHOUT_DATA)
        # at the client's own host we know that there was none
        rows = rows[_NOT_AT_CLIENT.take(case.batch.vantage[rows])]
        if len(rows):
            always = self._history.always_sent_data(self._hash.of(case.batch, rows, case.keys))
            case.say(rows[always], Cause.PAYLOAD_STRIPPED, Confidence.POSSIBLE)


def _without_option(case: Case) -> Indexes:
    """Rows of attempts that were answered without the option, where that says something of Fast Open.

    Who goes on after a reset or a challenge ACK may do so with a bare SYN, whose answer says nothing of it. An option
    that came back with a wrong length was written by somebody. A SYN-ACK that Linux sends again has no option, though
    the first one, which was lost, may have had it.
    """
    rows = np.flatnonzero(_IS_NO_OPTION_BACK.take(case.batch.verdicts.outcome))
    if not len(rows):
        return rows
    events = pick(case.batch.events, rows)
    went_on = (events["resumed"] != 0) | (events["challenge_acks"] != 0)
    answer = first_answers(events)
    away = ((case.batch.vantage[rows] & _AT_SERVER) == 0) | (HOPS[events["synack"]["ttl"]] != 0)
    again = (answer.ns - events["syn_ns"] >= SENT_AGAIN_NS) & away
    silent = ~has(answer.has, Has.TFO_MALFORMED) & ~again
    found: Indexes = rows[silent & (~went_on | (case.batch.verdicts.answered_syn[rows] == 1))]
    return found


def _challenged(batch: Batch) -> Indexes:
    """Rows whose first SYN was answered by a challenge ACK: a stray ACK beside an answer to that SYN is none."""
    rows = np.flatnonzero(batch.events["challenge_acks"])
    verdicts = batch.verdicts
    found: Indexes = rows[(verdicts.answered_syn[rows] != 1) & (verdicts.acked_payload_len[rows] == 0)]
    return found


def _client_repeated(batch: Batch, broke: Indexes) -> Indexes:
    """Of connections that died: those whose client is this host and had timed out often enough for its kernel to see a
    blackhole (tcp_fastopen_active_detect_blackhole in net/ipv4/tcp_fastopen.c: at the third timeout)."""
    here = batch.vantage[broke] == Vantage.CLIENT
    rows: Indexes = broke[here & (batch.events["request_repeats"][broke] >= BLACKHOLE_REPEATS)]
    return rows
