"""The user part's loop: drain, judge, add up, hand to the sinks; and what the root part says on the way."""

from __future__ import annotations

import platform
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracer.aggregate.aggregate import Aggregate, balance, losses
from tracer.aggregate.benefit import BenefitTable
from tracer.aggregate.summary import summarize
from tracer.causes.judge import CauseJudge
from tracer.encode.composer import Composer
from tracer.errors import EndedEarlyError, ExitCode
from tracer.handshake.batch import Batch, decode
from tracer.handshake.events import Events
from tracer.handshake.vantage import LocalSet
from tracer.ipc.messages import (
    Addresses,
    Answer,
    Ask,
    Channel,
    CookieQuestion,
    Counters,
    Ended,
    Failed,
    FramesDone,
    Host,
    Interfaces,
    Notice,
    Owners,
    Ready,
    Stop,
    ToUser,
)
from tracer.ipc.traced import TracedInterface, forget_gone
from tracer.linux import allocator
from tracer.linux.clock import wall_now, wall_offset_ns
from tracer.linux.patience import FACTOR
from tracer.records.record import SCHEMA, Balance, End, InterfaceInfo, NoticeRecord, Start, Stats
from tracer.ring.open import Sources
from tracer.ring.pace import POLL_GENTLY_MS, SOON_MS, Looks
from tracer.ring.payloads import PayloadCache
from tracer.run.socket_owners import ProcessDesk
from tracer.run.stop import StopRequest
from tracer.sinks.base import Listener, Reopens, Sink, SinkClosedError, SinkFullError, TakesPackets
from tracer.version import __version__

if TYPE_CHECKING:
    from tracer.sinks.filtered import RecordFilter

SECOND_S = 1.0
STATS_S = 10.0
END_PATIENCE_S = 10.0 * FACTOR
ANSWER_NS = int(100_000_000 * FACTOR)  # of the 200 ms until a reader sees a record
ASK_AGAIN_NS = 1_000_000_000  # after a question that was not answered in time


@dataclass(slots=True)
class RunOptions:
    """When to end, and what to say at the beginning. `count` is of handshakes that pass the filter, if there is one."""

    argv: tuple[str, ...] = ()
    duration_s: float | None = None
    count: int | None = None
    record_filter: RecordFilter | None = None  # what the sinks that write were told to let through


@dataclass(slots=True)
class Pipeline:
    """One run, from `Ready` to the summary. `narrate` gets sentences for people."""

    channel: Channel
    ready: Ready
    sources: Sources
    composer: Composer
    sinks: list[Sink]
    options: RunOptions
    stop: StopRequest
    narrate: Callable[[str], None]
    observer: Listener | None = None  # those of the sinks that want to know
    packet_takers: list[TakesPackets] = field(default_factory=list)
    details: bool = True  # somebody looks at handshakes one by one
    check_cookies: bool = True
    aggregate: Aggregate = field(default_factory=Aggregate)
    benefit: BenefitTable = field(default_factory=BenefitTable)
    _interfaces: dict[int, TracedInterface] = field(default_factory=dict)
    _local: LocalSet = field(default_factory=LocalSet)
    _local_is_known: bool = False
    _payloads: PayloadCache = field(default_factory=PayloadCache)
    _desk: ProcessDesk = field(init=False)
    _counters: dict[str, int] = field(default_factory=dict)
    _still_open: int = 0
    _received: int = 0
    _dropped: int = 0
    _left_out: int = 0  # of the last batch, by the sink that left out most
    _counted: int = 0  # towards options.count
    _sink_failed: bool = False
    _told_losses: int = 0
    _root: Ended | None = None
    _root_is_there: bool = True
    _reason: str | None = None
    _exit_code: int = 0
    _poll: select.poll = field(default_factory=select.poll)
    _judge: CauseJudge = field(default_factory=CauseJudge)
    _asked: int = 0
    _answer: Answer | None = None
    _ask_again_ns: int = 0
    _looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        self._looks = Looks(self.sources.ring)
        self._desk = ProcessDesk(self.channel.offer)
        self.composer.cgroups = self._desk.cgroups

    def run(self) -> int:
        """Trace until something ends it; returns the exit code. Sinks are closed, the root part has left."""
        began = time.monotonic()
        self._judge = self._cause_judge()
        self.composer.offset_ns = self._offset_ns()
        self._set_interfaces(self.ready.interfaces)
        self._poll.register(self.channel.fileno(), select.POLLIN)
        self._receive_waiting()  # addresses follow Ready at once: no handshake is judged without them
        start = self._start_record()
        self._each(lambda sink: sink.start(start))
        allocator.fill_numpys_cache()
        self._trace(began)
        self._finish()
        self._close_sinks(time.monotonic() - began)
        return self._exit_code

    def sum_only(self, *, check_cookies: bool) -> None:
        """Nobody looks at handshakes one by one: no payloads, no processes, cookies are checked if it is asked for."""
        self.details, self.check_cookies = False, check_cookies
        self.look_gently()

    def look_gently(self) -> None:
        """Nobody waits for a record as it comes."""
        self._looks.poll_ms = POLL_GENTLY_MS

    def _offset_ns(self) -> int:
        """From the programs' clock to the wall clock, nanoseconds."""
        return wall_offset_ns()

    def _cause_judge(self) -> CauseJudge:
        """Who infers causes, with this host's own state to ask about."""
        return CauseJudge(self._ask_root, check_cookies=self.check_cookies)

    def _note(self, events: Events) -> None:
        """Records have come: how long after they were settled?"""
        if self.observer is not None:
            self.observer.set_drain_lag((time.monotonic_ns() - int(events["settled_ns"].max())) / 1000)

    def _each(self, act: Callable[[Sink], None]) -> bool:
        """Do something with every sink; one that breaks is left out from then on and ends the run.

        False if one failed; a reader that left (a closed pipe) is no failure.
        """
        broken = []
        failed = False
        for sink in self.sinks:
            try:
                act(sink)
            except SinkClosedError:  # noqa: PERF203 - one that fails must not keep the others
                broken.append(sink)
                self._end("the reader has gone", 0)
            except SinkFullError as error:
                self._left_out = max(self._left_out, error.records)
            except EndedEarlyError as error:
                broken.append(sink)
                failed = self._sink_failed = True
                self._end(str(error), int(error.exit_code))
        self.sinks = [sink for sink in self.sinks if sink not in broken]
        return not failed

    # --- the loop ---

    def _trace(self, began: float) -> None:
        # the root part sends them right after it is ready: without them the first records would have a wrong vantage
        while not self._local_is_known and self._root_is_there and self.stop.reason is None:
            if self._poll.poll(SOON_MS):
                self._receive()
        next_second = began + SECOND_S
        next_stats = began + STATS_S
        wait_ms = SOON_MS
        while self._reason is None:
            if self._poll.poll(wait_ms):
                self._receive()
            now = time.monotonic()
            wait_ms = self._looks.wait_ms(self._drain())
            if now >= next_second:
                next_second = now + SECOND_S
                self.composer.offset_ns = self._offset_ns()
                self._each(lambda sink: sink.tick())
            if now >= next_stats:
                next_stats = now + STATS_S
                self._write_stats()
                allocator.give_back()
            if self.stop.reopen:
                self.stop.reopen = False
                self._each(_reopen)
                self.narrate("files are closed and opened again, as SIGHUP asks")
            if self.stop.reason is not None:
                self._end(self.stop.reason, 0)
            elif self.options.duration_s is not None:
                left_ms = (began + self.options.duration_s - now) * 1000
                if left_ms <= 0:
                    self._end("duration", 0)
                wait_ms = max(0, min(wait_ms, int(left_ms) + 1))

    def _drain(self) -> int:
        """One batch from the ring towards the sinks, and those to them that are ready; how many records came."""
        count = self._drain_ring()
        self._release()
        return count

    def _drain_ring(self) -> int:
        ring = self.sources.ring
        waiting = ring.fill / ring.size if ring is not None else 0.0
        events = self.sources.events.read()
        # payloads after the records: a record's payload was sent before it
        self._payloads.add(self.sources.payloads.read())
        if self.sources.packets is not None:
            packets = self.sources.packets.read()
            for taker in self.packet_takers:
                taker.take_packets(packets)
        if not len(events):
            return 0
        self._received += len(events)
        if self.observer is not None:
            self.observer.set_ring_fill(waiting)
        self._note(events)
        self._take(events)
        return len(events)

    def _take(self, events: Events) -> None:
        payloads = self._payloads.take(events)
        batch = self._judge.judge(decode(events, self._local, payloads))
        if self.details:
            self._desk.admit(batch, time.monotonic())
        else:
            self._write(batch)

    def _release(self, *, everything: bool = False) -> None:
        for batch in self._desk.release(time.monotonic(), everything=everything):
            self._write(batch)

    def _write(self, batch: Batch) -> None:
        if self.options.count is not None:
            if self._counted >= self.options.count:
                return
            batch = self._count(batch, self.options.count)
        self.aggregate.add(batch)
        self.benefit.add(batch)
        if not self._each(lambda sink: sink.write(batch)):
            self._dropped += len(batch)
        elif self._sink_failed:
            self._dropped += len(batch)  # not written by the one that broke before
        else:
            self._dropped += self._left_out
        self._left_out = 0
        if self.options.count is not None and self._counted >= self.options.count:
            self._end("count", 0)

    def _count(self, batch: Batch, count: int) -> Batch:
        """The batch up to the last handshake that is wanted."""
        chosen = self.options.record_filter
        left = count - self._counted
        if chosen is None:
            batch = batch.rows(0, left)
            self._counted += len(batch)
        else:
            batch = chosen.until(batch, left)
            self._counted += chosen.passing(batch)
        return batch

    def _end(self, reason: str, exit_code: int) -> None:
        # a failure while ending as asked is a failure all the same
        if self._reason is None or (exit_code and not self._exit_code):
            self._reason, self._exit_code = reason, exit_code

    def _end_by_root_part(self, reason: str, exit_code: int) -> None:
        # a signal to the whole group reaches both parts, and the root part may be the quicker one
        if self.stop.reason is not None:
            self._end(self.stop.reason, 0)
        else:
            self._end(reason, exit_code)

    # --- messages of the root part ---

    def _ask_root(self, cookies: list[CookieQuestion]) -> Answer | None:
        """How does the host stand now? None if the root part does not say so soon: records must not wait for long."""
        now = time.monotonic_ns()
        if not self._root_is_there or now < self._ask_again_ns:
            return None
        self._asked += 1
        if not self.channel.offer(Ask(self._asked, cookies)):
            return None
        deadline = now + ANSWER_NS
        while (left := deadline - time.monotonic_ns()) > 0:
            if self._poll.poll(max(1, left // 1_000_000)) and not self._receive():
                return None
            if self._answer is not None and self._answer.serial == self._asked:
                return self._answer
        self._ask_again_ns = time.monotonic_ns() + ASK_AGAIN_NS
        return None

    def _receive_waiting(self) -> None:
        while self._root_is_there and self._poll.poll(0):
            self._receive()

    def _receive(self) -> bool:
        """Take one message; False if there will be none any more."""
        message, _ = self.channel.from_root()
        if message is None:
            self._root_is_there = False
            if self._root is None:
                self._end("the root part ended unexpectedly", int(ExitCode.ENDED_EARLY))
            self._poll.unregister(self.channel.fileno())
            return False
        self._on_message(message)
        return True

    def _on_message(self, message: ToUser) -> None:
        match message:
            case Counters(values, still_open):
                self._counters, self._still_open = values, still_open
                self._tell_losses()
                if self.observer is not None:
                    self.observer.set_balance(self._balance(), values)
            case Addresses(addresses, networks):
                self._local = LocalSet(addresses, networks)
                self._local_is_known = True
            case Interfaces(interfaces):
                self._set_interfaces(interfaces)
            case Notice(kind, text, interface):
                self._notice(kind, text, interface)
            case Failed(text, exit_code):
                self._end(text, exit_code)
            case Ended(values, still_open, reason, exit_code):
                self._root = message
                self._counters, self._still_open = values, still_open
                if reason is not None:
                    self._end_by_root_part(reason, exit_code)
            case Host(counters, sysctls):
                self._judge.add_host(message)
                if self.observer is not None:
                    self.observer.set_host(counters, sysctls)
            case Answer():
                self._answer = message
            case Owners():
                self._desk.answered(message)
            case Ready() | FramesDone():
                pass

    def _set_interfaces(self, interfaces: list[TracedInterface]) -> None:
        # kept when they go: records of their last handshakes still come
        there = {interface.index: interface for interface in interfaces}
        self._interfaces.update(there)
        forget_gone(self._interfaces, there)
        self.composer.interfaces = self._interfaces
        self._judge.set_interfaces(len(interfaces))
        if self.observer is not None:
            self.observer.set_interfaces(interfaces)

    def _notice(self, kind: str, text: str, interface: str | None = None) -> None:
        self.narrate(text)
        record = NoticeRecord(SCHEMA, wall_now(), kind, text, interface)
        self._each(lambda sink: sink.notice(record))

    def _tell_losses(self) -> None:
        sheet = self._balance()
        total = losses(sheet)
        if total and not self._told_losses:
            self._notice(
                "losses",
                f"handshakes are being lost: {sheet.lost} ring full, {sheet.evicted} table full, "
                f"{sheet.suppressed} unanswered above 10,000 a second, {sheet.dropped} not written",
            )
        self._told_losses = total

    # --- records about the run ---

    def _balance(self) -> Balance:
        return balance(self._counters, self._still_open, self._received, self._dropped)

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
            ),
            self.ready.transport.value,
            self.ready.table_size,
            wall_offset_ns(),
        )

    def _write_stats(self) -> None:
        record = Stats(SCHEMA, wall_now(), self._balance(), self._counters, self.aggregate.totals())
        self._each(lambda sink: sink.stats(record))

    # --- end ---

    def _finish(self) -> None:
        """Let the root part detach and flush, and take what it flushes."""
        self._desk.close(time.monotonic())
        self.channel.send(Stop())
        deadline = time.monotonic() + END_PATIENCE_S
        while self._root_is_there and time.monotonic() < deadline:
            if self._root is None and self._poll.poll(SOON_MS):
                self._receive()
            # Ended was sent when all was in the ring: an empty ring after it is the end
            ended = self._root is not None
            if not self._drain() and ended:
                break
        self._release(everything=True)
        if self._root is None:
            self._end("the root part did not say that it has detached", int(ExitCode.ENDED_EARLY))
        self.channel.close()

    def _close_sinks(self, duration_s: float) -> None:
        record = End(
            SCHEMA,
            wall_now(),
            self._reason or "asked",
            self._exit_code,
            round(duration_s, 3),
            self.aggregate.totals(),
            self._balance(),
            self._counters,
            self.benefit.benefits(),
        )
        self._each(lambda sink: sink.close(record))
        if self._exit_code:
            self.narrate(self._reason or "tracing ended")
        summarize(record, self.narrate, whole=self._root is not None)


def _reopen(sink: Sink) -> None:
    if isinstance(sink, Reopens):
        sink.reopen()
