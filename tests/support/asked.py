"""A root part that answers from a list, for tests of tracer/causes."""

from __future__ import annotations

from tracer.ipc.messages import ClientAnswer, Host, HostAnswer, HostQuestion, ListenerAnswer
from tracer.vocabulary.vocabulary import CookieCheck

WIRE = 2  # the interface of tests.support.judged.Shake
WITH_FAST_OPEN, WITHOUT = ListenerAnswer(1, [16], False, WIRE), ListenerAnswer(1, [0], False, WIRE)
NOT_READABLE, MIXED = ListenerAnswer(1, [], False, WIRE), ListenerAnswer(2, [16, 0], False, WIRE)
NOBODY, FORWARDED = ListenerAnswer(0, [], False, WIRE), ListenerAnswer(1, [16], True, WIRE)
NOT_KNOWN = ListenerAnswer()


class Asked(list[HostQuestion]):
    """The questions to the root part, and its readings of the host, one for each."""

    def __init__(
        self, *looks: Host, checks: tuple[CookieCheck, ...] = (), listens: ListenerAnswer | None = WITH_FAST_OPEN,
        client: ClientAnswer | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.looks, self.checks, self.listens, self.client = list(looks), checks, listens, client

    def __call__(self, questions: HostQuestion) -> HostAnswer | None:
        self.append(questions)
        if not self.looks:
            return None
        listeners = [self.listens] * len(questions.listeners) if self.listens is not None else []
        clients = [self.client] * len(questions.clients)
        return HostAnswer(0, self.looks.pop(0), [*map(int, self.checks)], [], listeners, clients)
