"""The user part's memory of cookie verdicts: what it asks, what it remembers, when it asks again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.support.judged import Shake, batch
from tracer.causes.attempts import Attempts, PeerHash
from tracer.causes.cookie_check import ASK_AGAIN_S, QUESTIONS_MAX, CookieChecks
from tracer.handshake.batch import Batch
from tracer.ipc.messages import Host, HostAnswer
from tracer.vocabulary.vocabulary import CookieCheck, CookieOrigin

VALID, UNKNOWN = CookieCheck.VALID, CookieCheck.NONE
A, B = b"a" * 8, b"b" * 8
HASH = PeerHash()  # a memory knows what came under the same secret
TAKEN = Shake(cookie=A, data=10, acked=10)


def tried_of(made: Batch) -> Attempts:
    return HASH.of(made, np.arange(len(made)), HASH.keys(made.events))


def check(memory: CookieChecks, answers: list[CookieCheck] | None, *shakes: Shake) -> tuple[int, list[int]]:
    """How many questions there were, and the verdicts after these answers; VALID to each for None."""
    made = batch(*shakes)
    checks, origins = np.zeros((2, len(made)), np.uint8)
    asked = memory.begin(tried_of(made), checks, origins)
    if asked is None:
        return 0, checks.tolist()
    verdicts = [VALID] * len(asked.questions) if answers is None else answers
    memory.end(asked, answer(verdicts), checks, origins)
    return len(asked.questions), checks.tolist()


def answer(verdicts: list[CookieCheck], origins: list[CookieOrigin] | None = None) -> HostAnswer:
    return HostAnswer(0, Host({}, {}), [int(one) for one in verdicts], [int(one) for one in origins or ()])


def test_each_is_asked_about_once() -> None:
    memory = CookieChecks()
    others = [replace(TAKEN, client=2), replace(TAKEN, server=2), replace(TAKEN, cookie=B), replace(TAKEN, acked=0),
              replace(TAKEN, back=B), replace(TAKEN, port=444)]  # fmt: skip
    assert check(memory, None, TAKEN, TAKEN, *others, *others) == (7, [VALID] * 14)
    assert check(memory, [], *others, TAKEN) == (0, [VALID] * 7)


def test_origins_are_remembered_beside_verdicts() -> None:
    made = batch(TAKEN, replace(TAKEN, port=444), TAKEN)
    memory, tried = CookieChecks(), tried_of(made)
    checks, origins = np.zeros((2, len(made)), np.uint8)
    asked = memory.begin(tried, checks, origins)
    assert asked is not None
    assert [one.port for one in asked.questions] == [443, 444]
    told = [CookieOrigin.NOT_OURS, CookieOrigin.OTHER_LISTENER]
    memory.end(asked, answer([CookieCheck.INVALID] * 2, told), checks, origins)
    assert origins.tolist() == [*told, CookieOrigin.NOT_OURS]
    again = np.zeros(len(made), np.uint8)
    assert memory.begin(tried, checks, again) is None
    assert again.tolist() == origins.tolist()


def test_the_cookie_of_the_first_answer_is_the_one_that_was_given() -> None:
    made = batch(replace(TAKEN, back=A, first_back=B))
    checks, origins = np.zeros((2, 1), np.uint8)
    asked = CookieChecks().begin(tried_of(made), checks, origins)
    assert asked is not None
    assert [(one.cookie, one.given, one.accepted) for one in asked.questions] == [(A, B, True)]


def test_answers_belong_to_their_questions() -> None:
    verdicts = [CookieCheck.INVALID, VALID, CookieCheck.VALID_BACKUP, UNKNOWN]
    shakes = [replace(TAKEN, client=number) for number in range(4)]
    memory = CookieChecks()
    assert check(memory, verdicts, *shakes, *reversed(shakes)) == (4, [*verdicts, *reversed(verdicts)])
    assert check(memory, [], *reversed(shakes)) == (0, [*reversed(verdicts)])


def test_what_was_not_answered_is_unknown_and_asked_again() -> None:
    shakes = [replace(TAKEN, client=number) for number in range(4)]
    memory = CookieChecks()
    assert check(memory, [VALID, VALID], *shakes) == (4, [VALID, VALID, UNKNOWN, UNKNOWN])
    assert check(memory, None, *shakes) == (2, [VALID] * 4)


def test_what_could_not_be_told_is_asked_again_after_a_while() -> None:
    memory = CookieChecks()
    assert check(memory, [UNKNOWN], TAKEN) == (1, [UNKNOWN])
    assert check(memory, None, TAKEN) == (0, [UNKNOWN])
    later = replace(TAKEN, at_ms=TAKEN.at_ms + int(ASK_AGAIN_S) * 1000)
    assert check(memory, None, later) == (1, [VALID])


def test_other_keys_make_it_forget() -> None:
    memory = CookieChecks()
    memory.keys_changed(1)
    check(memory, None, TAKEN)
    memory.keys_changed(1)
    assert check(memory, [], TAKEN)[0] == 0
    memory.keys_changed(2)
    assert check(memory, None, TAKEN)[0] == 1


def test_not_too_many_at_once() -> None:
    shakes = [replace(TAKEN, cookie=number.to_bytes(8, "big")) for number in range(QUESTIONS_MAX + 10)]
    asked, verdicts = check(CookieChecks(), None, *shakes)
    assert asked == QUESTIONS_MAX
    assert verdicts.count(UNKNOWN) == 10
