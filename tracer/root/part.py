"""The part that needs root: load, attach, sweep, count, detach. It is small, and ends with the user part.

It runs in a forked child and talks over one Channel, whose end tells it to leave. It alone holds the descriptors of
programs, links and writable maps; the user part gets the rings.
"""

from __future__ import annotations

import select
import signal
import time
from collections import deque
from contextlib import suppress
from types import FrameType

from tracer.attach.attach import Attachment, InterfaceGoneError, Programs, attach
from tracer.attach.instances import Instance, remove_leftovers
from tracer.errors import CannotTraceError, ExitCode, TfotraceError, UsageError
from tracer.ipc.messages import (
    Addresses,
    Channel,
    Counters,
    Ended,
    HostQuestion,
    InterfacesNow,
    Notice,
    OpenAnswer,
    OpenQuestion,
    OwnerQuestion,
    PlaceQuestion,
    Ready,
    ToUser,
)
from tracer.ipc.traced import TracedInterface
from tracer.linux import allocator, netns
from tracer.linux.interfaces import (
    AddressesChanged,
    Change,
    Follower,
    Interface,
    LinkDown,
    LinkGone,
    LinkRenamed,
    LinkUp,
    MtuChanged,
    all_up,
    by_index,
    find_members,
    local_addresses,
)
from tracer.linux.patience import FACTOR
from tracer.loader.load import PAGE_SIZE, Loaded, Loader
from tracer.ring import perfbuf
from tracer.root.kernel import Kernel
from tracer.root.kernel_words import KernelWords
from tracer.root.request import RootRequest
from tracer.root.socket_owners import OwnerFinder
from tracer.root.startup import await_loaded, end_by_signals, reporting
from tracer.root.witness import Witness
from tracer.vocabulary.vocabulary import Transport

SWEEP_S = 0.25
BACKLOG_MAX = 1000  # messages to keep for a stopped user part
HOST_S = 1.0
LAST_ANSWERS_S = 2.0 * FACTOR
ADDRESSES_AGAIN_S = 10.0  # local routes may change without an event
ANY = "any"
_FIRST_GROUP = 1 << 24  # group numbers of single interfaces are their indexes


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
        self._groups: dict[int, int] = {}  # by interface index, where several are one group
        self._attached: dict[int, Attachment] = {}
        self._down: set[int] = set()
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
        wanted = self._find_interfaces()  # while it compiles, to report a typo at once
        self._follower = Follower()
        self._instance = Instance()
        removed = remove_leftovers()
        loaded = self._loaded()
        self._kernel = Kernel(loaded)
        self._kernel.configure(self.options.response_timeout_s)
        self._words = KernelWords(loaded)
        rings = self._open_rings()
        for interface in wanted:
            self._attach(interface)
        before = self._witness.host()  # the counters before the first handshake
        # now, all at once: a handshake is seen from both sides or not at all
        for interface in wanted:
            self._switch_on(interface)
        if not self._attached:
            raise CannotTraceError("every interface vanished before it could be attached to")
        load = self.options.load
        self.channel.send(
            Ready(
                self._traced(), load.transport, load.event_ring_bytes, load.payload_ring_bytes,
                load.table_size, load.packet_ring_bytes if load.packets else 0,
                self._words.evidence, self._words.without(),
            ),
            rings,
        )  # fmt: skip
        self._send_addresses()
        self._post(before)
        for text in removed:
            self._post(Notice("leftover_removed", text))
        if self._instance.warning is not None:
            self._post(Notice("no_instance_file", self._instance.warning))

    def _find_interfaces(self) -> list[Interface]:
        if self.options.interfaces == (ANY,):
            found = [interface for interface in all_up() if self._misfit(interface) is None]
            if not found:
                raise CannotTraceError("no interface is up here")
            return found
        found = []
        for number, word in enumerate(self.options.interfaces):
            members = find_members(word)
            for interface in members:
                name = interface.name
                if not interface.up:
                    raise UsageError(f"{name} is down: bring it up (ip link set {name} up) or name another interface")
                misfit = self._misfit(interface)
                if misfit is not None:
                    raise UsageError(misfit)
                if any(interface.index == other.index for other in found):
                    raise UsageError(f"{name} is named twice: name each interface once")
                found.append(interface)
                if len(members) > 1:
                    self._groups[interface.index] = _FIRST_GROUP + number
        return found

    def _misfit(self, interface: Interface) -> str | None:
        """A sentence on why --filter cannot apply to an interface; None if it can."""
        wanted = self.options.load.filter
        if wanted is None or wanted.without_link is not None or interface.has_ethernet_header:
            return None
        return f"--filter cannot apply to {interface.name}, which has no Ethernet header: {wanted.why_not}"

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

    def _attach(self, interface: Interface) -> None:
        assert self._kernel is not None
        fds = self._kernel.loaded.programs
        programs = Programs(fds["tc_ingress"], fds["tc_egress"], fds.get("xdp_ingress"))
        try:
            self._attached[interface.index] = attach(interface, programs, self.options.hook, self._instance)
        except InterfaceGoneError:
            if self.options.interfaces != (ANY,):
                raise

    def _switch_on(self, interface: Interface) -> None:
        assert self._kernel is not None
        if interface.index in self._attached:
            group = self._groups.get(interface.index, interface.index)
            self._kernel.trace_interface(interface.index, group, interface.has_ethernet_header)

    def _traced(self) -> list[TracedInterface]:
        return [
            TracedInterface(
                index, one.name, one.hook.value, one.why, list(one.others), list(one.warnings),
                self._groups.get(index, index), mtu=self._mtu(index),
            )
            for index, one in self._attached.items()
        ]  # fmt: skip

    def _mtu(self, index: int) -> int:
        """0 where it is not known which interface of a group a segment has passed."""
        known = self._follower.interfaces.get(index) if self._follower is not None else None
        return known.mtu if known is not None and index not in self._groups else 0

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
            waits = (part.wait_s() for part in (self._finder, self._witness, self._words))
            wait_s = max(0.0, min(next_sweep - time.monotonic(), *waits))
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
                for change in self._follower.read():
                    self._on_change(change)
            now = time.monotonic()
            if now >= next_sweep:
                next_sweep = now + SWEEP_S
                self._kernel.sweep()
                self._check_attachments()
                self._send_backlog()
                # dropped if the user part does not read: the next ones say more
                counters = self._kernel.counters()
                self._words.relieve(counters["drops_skipped"], now)
                self.channel.offer(Counters(counters, self._kernel.still_open))
            if now >= next_host:
                next_host = now + HOST_S
                self.channel.offer(self._witness.host())
            if now >= next_addresses:
                next_addresses = now + ADDRESSES_AGAIN_S
                self._send_addresses()
                allocator.give_back()
            if not self._attached and self.options.interfaces != (ANY,):
                self.asked_to_end = "the last traced interface has gone"
        self._end()

    def _end(self) -> None:
        assert self._kernel is not None
        self._detach_all()
        self._kernel.flush(self._user_part_is_there)
        self.channel.offer(self._finder.last_word())
        code = ExitCode.ENDED_EARLY if self.asked_to_end else ExitCode.OK
        for message in self._backlog:
            self.channel.send(message)
        self.channel.send(Ended(self._kernel.counters(), self._kernel.still_open, self.asked_to_end, int(code)))
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

    def _user_part_is_there(self) -> bool:
        poll = select.poll()
        poll.register(self.channel.fileno(), 0)  # poll always reports errors and hang-ups
        return not poll.poll(0)

    def _on_change(self, change: Change) -> None:
        match change:
            case AddressesChanged():
                self._send_addresses()
            case LinkUp(interface):
                self._on_up(interface)
            case LinkDown(interface):
                if interface.index in self._attached and interface.index not in self._down:
                    self._down.add(interface.index)
                    self._notice("interface_down", f"{interface.name} is down", interface.name)
            case LinkGone(interface):
                self._forget(interface.index, "interface_gone", f"{interface.name} has gone")
            case LinkRenamed(interface, old_name):
                self._on_renamed(interface, old_name)
            case MtuChanged(interface):
                if interface.index in self._attached:
                    self._post(InterfacesNow(self._traced()))

    def _on_up(self, interface: Interface) -> None:
        if interface.index in self._attached:
            if interface.index in self._down:
                self._down.discard(interface.index)
                self._notice("interface_up", f"{interface.name} is up again", interface.name)
            return
        if self.options.interfaces != (ANY,) or interface.untraceable is not None:
            return
        misfit = self._misfit(interface)
        if misfit is not None:
            self._notice("interface_not_traced", misfit, interface.name)
            return
        try:
            self._attach(interface)
        except TfotraceError as error:
            self._notice("interface_not_traced", str(error), interface.name)
            return
        if interface.index in self._attached:
            self._switch_on(interface)
            self._notice("interface_added", f"{interface.name} has appeared and is traced", interface.name)
            self._post(InterfacesNow(self._traced()))

    def _on_renamed(self, interface: Interface, old_name: str) -> None:
        if interface.index not in self._attached:
            return
        self._attached[interface.index].name = interface.name
        self._notice("interface_renamed", f"{old_name} is now {interface.name}", interface.name)
        self._post(InterfacesNow(self._traced()))

    def _forget(self, index: int, kind: str, text: str) -> None:
        attachment = self._attached.pop(index, None)
        if attachment is None:
            return
        assert self._kernel is not None
        self._kernel.ignore_interface(index)
        with suppress(TfotraceError):
            attachment.detach()
        self._down.discard(index)
        self._notice(kind, text, attachment.name)
        self._post(InterfacesNow(self._traced()))

    def _check_attachments(self) -> None:
        for index, attachment in list(self._attached.items()):
            if not attachment.is_intact():
                name = attachment.name
                if by_index(index) is None:  # its event is still to come
                    self._forget(index, "interface_gone", f"{name} has gone")
                else:
                    self._forget(index, "detached", f"somebody has removed tfotrace's programs from {name}")

    def _notice(self, kind: str, text: str, interface: str | None = None) -> None:
        self._post(Notice(kind, text, interface))

    def _post(self, message: ToUser) -> None:
        """Send in order, but never wait for a stopped user part: the sweep must go on."""
        self._backlog.append(message)
        self._send_backlog()

    def _send_backlog(self) -> None:
        while self._backlog and self.channel.offer(self._backlog[0]):
            self._backlog.popleft()

    # --- end ---

    def _detach_all(self) -> None:
        attached, self._attached = self._attached, {}
        if self._kernel is not None:
            # first of all: detaching takes a while, and handshakes seen by half would be judged wrongly
            for index in attached:
                self._kernel.ignore_interface(index)
        for attachment in attached.values():
            try:
                attachment.detach()
            except TfotraceError as error:  # noqa: PERF203 - one failure must not stop the rest
                self._notice("not_detached", str(error), attachment.name)

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
