"""Why a handshake failed, took so long, or was not served, as the wire tells it (TFO.md section 8).

Asked of handshakes that failed, took a retransmission, or were established and not served. Each rule takes the rows
that fit it and have no cause yet, so the order is that of certainty, and among equals from the special to the general.
"""

from __future__ import annotations

import numpy as np

from tracer.causes.answers import judge_answers, judge_own_resets
from tracer.causes.asked import Asked
from tracer.causes.attempts import Keys
from tracer.causes.case import Case
from tracer.causes.flood import Floods
from tracer.causes.kernel_evidence import KernelEvidence
from tracer.causes.listeners import Listeners
from tracer.causes.losses import judge_losses
from tracer.causes.not_served import judge_not_served
from tracer.causes.queues import Queues
from tracer.causes.router import Router
from tracer.causes.server_memory import Noted, ServerMemory
from tracer.causes.sides import Pairs
from tracer.causes.silence import UnseenAcks, UnseenAnswers, judge_silence
from tracer.handshake.batch import Batch
from tracer.handshake.events import Indexes


class Fates:
    """Explains rows by the wire, by what servers did before, and by this host's sockets and counters."""

    def __init__(self, evidence: KernelEvidence, listeners: Listeners, *, hears_drops: bool) -> None:
        self._listeners = listeners
        self._hears_drops = hears_drops
        self._servers = ServerMemory()
        self._unseen, self._unseen_acks = UnseenAnswers(), UnseenAcks()
        self.queues = Queues(evidence, listeners)
        self._floods = Floods()

    def judge(self, case: Case, rows: Indexes, router: Router, pairs: Pairs) -> None:
        """Give causes to `rows` (to_explain), after what is certain has been said."""
        noted = self._servers.begin(case.batch, case.keys)
        unseen = np.zeros(len(case.batch), np.bool_)
        unseen[rows] = self._unseen.of(noted, rows)
        router.judge(case, pairs, unseen)
        flooded = self._floods.note(noted, self._unseen_acks)
        if len(rows):
            asked = Asked.of(case, rows, self._listeners)
            if not self._hears_drops:
                judge_own_resets(asked)
            judge_answers(asked, noted, self._servers)
            self.queues.judge(asked)
            self._floods.judge(case, flooded)
            self.queues.judge_cookies(asked)
            judge_losses(asked, noted, self._servers)
            judge_not_served(asked, noted, self._servers)
            judge_silence(asked, noted, self._servers, self._unseen, self._unseen_acks)
        self._note(noted)

    def note(self, batch: Batch, keys: Keys) -> None:
        """Remember who answered, where there is nothing to explain."""
        noted = self._servers.begin(batch, keys)
        self._floods.note(noted, self._unseen_acks)
        self._note(noted)

    def _note(self, noted: Noted) -> None:
        self._servers.note(noted)
        self._unseen.note(noted)
        self._unseen_acks.note(noted)
