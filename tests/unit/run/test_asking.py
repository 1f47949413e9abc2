"""The pipeline asks the root part and waits for its answer, but never for long."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tests.support.judged import host
from tracer.encode.composer import Composer
from tracer.ipc.messages import Addresses, Channel, Counters, HostAnswer, HostQuestion, Ready, channel_pair
from tracer.linux.patience import FACTOR
from tracer.ring.open import Sources
from tracer.ring.pace import POLL_GENTLY_MS, POLL_MS
from tracer.run.fanout import Fanout
from tracer.run.kernel_words import SOON_MS as WORDS_SOON_MS
from tracer.run.pipeline import ANSWER_NS, MANY, Pipeline, RunOptions
from tracer.run.stop import StopRequest
from tracer.vocabulary.vocabulary import Transport


@dataclass
class Pair:
    """A pipeline that does not run, and the root part's end of its channel."""

    root: Channel
    pipeline: Pipeline

    def ask(self) -> HostAnswer | None:
        return self.pipeline._ask_root(HostQuestion())


@pytest.fixture
def pair() -> Iterator[Pair]:
    root, user = channel_pair()
    ready = Ready([], None, Transport.RING, 0, 0, 0)  # type: ignore[arg-type]
    sources = Sources(None, None, None)  # type: ignore[arg-type]
    said: list[str] = []
    pipeline = Pipeline(user, ready, sources, Composer({}), Fanout([], said.append), RunOptions(), StopRequest())
    pipeline._poll.register(user.fileno(), select.POLLIN)
    yield Pair(root, pipeline)
    root.close()
    user.close()


def answering(root: Channel) -> threading.Thread:
    """A root part that also sends other messages, and answers an older question before the current one."""

    def run() -> None:
        asked = root.from_user()
        assert isinstance(asked, HostQuestion)
        root.send(Counters({"opened": 7}, 0))
        root.send(HostAnswer(asked.serial - 1, host(1), []))
        root.send(HostAnswer(asked.serial, host(2), [1]))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_answer_to_this_question_is_taken_and_the_rest_is_heard(pair: Pair) -> None:
    thread = answering(pair.root)
    answer = pair.ask()
    thread.join()
    assert answer is not None
    assert answer.checks == [1]
    assert pair.pipeline._counters == {"opened": 7}


def test_a_root_part_that_is_stopped_is_not_waited_for_again_and_again(pair: Pair) -> None:
    assert pair.ask() is None  # this one waits ANSWER_NS
    asked = 0
    while select.select([pair.root], [], [], 0)[0]:
        assert isinstance(pair.root.from_user(), HostQuestion)
        asked += 1
    assert asked == 1
    assert pair.ask() is None
    assert not select.select([pair.root], [], [], 0)[0], "no second question within a second"
    assert ANSWER_NS < 200_000_000 * FACTOR, "a reader sees a record within 200 ms"


def test_a_root_part_that_is_gone_is_not_asked(pair: Pair) -> None:
    pair.root.close()
    assert pair.ask() is None
    assert pair.ask() is None


def test_no_record_is_read_before_the_local_addresses_are_known(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them its vantage would be wrong. The root part is slow here between Ready and the addresses."""
    known: list[bool] = []

    def drain(self: Pipeline) -> int:
        known.append(self._local.is_known)
        self.stop.reason = "seen enough"
        return 0

    def slow() -> None:
        pair.root.send(Counters({"opened": 7}, 0))
        while not pair.pipeline._counters:
            time.sleep(0.001)
        pair.root.send(Addresses([], []))

    monkeypatch.setattr(Pipeline, "_drain", drain)
    thread = threading.Thread(target=slow)
    thread.start()
    pair.pipeline._trace()
    thread.join()
    assert known == [True]


@pytest.mark.parametrize(("count", "wait_ms"), [(0, WORDS_SOON_MS), (MANY - 1, WORDS_SOON_MS), (MANY, POLL_MS)])
def test_what_waits_for_a_word_is_looked_at_soon_unless_many_come(pair: Pair, count: int, wait_ms: int) -> None:
    pipeline = pair.pipeline
    assert pipeline._wait_ms(count) == POLL_GENTLY_MS  # nobody reads
    pipeline.fanout.writes, pipeline._pace.poll_ms = True, POLL_MS
    assert pipeline._wait_ms(count) == POLL_MS  # nothing waits
    pipeline._words._held.append((np.zeros(1, np.void), 0))
    assert pipeline._wait_ms(count) == wait_ms
