"""Replay of a capture as two processes: this one reads the file as the user, the root part runs its packets."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace

import msgspec

from tracer.aggregate.unread import Source
from tracer.causes.judge import CauseJudge
from tracer.encode.composer import Composer
from tracer.errors import CannotTraceError, ExitCode
from tracer.handshake.events import Events
from tracer.handshake.vantage import LocalHistory, LocalSet
from tracer.ipc.messages import Channel, FramesDone, Ready, ToUser
from tracer.ipc.traced import TracedInterface
from tracer.linux import own_tree, privileges
from tracer.linux.libpcap import link_name
from tracer.loader.load import Loader, LoadOptions, default_transport
from tracer.records.run import Start
from tracer.replay import root_part
from tracer.replay.feed import LINKS, Feed
from tracer.replay.input import Input
from tracer.replay.progress import Progress
from tracer.replay.root_part import ReplayRequest
from tracer.ring.open import Sources
from tracer.ring.pace import SOON_MS
from tracer.run.assembly import Assembly
from tracer.run.fanout import Fanout, Narrate
from tracer.run.fork import await_ready, root_child
from tracer.run.pipeline import Pipeline, RunOptions
from tracer.run.stop import StopRequest
from tracer.vocabulary.printable import plural
from tracer.vocabulary.vocabulary import Transport

SWITCH_S = 0.0005
HEADERS_MAX = 128  # bytes: Ethernet, a tag, IPv6, TCP with all its options
HOOK = "replay"
WHY = "packets of a capture, run through the kernel programs"


class CapturePipeline(Pipeline):
    """The user part's loop when packets come from a file. Its clock is the capture's: nanoseconds since the epoch."""

    def __init__(
        self, channel: Channel, ready: Ready, sources: Sources, composer: Composer, fanout: Fanout,
        options: RunOptions, stop: StopRequest, feed: Feed, local: LocalSet,
    ) -> None:  # fmt: skip
        super().__init__(channel, ready, sources, composer, fanout, options, stop)
        self._local = LocalHistory(local)
        self.feed = feed
        self.progress = Progress(feed.source.size, "packets")
        self.clock_ns = 0  # time of the latest record
        self._refused = 0
        self._named = len(feed.interfaces)

    def _offset_ns(self) -> int:
        return 0

    def _lasted_s(self) -> float:
        return (self.feed.end_ns - self.feed.begin_ns) / 1e9

    def _source(self) -> Source:
        return Source.CAPTURE

    def _start_record(self) -> Start:
        # the first packets say when the capture began and name some of its interfaces
        self._read_some()
        self.clock_ns = self.feed.begin_ns
        return msgspec.structs.replace(super()._start_record(), boot_clock_offset_ns=0, evidence=None, without=None)

    def _trace(self) -> None:
        while self._ending.reason is None:
            if self.feed.can_read:
                self._read_some()
            # when nothing can be read the root part is busy: it sends records before it says that a slot is done
            if self._poll.poll(0 if self.feed.can_read else SOON_MS):
                self._receive()
            self._drain()
            self._do_what_is_due(time.monotonic())
            self.progress.show(self.feed.position, self.feed.packets)
            if self.stop.reason is not None:
                self._ending.set(self.stop.reason, 0)
            elif self.feed.is_over:
                self._end_of_file()
        self.progress.clear()

    def _read_some(self) -> None:
        frames = self.feed.read()
        if len(self.feed.interfaces) > self._named:  # before any record names the new one
            self._named = len(self.feed.interfaces)
            self.ready = msgspec.structs.replace(self.ready, interfaces=traced(self.feed))
            self._set_interfaces(self.ready.interfaces)
        if frames is not None:
            self.channel.send(frames)

    def _cause_judge(self) -> CauseJudge:
        return CauseJudge()  # this host's counters and keys have nothing to do with the capture

    def _on_message(self, message: ToUser) -> None:
        if isinstance(message, FramesDone):
            self.feed.done(message.slot, message.packets)
            self._refused += message.refused
        else:
            super()._on_message(message)

    def _note(self, events: Events) -> None:
        self.clock_ns = max(self.clock_ns, int(events["settled_ns"].max()))

    def _end_of_file(self) -> None:
        name = self.feed.source.name
        damage = self.feed.damage
        if damage is None:
            self._ending.set(f"all of {os.path.basename(name)} was read", 0)
        elif "truncated" in damage:
            self._notice("capture_cut", f"{name} is cut: {damage}; what comes before that is judged")
            self._ending.set(f"all of {os.path.basename(name)} was read", 0)
        else:
            self._ending.set(f"{name} cannot be read any further: {damage}", int(ExitCode.ENDED_EARLY))

    def _finish(self) -> None:
        super()._finish()
        self._tell_what_was_not_judged()

    def _tell_what_was_not_judged(self) -> None:
        cut = self._counters.get("malformed_tcp_header", 0)
        segments = f"{cut} {plural(cut, 'TCP segment')}"
        needed = HEADERS_MAX + self.feed.inside
        if cut and self.feed.snaplen < needed:
            self._notice(
                "headers_cut",
                f"{segments} came without the whole header (the capture kept {self.feed.snaplen} bytes of a "
                f"packet): SYNs and SYN-ACKs among them are not judged; capture at least {needed} bytes",
            )
        elif cut:
            self._notice("headers_cut", f"{segments} came without the whole header: not judged")
        if self._refused:
            packets = f"{self._refused} {plural(self._refused, 'packet')}"
            self._notice("packets_too_short", f"{packets} too short to hold TCP: left out")
        for link, count in self.feed.unread.items():
            packets = f"{count} {plural(count, 'packet')}"
            why = "for which --filter does not work" if link in LINKS else "which is not read"
            self._notice("link_not_read", f"{packets} of link type {link_name(link)}, {why}: left out")
        if self.feed.untold:
            packets = f"{self.feed.untold} {plural(self.feed.untold, 'packet')}"
            self._notice("tunnels_not_read", f"{packets} in more tunnels than can be told apart: not read into")


def traced(feed: Feed) -> list[TracedInterface]:
    """The interfaces of the capture that are known so far."""
    return [
        TracedInterface(number, one.name, HOOK, WHY, group=one.group, through=one.through)
        for number, one in feed.interfaces.items()
    ]


def replay_capture(
    source: Input, options: Namespace, argv: tuple[str, ...], user: privileges.User | None, narrate: Narrate
) -> int:
    """Replay an open capture, all but the root part as `user`; returns the exit status.

    Raises:
        TfotraceError: it cannot begin.
    """
    if os.geteuid() != 0:
        raise CannotTraceError(
            "replaying a capture needs root, since its packets go through the kernel programs: run it with sudo"
        )
    unsafe = own_tree.warning()
    if unsafe is not None:
        narrate(unsafe)
    if default_transport() is not Transport.RING:
        raise CannotTraceError("replaying a capture needs the ring buffer of Linux 5.8 or newer")
    load = LoadOptions(table_size=options.table_size, replay=True, filter=options.filter)
    request = ReplayRequest(load, options.response_timeout, root_part.make_slots())
    with root_child(lambda channel: root_part.run(request, channel, Loader(load))) as channel:
        return _as_user(channel, request, source, options, argv, user, narrate)


def _as_user(
    channel: Channel,
    request: ReplayRequest,
    source: Input,
    options: Namespace,
    argv: tuple[str, ...],
    user: privileges.User | None,
    narrate: Narrate,
) -> int:
    assembly = Assembly(options, narrate)
    source.end_when(lambda: assembly.stop.reason is not None)
    first = await_ready(channel, assembly.stop)
    if first is None:
        return 0
    ready, sources = first
    assembly.become(user)
    # another thread decompresses: switch often, or each waits 5 ms for the other at every turn
    sys.setswitchinterval(SWITCH_S)
    wanted = options.filter
    feed = Feed(source, request.slots, wanted.why_not if wanted is not None and wanted.without_link is None else None)
    try:
        ready = msgspec.structs.replace(ready, interfaces=traced(feed))
        composer = Composer({}, show_cookies=options.show_cookies, hook=HOOK)
        fanout = assembly.open(composer)
        assembly.warn_of_root()
        pipeline = CapturePipeline(
            channel, ready, sources, composer, fanout, RunOptions(argv), assembly.stop, feed,
            LocalSet(*options.local),
        )  # fmt: skip
        return assembly.run(pipeline, clock=lambda: pipeline.clock_ns, replay_of=os.path.basename(source.name))
    finally:
        feed.close()
