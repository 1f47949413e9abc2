"""A run remembers no more of a million handshakes, all different, than of the first half of them; or of two.

Everything that judges, names, adds up and writes is fed as by the pipeline. We count objects, not bytes: numpy's tables
have a fixed size, which tests/unit/causes/test_slot_table.py and test_keyindex.py show.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support import longer
from tests.support.rows import INTERFACES, random_events, random_payloads
from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.benefit import BenefitTable
from tracer.aggregate.metrics import Metrics
from tracer.causes.judge import CauseJudge
from tracer.encode.composer import Composer
from tracer.handshake.batch import decode
from tracer.handshake.events import Events
from tracer.handshake.syn_payloads import PayloadBlock
from tracer.handshake.vantage import LocalSet
from tracer.ipc.messages import Host, HostAnswer, HostQuestion, OwnerAnswer, OwnerQuestion, SocketOwner
from tracer.ipc.traced import GONE_KEPT, remembered
from tracer.ring.payloads import PayloadCache
from tracer.root.socket_owners import AGAIN_S, CHECKED, OWNERS_HELD, TIDY_S, WANTED_MAX, OwnerFinder
from tracer.run.socket_owners import OwnerLookup
from tracer.sinks.jsonl import JsonLines
from tracer.sinks.stream import Stream

BATCH = 2000
BATCHES = longer.number("TFOTRACE_STRANGERS", 1_000_000, 2_000_000) // BATCH
WRITTEN = 8  # one batch of so many goes to the sinks too
FILLING = 60  # and each of the first ones, until what the sinks have learned is as much as they keep
GROWTH_MAX = 0.02


class Run:
    """The user part's chain without its rings."""

    def __init__(self) -> None:
        self.questions: list[OwnerQuestion] = []
        self.judge = CauseJudge(self._answer)
        self.desk = OwnerLookup(self.questions.append)
        self.payloads = PayloadCache()
        self.aggregate, self.benefit, self.metrics = Aggregate(), BenefitTable(), Metrics(100)
        composer = Composer(INTERFACES, cgroups=self.desk.cgroups)
        self.lines = JsonLines(Stream(os.open(os.devnull, os.O_WRONLY), "nowhere"), composer)
        self.local = LocalSet()

    def _answer(self, asked: HostQuestion) -> HostAnswer:
        host = Host({"TCPFastOpenListenOverflow": 0}, {"tcp_fastopen": "3"}, time.monotonic_ns(), 1)
        return HostAnswer(0, host, [1] * len(asked.cookies))

    def take(self, events: Events, rng: np.random.Generator, *, written: bool) -> None:
        if written:
            # of every second one the record is lost
            self.payloads.add([PayloadBlock.of(random_payloads(rng, events))])
            events = events[::2]
        batch = self.judge.judge(decode(events, self.local, self.payloads.take(events)))
        self.desk.admit(batch, 0.0)
        self.desk.ask(0.0)
        for one in self.questions:
            owners = [SocketOwner(number, 1, "x", 0, None) for number in one.sockets]
            self.desk.answered(OwnerAnswer(one.number, owners, dict.fromkeys(one.cgroups, "x")))
        self.questions.clear()
        for batch in self.desk.release(0.0):
            self.aggregate.add(batch)
            self.benefit.add(batch)
            if written:
                self.metrics.add(batch)
                self.lines.write(batch)


def strangers(events: Events, rng: np.random.Generator) -> None:
    """Other addresses, cookies, sockets and cgroups for each."""
    for name in ("client", "server"):
        events[name][:, 4:] = rng.integers(0, 256, (len(events), 12), dtype=np.uint8)
    for name in ("id", "client_socket", "server_socket"):
        events[name] = rng.integers(1, 1 << 32, len(events))
    events["client_process"]["cgroup"] = rng.integers(1, 1 << 32, len(events))
    for segment in ("syn", "synack"):
        facts = events[segment]
        facts["options"] = np.where(
            facts["options"] > 127, rng.integers(128, 256, facts["options"].shape), facts["options"]
        )


@pytest.mark.timeout(600)
def test_strangers_are_not_remembered() -> None:
    rng = np.random.default_rng(7413)
    run, held = Run(), list[int]()
    events = random_events(rng, BATCH, peers=None)
    lost = 0
    for turn in range(BATCHES):
        strangers(events, rng)
        written = turn < FILLING or turn % WRITTEN == 0
        run.take(events.copy(), rng, written=written)
        lost += written * BATCH // 2
        if turn % (BATCHES // 20) == BATCHES // 20 - 1:
            gc.collect()
            held.append(sys.getallocatedblocks())  # not gc.get_objects(), which does not see records
    print(held)
    assert run.aggregate.handshakes == BATCH * BATCHES - lost
    before, after = max(held[: len(held) // 2]), max(held[len(held) // 2 :])
    assert after <= before * (1 + GROWTH_MAX), f"objects: {held}"


def test_the_root_part_remembers_few_sockets(tmp_path: Path) -> None:
    finder = OwnerFinder(str(tmp_path))  # no process at all
    for number in range(100):
        finder.ask(number, range(number * 1000, number * 1000 + 1000), ())
        if number % 10 == 9:
            assert len(finder._wanted) <= WANTED_MAX
            finder._not_before = 0.0
            finder.advance()
    assert 0 < len(finder._nobody) <= OWNERS_HELD
    assert not finder._known
    finder._tidy(time.monotonic() + 2 * AGAIN_S)
    assert not finder._nobody


def test_sockets_that_have_gone_are_forgotten_and_others_stay() -> None:
    finder = OwnerFinder()
    with socket.create_server(("127.0.0.1", 0)) as stays:
        gone = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * CHECKED)]
        numbers = [os.fstat(one.fileno()).st_ino for one in (stays, *gone)]
        finder.ask(1, numbers, ())
        while len(finder._known) < len(numbers):
            finder.advance()
        for one in gone:
            one.close()
        later = time.monotonic()
        for _ in range(4):  # the one that stays is looked at again on the way
            later += 2 * TIDY_S
            finder._tidy(later)
        assert list(finder._known) == numbers[:1]
    finder.close()


def test_interfaces_that_have_gone_are_forgotten() -> None:
    known: dict[int, str] = {}
    for first in range(0, 10_000, 10):
        there = {index: f"veth{index}" for index in (1, *range(first, first + 10))}
        known = remembered(known, there)
        assert len(known) <= GONE_KEPT + len(there)
    assert known[1] == "veth1"
    assert 9_700 not in known
    assert 9_980 in known
    known = remembered(known, {})
    assert known[1] == "veth1"  # the first to come, and one of the last to go: its handshakes are still to be told
