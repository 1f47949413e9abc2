"""The part that needs root: load, attach, sweep, count, detach. It is small, and ends with the user part.

It runs in a forked child and talks over one Channel, whose end tells it to leave. It alone holds the descriptors of
programs, links and writable maps; the user part gets the rings.
"""

from __future__ import annotations

import select
import signal
import time
from collections import deque
from types import FrameType

from tracer.attach.instances import Instance, remove_leftovers
from tracer.errors import CannotTraceError, ExitCode
from tracer.ipc.messages import (
    Addresses,
    Channel,
    Counters,
    Ended,
    HostQuestion,
    InterfacesChanged,
    Notice,
    OpenAnswer,
    OpenQuestion,
    OwnerQuestion,
    PlaceQuestion,
    Ready,
    ToUser,
)
from tracer.linux import allocator, descriptors, netns
from tracer.linux.interfaces import (
    AddressesChanged,
    Change,
    Follower,
    LinkDown,
    LinkGone,
    LinkRenamed,
    LinkUp,
    MtuChanged,
    local_addresses,
)
from tracer.linux.patience import FACTOR
from tracer.loader.load import PAGE_SIZE, Loaded, Loader
from tracer.ring import perfbuf
from tracer.root.cost import cost
from tracer.root.interfaces import Interfaces
from tracer.root.kernel import Kernel
from tracer.root.kernel_words import KernelWords
from tracer.root.request import RootRequest
from tracer.root.socket_owners import OwnerFinder
from tracer.root.startup import LeaveError, await_loaded, end_by_signals, reporting
from tracer.root.witness import Witness
from tracer.vocabulary.vocabulary import Transport

SWEEP_S = 0.25
TELL_S = 0.02  # changes of this time are told together: the user part looks at all interfaces then
_LEFTOVERS_TOLD = 20
BACKLOG_MAX = 10_000  # messages to keep for a stopped user part: news of some thousand interfaces
HOST_S = 1.0
LAST_ANSWERS_S = 2.0 * FACTOR
ADDRESSES_AGAIN_S = 10.0  # local routes may change without an event


def run(options: RootRequest, channel: Channel, loader: Loader) -> int:
    """Body of the root process; returns its exit status. Reports every failure to the user part.

    `loader` is at work already, since compiling takes longer than the rest of the start.
    """
    part = RootPart(options, channel, loader)
    end_by_signals(part.on_signal)

    def work() -> None:
        part.start()
        part.serve()

    try:
        return reporting(channel, work)
    finally:
        part.close()


class RootPart:
    """State of the root process."""

    def __init__(self, options: RootRequest, channel: Channel, loader: Loader) -> None:
        self.options = options
        self.channel = channel
        self.asked_to_end: str | None = None
        self._backlog: deque[ToUser] = deque(maxlen=BACKLOG_MAX)
        self._loader: Loader | None = loader
        self._interfaces = Interfaces(options, self._post)
        self._changes: deque[Change] = deque()
        self._next_sign = 0.0
        self._kernel: Kernel | None = None
        self._instance: Instance | None = None
        self._follower: Follower | None = None
        self._witness = Witness()
        self._finder = OwnerFinder()
        self._words: KernelWords | None = None

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """SIGTERM and SIGHUP to this process end the run as if the user part had asked."""
        self.asked_to_end = f"the root part got {signal.Signals(number).name}"

    # --- beginning ---

    def start(self) -> None:
        """Load, attach to every requested interface, and report to the user part."""
        if self.options.netns is not None:
            netns.enter_named(self.options.netns)
        self._follower = Follower()  # before the look at what is there: what comes in between is seen twice, not never
        self._interfaces.find()  # while it compiles, to report a typo at once
        self._instance = Instance()
        removed = remove_leftovers()
        loaded = self._loaded()
        self._kernel = Kernel(loaded)
        self._kernel.configure(self.options.response_timeout_s)
        self._words = KernelWords(loaded)
        rings = self._open_rings()
        descriptors.raise_limit()
        failures = self._interfaces.attach_all(self._kernel, self._instance, self._follower, self._may_go_on)
        if not self._may_go_on():
            raise LeaveError
        before = self._witness.host()  # the counters before the first handshake
        # now, all at once: a handshake is seen from both sides or not at all
        failures += self._interfaces.switch_on_all()
        load = self.options.load
        *earlier, last = self._interfaces.in_parts()
        for part in earlier:
            self.channel.send(InterfacesChanged(part))
        self.channel.send(
            Ready(
                last, load.transport, load.event_ring_bytes, load.payload_ring_bytes,
                load.table_size, load.packet_ring_bytes if load.packets else 0,
                self._words.evidence, self._words.without(),
            ),
            rings,
        )  # fmt: skip
        self._send_addresses()
        self._post(before)
        for failure in failures:
            self._post(failure)
        for text in removed[:_LEFTOVERS_TOLD]:
            self._post(Notice("leftover_removed", text))
        if len(removed) > _LEFTOVERS_TOLD:
            more = len(removed) - _LEFTOVERS_TOLD
            self._post(Notice("leftover_removed", f"and {more:,} more programs that killed runs left"))
        if self._instance.warning is not None:
            self._post(Notice("no_instance_file", self._instance.warning))

    def _loaded(self) -> Loaded:
        loader = self._loader
        assert loader is not None
        self._loader = None
        return await_loaded(loader, self.channel, lambda: self.asked_to_end is not None)

    def _open_rings(self) -> list[int]:
        assert self._kernel is not None
        maps, load = self._kernel.loaded.maps, self.options.load
        sizes = {"events": load.event_ring_bytes, "payloads": load.payload_ring_bytes}
        if load.packets:
            sizes["packets"] = load.packet_ring_bytes
        if load.transport is Transport.RING:
            heard = self._words is not None and self._words.evidence.ring_bytes
            return [maps[name] for name in (*sizes, *(["drops"] if heard else []))]
        try:
            opened = [perfbuf.open_all(maps[name], size // PAGE_SIZE) for name, size in sizes.items()]
        except OSError as error:
            raise CannotTraceError(f"the perf buffer cannot be opened: {error.strerror}") from None
        return [fd for one in opened for fd in one.values()]

    def _send_addresses(self) -> None:
        taken_ns = time.monotonic_ns()
        local = local_addresses()
        self._post(Addresses(sorted(local.addresses), sorted(local.networks), taken_ns))

    # --- tracing ---

    def serve(self) -> None:
        """Sweep and count until the user part asks to end or dies, or nothing is left to trace."""
        assert self._kernel is not None
        assert self._follower is not None
        assert self._words is not None
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        poll.register(self._follower.fileno(), select.POLLIN)
        next_sweep = time.monotonic() + SWEEP_S
        next_host = time.monotonic()
        next_addresses = time.monotonic() + ADDRESSES_AGAIN_S
        while self.asked_to_end is None:
            self._follow(next_sweep)
            waits = (part.wait_s() for part in (self._finder, self._witness, self._words))
            wait_s = max(0.0, min(next_sweep - time.monotonic(), *waits)) if not self._changes else 0.0
            ready = {fd for fd, _ in poll.poll(wait_s * 1000)}
            if self.channel.fileno() in ready:
                message = self.channel.from_user()
                if message is None:
                    return  # nobody is left to read records
                if isinstance(message, HostQuestion):
                    self.channel.offer(self._witness.answer(message))
                elif isinstance(message, OwnerQuestion):
                    self.channel.offer(self._finder.ask(message.number, message.sockets, message.cgroups))
                elif isinstance(message, PlaceQuestion):
                    self._words.ask(message.addresses)
                elif isinstance(message, OpenQuestion):
                    are_open = self._kernel.are_open(message.entries)
                    self.channel.offer(OpenAnswer(message.number, are_open, self._witness.syns_sent(message.clients)))
                else:
                    break
            for found in self._finder.advance():
                self.channel.offer(found)
            self._witness.advance()
            if (places := self._words.advance()) is not None:
                self._post(places)
            if self._follower.fileno() in ready:
                self._changes.extend(self._follower.read())
            now = time.monotonic()
            if now >= next_sweep:
                next_sweep = now + SWEEP_S
                self._kernel.sweep()
                self._interfaces.check()
                self._send_backlog()
                # dropped if the user part does not read: the next ones say more
                counters = self._kernel.counters()
                self._words.relieve(counters["drops_skipped"], now)
                self.channel.offer(Counters(counters, self._kernel.still_open))
            if now >= next_host:
                next_host = now + HOST_S
                self.channel.offer(self._witness.host())
                self.channel.offer(cost(self._kernel.loaded.programs))
            if now >= next_addresses:
                next_addresses = now + ADDRESSES_AGAIN_S
                self._send_addresses()
                allocator.give_back()
            if self._interfaces.is_over:
                self.asked_to_end = "the last traced interface has gone"
        self._end()

    def _follow(self, until: float) -> None:
        """Go after what changed, and tell it; the sweep does not wait for thousands of new interfaces."""
        tell_at = time.monotonic() + TELL_S
        while self._changes and (now := time.monotonic()) < until:
            self._on_change(self._changes.popleft())
            if now > tell_at:
                tell_at = now + TELL_S
                self._interfaces.tell_changes(self.channel.offer)
        self._interfaces.tell_changes(self.channel.offer)

    def _end(self) -> None:
        assert self._kernel is not None
        self._detach_all()
        self._kernel.flush(self._user_part_is_there)
        self.channel.offer(self._finder.last_word())
        code = ExitCode.ENDED_EARLY if self.asked_to_end else ExitCode.OK
        for message in self._backlog:
            self.channel.send(message)
        self.channel.send(cost(self._kernel.loaded.programs))
        counters, sums = self._kernel.counters(), self._interfaces.sums
        self.channel.send(Ended(counters, self._kernel.still_open, self.asked_to_end, int(code), sums))
        self._answer_last()

    def _answer_last(self) -> None:
        """Answer questions about the flushed records until the user part has left."""
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        deadline = time.monotonic() + LAST_ANSWERS_S
        while (left_s := deadline - time.monotonic()) > 0:
            if poll.poll(min(left_s, self._witness.wait_s()) * 1000):
                message = self.channel.from_user()
                if message is None:
                    return
                if isinstance(message, HostQuestion):
                    self.channel.offer(self._witness.answer(message))
            self._witness.advance()

    def _may_go_on(self) -> bool:
        return self.asked_to_end is None and self._user_part_is_there()

    def _user_part_is_there(self) -> bool:
        poll = select.poll()
        poll.register(self.channel.fileno(), 0)  # poll always reports errors and hang-ups
        return not poll.poll(0)

    def _on_change(self, change: Change) -> None:
        match change:
            case AddressesChanged():
                self._send_addresses()
            case LinkUp(interface):
                self._interfaces.on_up(interface)
            case LinkDown(interface):
                self._interfaces.on_down(interface)
            case LinkGone(interface):
                self._interfaces.on_gone(interface.index)
            case LinkRenamed(interface, old_name):
                self._interfaces.on_renamed(interface, old_name)
            case MtuChanged(interface):
                self._interfaces.on_mtu(interface)

    def _post(self, message: ToUser) -> None:
        """Send in order, but never wait for a stopped user part: the sweep must go on."""
        self._backlog.append(message)
        self._send_backlog()

    def _send_backlog(self) -> None:
        while self._backlog and self.channel.offer(self._backlog[0]):
            self._backlog.popleft()

    # --- end ---

    def _detach_all(self) -> None:
        self._interfaces.detach_all(self._still_here)

    def _still_here(self) -> None:
        """While detaching takes seconds, counters tell the user part that this part is at work."""
        if time.monotonic() > self._next_sign and self._kernel is not None:
            self._next_sign = time.monotonic() + SWEEP_S
            self.channel.offer(Counters(self._kernel.counters(), self._kernel.still_open))

    def close(self) -> None:
        """Detach and close everything. Harmless the second time."""
        self._detach_all()
        if self._loader is not None:
            self._loader.kill()
        if self._instance is not None:
            self._instance.close()
        if self._follower is not None:
            self._follower.close()
        self._finder.close()
        if self._words is not None:
            self._words.close()
