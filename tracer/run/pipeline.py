"""The user part's loop: drain, judge, add up, hand to the sinks, and answer the root part's messages."""

from __future__ import annotations

import platform
import select
import time
from dataclasses import dataclass, field

import msgspec

from tracer.aggregate.aggregate import Aggregate, balance, losses
from tracer.aggregate.benefit import BenefitTable
from tracer.aggregate.summary import summarize
from tracer.aggregate.unread import Source
from tracer.causes.judge import CauseJudge
from tracer.encode.composer import Composer
from tracer.errors import ExitCode
from tracer.handshake.batch import Batch, decode
from tracer.handshake.events import Events
from tracer.handshake.syn_payloads import NO_PAYLOADS
from tracer.handshake.vantage import LocalHistory
from tracer.ipc.messages import (
    Addresses,
    Channel,
    Counters,
    Ended,
    Failed,
    FramesDone,
    Host,
    HostAnswer,
    HostQuestion,
    InterfacesChanged,
    Notice,
    OpenAnswer,
    OwnerAnswer,
    PlaceAnswer,
    Ready,
    RootCost,
    Stop,
    ToUser,
)
from tracer.ipc.traced import TracedInterface, remembered
from tracer.linux import allocator
from tracer.linux.clock import wall_now, wall_offset_ns
from tracer.linux.patience import FACTOR
from tracer.records.cost import Cost
from tracer.records.drop import EvidenceInfo
from tracer.records.record import SCHEMA
from tracer.records.run import Balance, End, InterfaceInfo, NoticeRecord, Start, Stats
from tracer.ring.drain import EventSource
from tracer.ring.open import Sources
from tracer.ring.pace import POLL_GENTLY_MS, SOON_MS, Pace
from tracer.ring.payloads import PayloadCache
from tracer.run import cost
from tracer.run.fanout import Fanout
from tracer.run.kernel_words import SOON_MS as WORDS_SOON_MS
from tracer.run.kernel_words import KernelWords
from tracer.run.socket_owners import OwnerLookup
from tracer.run.stop import Ending, StopRequest
from tracer.run.unsent import Unsent, UnsentSyns
from tracer.version import __version__
from tracer.vocabulary.packets import not_read

SECOND_S = 1.0
ALL_READ = 0.05  # of the ring: so much is read at once
PACKET_BATCHES = 5  # those of a full ring
MANY = 200  # records in a reading: a batch costs as much as hundreds, so what waits goes on with the next one
STATS_S = 10.0
END_PATIENCE_S = 10.0 * FACTOR
ANSWER_NS = int(100_000_000 * FACTOR)  # of the 200 ms in which a reader must see a record
ASK_AGAIN_NS = 1_000_000_000  # after a question that was not answered in time


@dataclass(slots=True)
class RunOptions:
    """When to end, what to say at the beginning, and what may be left out."""

    argv: tuple[str, ...] = ()
    duration_s: float | None = None
    details: bool = True  # somebody reads single handshakes: find payloads and processes
    check_cookies: bool = True
    unsent: bool = True  # also tell of SYNs that no hook saw. The kernel would have to apply --filter to them


@dataclass(slots=True)
class Pipeline:
    """One run, from `Ready` to the summary."""

    channel: Channel
    ready: Ready
    sources: Sources
    composer: Composer
    fanout: Fanout
    options: RunOptions
    stop: StopRequest
    aggregate: Aggregate = field(default_factory=Aggregate)
    benefit: BenefitTable = field(default_factory=BenefitTable)
    _interfaces: dict[int, TracedInterface] = field(default_factory=dict)
    _there: dict[int, TracedInterface] = field(default_factory=dict)  # of these, those that are traced now
    _local: LocalHistory = field(default_factory=LocalHistory)
    _payloads: PayloadCache = field(default_factory=PayloadCache)
    _owners: OwnerLookup = field(init=False)
    _words: KernelWords = field(init=False)
    _unsent: UnsentSyns = field(init=False)
    _unsent_told: int = 0
    _counters: dict[str, int] = field(default_factory=dict)
    _still_open: int = 0
    _received: int = 0
    _dropped: int = 0
    _losses_are_told: bool = False
    _silence_is_told: bool = False
    _root: Ended | None = None
    _root_is_there: bool = True
    _root_cost: RootCost | None = None
    _ending: Ending = field(init=False)
    _poll: select.poll = field(default_factory=select.poll)
    _judge: CauseJudge = field(default_factory=CauseJudge)
    _asked: int = 0
    _answer: HostAnswer | None = None
    _ask_again_ns: int = 0
    _began: float = 0.0
    _next_second: float = 0.0
    _next_stats: float = 0.0
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._ending = self.fanout.ending
        self._pace = Pace(self.sources.ring, self.sources.beside)
        # nobody waits for a record; but the perf buffers of packets hold 50 ms at 20,000 handshakes a second
        if not self.fanout.writes and (self.sources.ring is not None or self.sources.packets is None):
            self._pace.poll_ms = POLL_GENTLY_MS
            self._pace.gathers = True
        self._owners = OwnerLookup(self.channel.offer)
        self.composer.cgroups = self._owners.cgroups
        self._words = KernelWords(self.ready.evidence, self.channel.offer)
        self._unsent = UnsentSyns(self.ready.evidence.netns, self.channel.offer)
        self.composer.drops, self.composer.reset_reasons = self._words.drops, self._words.reset_reasons

    def run(self) -> int:
        """Trace until something ends it; return the exit code. The sinks are closed and the root part has left."""
        self._began = time.monotonic()
        self._next_second, self._next_stats = self._began + SECOND_S, self._began + STATS_S
        self._judge = self._cause_judge()
        self._owners.queues = self._judge.queue_table
        self.composer.listeners = self._judge.queue_table.records
        self.composer.changes = self._judge.change_table.words
        self.composer.offset_ns = self._offset_ns()
        self._set_interfaces(self.ready.interfaces)
        self._poll.register(self.channel.fileno(), select.POLLIN)
        while self._root_is_there and self._poll.poll(0):  # addresses follow Ready at once
            self._receive()
        self.fanout.start(self._start_record())
        allocator.fill_numpys_cache()
        self._trace()
        self._finish()
        self._close_sinks(self._lasted_s())
        return self._ending.exit_code

    def _lasted_s(self) -> float:
        """For how long handshakes were traced."""
        return time.monotonic() - self._began

    def _offset_ns(self) -> int:
        """From the programs' clock to the wall clock, nanoseconds."""
        return wall_offset_ns()

    def _source(self) -> Source:
        """What is read, for the summary."""
        return Source.INTERFACES

    def _cause_judge(self) -> CauseJudge:
        """What infers causes; it may ask for this host's state."""
        hears_drops = bool(self.ready.evidence.drop_reasons)
        return CauseJudge(self._ask_root, check_cookies=self.options.check_cookies, hears_drops=hears_drops)

    def _note(self, events: Events) -> None:
        """Note how long after they were settled these records came."""
        lag_us = (time.monotonic_ns() - int(events["settled_ns"].max())) / 1000
        self.fanout.tell(lambda listener: listener.set_drain_lag(lag_us))

    # --- the loop ---

    def _trace(self) -> None:
        # the root part sends addresses right after it is ready: without them the first records get a wrong vantage
        while not self._local.is_known and self._root_is_there and self.stop.reason is None:
            if self._poll.poll(SOON_MS):
                self._receive()
        wait_ms = SOON_MS
        while self._ending.reason is None:
            if self._poll.poll(wait_ms):
                self._receive()
            now = time.monotonic()
            wait_ms = self._pace.rest_ms()
            if wait_ms:
                self._release()
            else:
                wait_ms = self._wait_ms(self._drain())
            self._do_what_is_due(now)
            if self.stop.reopen:
                self.stop.reopen = False
                self.fanout.reopen()
                self.fanout.narrate("SIGHUP: closed the files and opened them again")
            if self.stop.reason is not None:
                self._ending.set(self.stop.reason, 0)
            elif self.options.duration_s is not None:
                left_ms = (self._began + self.options.duration_s - now) * 1000
                if left_ms <= 0:
                    self._ending.set("duration", 0)
                wait_ms = max(0, min(wait_ms, int(left_ms) + 1))

    def _wait_ms(self, count: int) -> int:
        """How long to wait after a reading that found `count` records."""
        wait_ms = self._pace.wait_ms(count)
        if self._words.is_holding and self.fanout.writes and count < MANY:
            return min(wait_ms, WORDS_SOON_MS)
        return wait_ms

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._next_second:
            self._next_second = now + SECOND_S
            self.composer.offset_ns = self._offset_ns()
            self.fanout.each(lambda sink: sink.tick())
        if now >= self._next_stats:
            self._next_stats = now + STATS_S
            self._write_stats()
            allocator.give_back()

    def _drain(self) -> int:
        """Take a batch from the ring, and write the batches that are ready; return how many records came."""
        count = self._drain_ring()
        self._release()
        return count

    def _drain_ring(self) -> int:
        ring = self.sources.ring
        waiting = ring.fill / ring.size if ring is not None else 0.0
        events = self.sources.events.read()
        # payloads after the records: the kernel sends a record's payload before the record
        self._payloads.add(self.sources.payloads.read())
        if self.sources.drops is not None:
            # likewise, and a word on a segment that settled its record may come a moment later
            read_ns = time.monotonic_ns()
            drops = self.sources.drops.read()
            self._words.note(drops, read_ns)
            if self.options.unsent:
                self._unsent.seen(events)
                self._unsent.note(drops, self._local)
                if waiting < ALL_READ:
                    self._take_unsent(self._unsent.settle(read_ns))
        if self.sources.packets is not None:
            self._take_packets(self.sources.packets)
        if not len(events):
            if self._words.is_holding:
                self._take(events)
            return 0
        self._received += len(events)
        self.fanout.tell(lambda listener: listener.set_ring_fill(waiting))
        self._note(events)
        self._take(events)
        return len(events)

    def _take_packets(self, source: EventSource) -> None:
        """All that are there: a handshake has four or five, so that they come faster than a batch a turn."""
        for _ in range(PACKET_BATCHES):
            packets = source.read()
            if not len(packets):
                return
            for taker in self.fanout.packet_takers:
                taker.take_packets(packets)

    def _take(self, events: Events) -> None:
        ready = self._words.admit(events, time.monotonic_ns())
        if len(ready):
            self._go_on(ready)

    def _go_on(self, events: Events) -> None:
        payloads = self._payloads.take(events)
        batch = self._judge.judge(decode(events, self._local, payloads))
        self._words.tell(batch)
        if self.options.details:
            self._owners.admit(batch, time.monotonic())
        else:
            self._write(batch)

    def _take_unsent(self, unsent: Unsent | None) -> None:
        """Records that user space opened: the judge learns nothing from them, as nobody was asked."""
        if unsent is None:
            return
        batch = decode(unsent.events, self._local, NO_PAYLOADS)
        self._words.tell_unsent(batch, unsent.words, unsent.whole)
        self._unsent_told += len(batch)
        self._received += len(batch)
        self._owners.admit(batch, time.monotonic())

    def _release(self, *, everything: bool = False) -> None:
        for batch in self._owners.release(time.monotonic(), everything=everything):
            self._write(batch)

    def _write(self, batch: Batch) -> None:
        quota = self.fanout.quota
        if quota.is_met():
            return
        batch = quota.take(batch)
        self.aggregate.add(batch)
        self.benefit.add(batch)
        self._dropped += self.fanout.write(batch)
        if quota.is_met():
            self._ending.set("count", 0)

    # --- messages of the root part ---

    def _ask_root(self, question: HostQuestion) -> HostAnswer | None:
        """Ask for the host's state; None if the root part does not answer soon, since records must not wait long."""
        now = time.monotonic_ns()
        if not self._root_is_there or now < self._ask_again_ns:
            return None
        self._asked += 1
        if not self.channel.offer(msgspec.structs.replace(question, serial=self._asked)):
            return None
        deadline = now + ANSWER_NS
        while (left := deadline - time.monotonic_ns()) > 0:
            if self._poll.poll(max(1, left // 1_000_000)) and not self._receive():
                return None
            if self._answer is not None and self._answer.serial == self._asked:
                return self._answer
        self._ask_again_ns = time.monotonic_ns() + ASK_AGAIN_NS
        return None

    def _receive(self) -> bool:
        """Take one message; False if there will be no more."""
        message, _ = self.channel.from_root()
        if message is None:
            self._root_is_there = False
            if self._root is None:
                self._ending.set("the root part ended unexpectedly", int(ExitCode.ENDED_EARLY))
            self._poll.unregister(self.channel.fileno())
            return False
        self._on_message(message)
        return True

    def _on_message(self, message: ToUser) -> None:
        match message:
            case Counters(values, still_open):
                self._counters, self._still_open = values, still_open
                self._tell_losses()
                self.fanout.tell(lambda listener: listener.set_balance(self._balance(), self._sums()))
            case Addresses(addresses, networks, taken_ns):
                self._local.update(addresses, networks, taken_ns)
            case InterfacesChanged(there, gone):
                now = self._there | {interface.index: interface for interface in there}
                for index in gone:
                    now.pop(index, None)
                self._set_interfaces(list(now.values()))
            case Notice(kind, text, interface):
                self._notice(kind, text, interface)
            case Failed(text, exit_code):
                self._ending.set(text, exit_code)
            case Ended(values, still_open, reason, exit_code):
                self._root = message
                self._counters, self._still_open = values, still_open
                # a signal to the group reaches both parts, and the root part may react first
                if reason is not None and self.stop.reason is not None:
                    self._ending.set(self.stop.reason, 0)
                elif reason is not None:
                    self._ending.set(reason, exit_code)
            case Host(counters, sysctls):
                self._judge.add_host(message)
                self.fanout.tell(lambda listener: listener.set_host(counters, sysctls))
            case RootCost(taken_ns):
                self._root_cost = message
                spent = cost.total(message)
                if time.monotonic_ns() - taken_ns < cost.FRESH_NS:
                    self.fanout.tell(lambda listener: listener.set_cost(spent, taken_ns))
            case HostAnswer():
                self._answer = message
            case OwnerAnswer():
                self._owners.answered(message)
            case PlaceAnswer():
                self._words.answered(message)
            case OpenAnswer():
                self._unsent.answered(message, time.monotonic_ns())
            case Ready() | FramesDone():
                pass

    def _set_interfaces(self, interfaces: list[TracedInterface]) -> None:
        # keep those that have gone: records of their last handshakes still come
        self._there = there = {interface.index: interface for interface in interfaces}
        self._interfaces = remembered(self._interfaces, there)
        self.composer.interfaces = self._interfaces
        self._words.has_sides |= len(there) > 1
        seen_leaving = [index for index, one in there.items() if not one.hook.startswith("xdp")]
        self._judge.set_interfaces({index: one.group or index for index, one in there.items()}, seen_leaving)
        self.fanout.tell(lambda listener: listener.set_interfaces(interfaces))

    def _notice(self, kind: str, text: str, interface: str | None = None) -> None:
        self.fanout.narrate(text)
        self.fanout.notice(NoticeRecord(SCHEMA, wall_now(), kind, text, interface))

    def _tell_losses(self) -> None:
        sums = self._sums()
        if not self._silence_is_told and (sums.get("drops_skipped") or sums.get("drops_lost")):
            self._notice(
                "kernel_reasons_lost",
                "more packets were dropped or refused at once than this host's kernel is heard about: handshakes of "
                "that time may lack drop, reset.reason and cause",
            )
            self._silence_is_told = True
        sheet = self._balance()
        if losses(sheet) and not self._losses_are_told:
            self._notice(
                "losses",
                f"handshakes are being lost: {sheet.lost} ring full, {sheet.evicted} table full, "
                f"{sheet.suppressed} unanswered above 10,000 a second, {sheet.dropped} not written",
            )
            self._losses_are_told = True

    # --- records about the run ---

    def _balance(self) -> Balance:
        return balance(self._sums(), self._still_open, self._received, self._dropped)

    def _sums(self) -> dict[str, int]:
        """The kernel's counters, and what this part opened and sent on its own: at once, so that none is ever open."""
        more = {"opened": self._unsent_told, "emitted": self._unsent_told, "drops_skipped": self._unsent.skipped}
        return self._counters | {name: self._counters.get(name, 0) + count for name, count in more.items() if count}

    def _start_record(self) -> Start:
        return Start(
            SCHEMA,
            wall_now(),
            __version__,
            self.options.argv,
            platform.release(),
            tuple(
                InterfaceInfo(one.name, one.index, one.hook, one.why, one.group, tuple(one.others), tuple(one.warnings))
                for one in self.ready.interfaces
                if not one.through
            ),
            self.ready.transport.value,
            self.ready.table_size,
            wall_offset_ns(),
            evidence=EvidenceInfo(
                bool(self.ready.evidence.drop_reasons),
                bool(self.ready.evidence.reset_reasons),
                self.ready.evidence.places,
            ),
            without=tuple(self.ready.without),
        )

    def _write_stats(self) -> None:
        record = Stats(SCHEMA, wall_now(), self._balance(), self._sums(), self.aggregate.totals(), self._cost())
        self.fanout.each(lambda sink: sink.stats(record))

    def _cost(self) -> Cost | None:
        return cost.total(self._root_cost) if self._root_cost is not None else None

    # --- end ---

    def _finish(self) -> None:
        """Let the root part detach and flush, and read what it flushes."""
        self._owners.close(time.monotonic())
        told = False
        deadline = time.monotonic() + END_PATIENCE_S
        while self._root_is_there and time.monotonic() < deadline:
            told = told or self.channel.offer(Stop())  # to send would wait for a root part that is stopped
            if self._root is None and self._poll.poll(SOON_MS) and self._receive():
                deadline = time.monotonic() + END_PATIENCE_S  # it is at work: detaching may take a while
            # the root part sends Ended when all is in the ring: an empty ring after it is the end
            ended = self._root is not None
            if not self._drain() and ended:
                break
        for events in self._words.close():
            self._go_on(events)
        self._take_unsent(self._unsent.close(time.monotonic_ns()))
        self._release(everything=True)
        if self._root is None:
            self._ending.set("the root part did not say that it has detached", int(ExitCode.ENDED_EARLY))
        self.channel.close()

    def _close_sinks(self, duration_s: float) -> None:
        record = End(
            SCHEMA,
            wall_now(),
            self._ending.reason or "asked",
            self._ending.exit_code,
            round(duration_s, 3),
            self.aggregate.totals(),
            self._balance(),
            self._sums(),
            self.benefit.benefits(),
            not_read=not_read(self._counters),
            interfaces=self._root.interfaces if self._root is not None else None,
            cost=self._cost(),
        )
        self.fanout.close(record)
        summarize(record, self.fanout.narrate, whole=self._root is not None, source=self._source())
