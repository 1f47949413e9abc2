"""One sink that breaks ends the run, is left out, and keeps nothing from the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.support.rows import golden
from tracer.errors import EndedEarlyError
from tracer.handshake.batch import Batch
from tracer.records.run import End, NoticeRecord, Start, Stats
from tracer.run.fanout import Fanout
from tracer.run.stop import Ending, Quota
from tracer.sinks.base import SinkClosedError, SinkFullError


class Counting:
    """A sink that counts what it is given, and raises `error` if it has one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.batches = 0
        self.closed = False

    def write(self, _batch: Batch) -> None:
        self.batches += 1
        if self.error is not None:
            raise self.error

    def start(self, record: Start) -> None: ...
    def notice(self, record: NoticeRecord) -> None: ...
    def stats(self, record: Stats) -> None: ...
    def tick(self) -> None: ...

    def close(self, _record: End | None) -> None:
        self.closed = True


def batch() -> Batch:
    return max(golden().decoded(), key=len)


def test_a_broken_sink_is_left_out_and_its_handshakes_count_as_dropped() -> None:
    said: list[str] = []
    broken, whole = Counting(EndedEarlyError("the disk is full")), Counting()
    fanout = Fanout([broken, whole], said.append)
    rows = batch()
    assert fanout.write(rows) == len(rows)
    assert fanout.write(rows) == len(rows), "it was not written by the one that broke before"
    fanout.close(None)
    assert (broken.batches, whole.batches) == (1, 2)
    assert (broken.closed, whole.closed) == (False, True)
    assert fanout.ending == Ending("the disk is full", int(EndedEarlyError.exit_code))
    assert said == ["the disk is full"]


def test_a_reader_that_leaves_is_no_failure() -> None:
    said: list[str] = []
    fanout = Fanout([Counting(SinkClosedError()), Counting()], said.append)
    assert fanout.write(batch()) == 0
    fanout.close(None)
    assert fanout.ending == Ending("the reader has gone", 0)
    assert said == []


def test_what_a_sink_says_while_it_goes_on_is_narrated_and_a_notice() -> None:
    said: list[str] = []
    notices: list[NoticeRecord] = []
    listening = Counting()
    listening.notice = notices.append  # type: ignore[method-assign]
    fanout = Fanout([listening], said.append)
    fanout.start(golden().start)
    fanout.told.append("a folder is in the way")
    assert fanout.write(batch()) == 0
    assert said == ["a folder is in the way"] == [one.text for one in notices]
    assert fanout.told == []


def test_a_full_sink_stays_and_what_it_left_out_is_told_once() -> None:
    slow = Counting(SinkFullError(3))
    fanout = Fanout([slow, Counting(SinkFullError(2))], print)
    assert fanout.write(batch()) == 3
    slow.error = None
    assert fanout.write(batch()) == 2
    assert fanout.ending == Ending()


def test_the_first_reason_counts_but_a_failure_is_not_hidden_by_it() -> None:
    ending = Ending()
    ending.set("duration", 0)
    ending.set("SIGINT", 0)
    assert ending == Ending("duration", 0)
    ending.set("the disk is full", 4)
    ending.set("something else", 3)
    assert ending == Ending("the disk is full", 4)


def test_a_quota_cuts_the_batch_in_which_it_is_met() -> None:
    rows = batch()
    quota = Quota(len(rows) + 1)
    assert len(quota.take(rows)) == len(rows)
    assert (quota.is_met(), quota.is_met(1)) == (False, True)
    assert len(quota.take(rows)) == 1
    assert quota.is_met()
    assert len(Quota().take(rows)) == len(rows), "no limit"


class Capture(Counting):
    """A sink that takes packets too."""

    def take_packets(self, packets: NDArray[np.void]) -> None: ...


def test_nobody_waits_for_what_goes_into_captures_only() -> None:
    capture, other = Capture(), Counting()
    assert not Fanout([capture], print, packet_takers=[capture]).writes
    assert Fanout([capture, other], print, packet_takers=[capture]).writes
    assert not Fanout([], print).writes
