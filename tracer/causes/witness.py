"""Asks the root part, at most once a batch, what this host's kernel and sockets know of its handshakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tracer.causes.attempts import Attempts
from tracer.causes.case import Case
from tracer.causes.cookie_check import CookieChecks
from tracer.causes.kernel_evidence import KernelEvidence
from tracer.causes.listeners import Listeners, flows
from tracer.causes.router import forward_questions
from tracer.handshake.events import Indexes, pick
from tracer.ipc.messages import ClientAnswer, Host, HostAnswer, HostQuestion
from tracer.vocabulary.vocabulary import Cause, Confidence, Outcome, Vantage

AskHost = Callable[[HostQuestion], HostAnswer | None]

CLIENTS_MAX = SILENT_MAX = 64  # asked about in a batch: the newest
_AT_SERVER = Vantage.SERVER  # the bits that LOCAL shares with both
_AT_CLIENT = Vantage.CLIENT
_NOT_TAKEN = np.zeros(len(Outcome), np.bool_)
_NOT_TAKEN[[
    Outcome.DATA_NOT_ACKED, Outcome.DATA_NOT_ACKED_NEW_COOKIE,
    Outcome.DATA_NOT_ACKED_SAME_COOKIE, Outcome.SYN_TIMEOUT_FALLBACK,
]] = True  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows that the root part may explain."""

    answered: Indexes  # by this host, without the option
    unanswered: Indexes  # by this host
    queued: Indexes  # at this host, perhaps in vain
    refused: Indexes  # by this host
    passed_on: Indexes  # SYNs for this host to pass on
    broke: Indexes  # died after their data was taken; this host is the client


class HostWitness:
    """What the root part has told. `ask` is None in a replay: then nothing is known of the host.

    `check_cookies` may be off if nobody sees the checks: they only make a cause more certain.
    """

    def __init__(self, ask: AskHost | None, *, check_cookies: bool) -> None:
        self._ask = ask
        self._check_cookies = check_cookies
        self.evidence = KernelEvidence()
        self.listeners = Listeners()
        self._cookies = CookieChecks()

    def add_host(self, host: Host) -> None:
        """Take new counters and sysctls of the host."""
        self.evidence.add(host)
        self._cookies.keys_changed(host.key_changes)

    def question(self, case: Case, tried: Attempts, wanted: Wanted) -> None:
        """Ask whatever is not known yet, and fill in cookie checks and what the clients' sockets say."""
        if self._ask is None:
            return
        events, checks = case.batch.events, case.causes.cookie_check
        asked = None
        if self._check_cookies:
            sent = tried.some(((tried.vantage & _AT_SERVER) != 0) & tried.with_cookie)
            asked = self._cookies.begin(sent, checks, case.origins) if len(sent.rows) else None
        served = np.concatenate((wanted.answered, wanted.queued, wanted.refused))
        services, listeners = self.listeners.begin(case.keys.listeners[served], events, served)
        # where a SYN went instead is asked of each: it differs by client
        silent, clients = wanted.unanswered[-SILENT_MAX:], _failed_clients(case)
        # counters explain a SYN-ACK only if they were read after it, and silence only if after its end
        read_after_ns = np.concatenate((
            events["synack_ns"][wanted.answered], events["settled_ns"][wanted.unanswered],
            events["settled_ns"][wanted.queued], events["settled_ns"][wanted.broke],
        ))  # fmt: skip
        too_old = len(read_after_ns) and int(read_after_ns.max()) > self.evidence.latest_ns
        if asked is None and not too_old and not (listeners or len(silent) or len(clients) or len(wanted.passed_on)):
            return
        cookies = asked.questions if asked is not None else []
        served_by = [*listeners, *flows(pick(events, silent))]
        passed_on = forward_questions(case.batch, wanted.passed_on)
        answer = self._ask(HostQuestion(0, cookies, served_by, flows(pick(events, clients)), passed_on))
        if answer is None:
            return
        self.add_host(answer.host)
        self.listeners.end(services, answer.listeners, answer.host.taken_ns)
        case.silent = dict(zip(silent.tolist(), answer.listeners[len(services) :], strict=False))
        _hear_clients(case, clients, answer.clients)
        ways = zip(wanted.passed_on.tolist(), answer.ways, strict=False)
        case.ways = {row: way for row, way in ways if way is not None}
        if asked is not None:
            self._cookies.end(asked, answer, checks, case.origins)


def take_back(case: Case) -> None:
    """The client's own kernel says that the SYN's data was acked: what its wire seemed to show was not so."""
    rows = case.contradicted
    case.causes.cause[rows] = Cause.NONE
    case.causes.confidence[rows] = Confidence.NONE


def _failed_clients(case: Case) -> Indexes:
    """Attempts of this host's clients whose data was not taken, as it seems."""
    here = (case.batch.vantage & _AT_CLIENT) != 0
    found: Indexes = np.flatnonzero(_NOT_TAKEN.take(case.batch.verdicts.outcome) & here)[-CLIENTS_MAX:]
    return found


def _hear_clients(case: Case, rows: Indexes, answers: list[ClientAnswer | None]) -> None:
    contradicted = []
    for row, answer in zip(rows.tolist(), answers, strict=False):
        if answer is None:
            continue
        case.causes.client_fail[row] = answer.fail
        if answer.syn_data_acked:
            contradicted.append(row)
    case.contradicted = np.array(contradicted, np.intp)
