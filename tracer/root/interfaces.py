"""The interfaces that a run traces: attach to them, notice what somebody takes away, attach again.

A notice names each interface that refuses our programs or from which somebody has removed them, and it is tried again
for as long as it is there. Another's program is never removed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from tracer.attach.attach import Attachment, InterfaceGoneError, Programs, attach
from tracer.attach.instances import Instance
from tracer.errors import CannotTraceError, TfotraceError, UsageError
from tracer.ipc.messages import INTERFACES_TOLD, InterfacesChanged, Notice
from tracer.ipc.traced import TracedInterface
from tracer.linux import descriptors
from tracer.linux.interfaces import Follower, Interface, all_up, by_index, find_members
from tracer.records.interface_sums import InterfaceSums
from tracer.root.kernel import Kernel
from tracer.root.request import RootRequest

ANY = "any"
MANY = 128  # interfaces: TCX links on so many take the kernel three seconds at each end of a run (attach.py)
CHECK_S = 0.005  # of each sweep's time, for looking whether programs are still there
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
_NOTICES_AT_ONCE = 10  # of interfaces that cannot be attached to; the rest are counted in one
_FIRST_GROUP = 1 << 24  # group numbers of single interfaces are their indexes


@dataclass(slots=True)
class _Missing:
    """An interface that should be traced and is not. Times are of time.monotonic()."""

    interface: Interface
    due: float
    delay_s: float
    told: str  # why, as it was told last; empty: only that programs were removed
    removed: bool = False  # it was traced


@dataclass(slots=True)
class _Traced:
    attachment: Attachment
    interface: Interface
    since: float
    retry_s: float = 0.0  # how long to wait should somebody remove the programs soon


class Interfaces:
    """All of them, by index. `news` takes each notice; take_changes() has what the user part must be told."""

    def __init__(self, request: RootRequest, news: Callable[[Notice], None]) -> None:
        self._request = request
        self._news = news
        self._any = request.interfaces == (ANY,)
        self._wanted: list[Interface] = []
        self._groups: dict[int, int] = {}  # by interface index, where several are one group
        self._asked: dict[int, str] = {}  # the names of those that were named, by index
        self._lost: dict[str, int | None] = {}  # groups of those named that have gone, by name
        self._traced: dict[int, _Traced] = {}
        self._missing: dict[int, _Missing] = {}
        self._down: set[int] = set()
        self._to_check: deque[int] = deque()
        self._changed: set[int] = set()
        self._counts = dict.fromkeys(("traced", "gone", "removed", "attached_again"), 0)
        self._kernel: Kernel | None = None
        self._programs: Programs | None = None
        self._instance: Instance | None = None
        self._follower: Follower | None = None

    # --- beginning ---

    def find(self) -> None:
        """Find those that were asked for. Raises UsageError, and CannotTraceError if none is up."""
        if self._any:
            self._wanted = [interface for interface in all_up() if self._misfit(interface) is None]
            if not self._wanted:
                raise CannotTraceError("no interface is up here")
            return
        for number, word in enumerate(self._request.interfaces):
            members = find_members(word)
            for interface in members:
                self._admit(interface)
                if len(members) > 1:
                    self._groups[interface.index] = _FIRST_GROUP + number

    def _admit(self, interface: Interface) -> None:
        name = interface.name
        if not interface.up:
            raise UsageError(f"{name} is down: bring it up (ip link set {name} up) or name another interface")
        misfit = self._misfit(interface)
        if misfit is not None:
            raise UsageError(misfit)
        if any(interface.index == other.index for other in self._wanted):
            raise UsageError(f"{name} is named twice: name each interface once")
        self._wanted.append(interface)
        self._asked[interface.index] = name

    def _misfit(self, interface: Interface) -> str | None:
        """A sentence on why --filter cannot apply to an interface; None if it can."""
        wanted = self._request.load.filter
        if wanted is None or wanted.without_link is not None or interface.has_ethernet_header:
            return None
        return f"--filter cannot apply to {interface.name}, which has no Ethernet header: {wanted.why_not}"

    def attach_all(
        self, kernel: Kernel, instance: Instance, follower: Follower, may_go_on: Callable[[], bool]
    ) -> list[Notice]:
        """Attach to those that were found, all off as yet, as long as `may_go_on`. Returns news of what failed.

        Raises:
            CannotTraceError: one of those named refuses, or with `any` all do.
        """
        self._kernel, self._instance, self._follower = kernel, instance, follower
        fds = kernel.loaded.programs
        self._programs = Programs(fds["tc_ingress"], fds["tc_egress"], fds.get("xdp_ingress"))
        failures: list[Notice] = []
        for interface in self._wanted:
            if not may_go_on():
                break
            try:
                self._attach(interface, one_of_many=len(self._wanted) > MANY)
            except InterfaceGoneError:
                if not self._any:
                    raise
            except TfotraceError as error:
                if not self._any:
                    raise
                self._miss(interface, str(error))
                failures.append(Notice("interface_not_traced", str(error), interface.name))
        if self._traced or not may_go_on():
            return _few(failures)
        if failures:
            raise CannotTraceError(failures[0].text)
        raise CannotTraceError("every interface vanished before it could be attached to")

    def switch_on_all(self) -> list[Notice]:
        """Trace from now on, all at once: a handshake is seen from both sides or not at all. Returns news."""
        failures = []
        for one in list(self._traced.values()):
            failure = self._switch_on(one.interface)
            if failure is not None:
                failures.append(failure)
        self._changed.clear()  # Ready has them all
        return _few(failures)

    def _attach(self, interface: Interface, *, one_of_many: bool, retry_s: float = 0.0) -> None:
        assert self._programs is not None
        if descriptors.are_scarce():
            raise CannotTraceError(
                f"cannot attach to {interface.name}: too few file descriptors are left, and links take two for each "
                "interface; raise the limit (ulimit -n, LimitNOFILE=)"
            )
        made = attach(interface, self._programs, self._request.hook, self._instance, one_of_many=one_of_many)
        self._traced[interface.index] = _Traced(made, interface, time.monotonic(), retry_s)

    def _switch_on(self, interface: Interface) -> Notice | None:
        """Trace it; if the kernel has no room for it, take the programs off again and return news of that."""
        assert self._kernel is not None
        index = interface.index
        group = self._groups.get(index, index)
        try:
            self._kernel.trace_interface(index, group, interface.has_ethernet_header)
        except OSError as error:
            with suppress(TfotraceError):
                self._traced.pop(index).attachment.detach()
            text = f"{interface.name} cannot be traced: the table of interfaces has no room for it ({error.strerror})"
            self._miss(interface, text)
            return Notice("interface_not_traced", text, interface.name)
        missing = self._missing.get(index)
        self._counts["traced"] += missing is None or not missing.removed
        self._changed.add(index)
        return None

    # --- what the user part is told ---

    def __len__(self) -> int:
        return len(self._traced)

    @property
    def is_over(self) -> bool:
        """Is nothing left of what was named? With `any` others may come."""
        return not self._any and not self._traced and not self._missing

    @property
    def sums(self) -> InterfaceSums:
        return InterfaceSums(**self._counts, not_traced=len(self._missing))

    def in_parts(self) -> list[list[TracedInterface]]:
        """Those that are traced, in lists that fit into a message each; at least one list."""
        whole = [self._described(index) for index in self._traced]
        return [whole[at : at + INTERFACES_TOLD] for at in range(0, len(whole), INTERFACES_TOLD)] or [[]]

    def tell_changes(self, offer: Callable[[InterfacesChanged], bool]) -> None:
        """Offer what changed; what is not taken is offered again at the next call."""
        while self._changed:
            part = sorted(self._changed)[:INTERFACES_TOLD]
            there = [self._described(index) for index in part if index in self._traced]
            if not offer(InterfacesChanged(there, [index for index in part if index not in self._traced])):
                return
            self._changed.difference_update(part)

    def _described(self, index: int) -> TracedInterface:
        one = self._traced[index].attachment
        return TracedInterface(
            index, one.name, one.hook.value, one.why, list(one.others), list(one.warnings),
            self._groups.get(index, index), mtu=self._mtu(index), named=not self._any,
        )  # fmt: skip

    def _mtu(self, index: int) -> int:
        """0 where it is not known which interface of a group a segment has passed."""
        known = self._follower.interfaces.get(index) if self._follower is not None else None
        return known.mtu if known is not None and index not in self._groups else 0

    # --- changes ---

    def on_up(self, interface: Interface) -> None:
        """It came up, or appeared and is up."""
        index = interface.index
        if index in self._traced:
            if index in self._down:
                self._down.discard(index)
                self._tell("interface_up", f"{interface.name} is up again", interface.name)
            return
        if index in self._missing:
            self._missing[index].due = 0.0
            self._down.discard(index)
            return
        came_back = interface.name in self._lost
        if not (self._any or came_back) or interface.untraceable is not None:
            return
        if came_back:
            group = self._lost.pop(interface.name)
            self._asked[index] = interface.name
            if group is not None:
                self._groups[index] = group
        misfit = self._misfit(interface)
        if misfit is not None:
            self._tell("interface_not_traced", misfit, interface.name)
        elif self._try(interface):
            what = "has come back" if came_back else "has appeared"
            self._tell("interface_added", f"{interface.name} {what} and is traced", interface.name)

    def on_down(self, interface: Interface) -> None:
        """It went down and is still there."""
        if interface.index in self._traced and interface.index not in self._down:
            self._down.add(interface.index)
            self._tell("interface_down", f"{interface.name} is down", interface.name)

    def on_gone(self, index: int) -> None:
        """It was deleted, or moved to another namespace."""
        missing = self._missing.pop(index, None)
        name = self._release(index) or (missing.interface.name if missing is not None else None)
        self._down.discard(index)
        asked, group = self._asked.pop(index, None), self._groups.pop(index, None)
        if asked is not None:
            self._lost[asked] = group
        if name is None:
            return  # it went away while it was being attached to, or is none of ours
        self._counts["gone"] += 1
        self._tell("interface_gone", f"{name} has gone", name)

    def on_renamed(self, interface: Interface, old_name: str) -> None:
        """It has a new name."""
        traced, missing = self._traced.get(interface.index), self._missing.get(interface.index)
        if missing is not None:
            missing.interface = interface
        if traced is None:
            return
        traced.attachment.name, traced.interface = interface.name, interface
        self._tell("interface_renamed", f"{old_name} is now {interface.name}", interface.name)
        self._changed.add(interface.index)

    def on_mtu(self, interface: Interface) -> None:
        """It has another MTU."""
        if interface.index in self._traced:
            self._changed.add(interface.index)

    def _release(self, index: int) -> str | None:
        """Trace it no longer; returns its name, None if it was not traced."""
        traced = self._traced.pop(index, None)
        if traced is None:
            return None
        assert self._kernel is not None
        self._kernel.ignore_interface(index)
        with suppress(TfotraceError):
            traced.attachment.detach()
        self._changed.add(index)
        return traced.attachment.name

    # --- what was taken away, and what could not be attached ---

    def check(self) -> None:
        """Look whether programs are still there: at all of few interfaces, at some of many, in turn. Then try again."""
        until = time.monotonic() + CHECK_S
        for _ in range(len(self._traced)):
            if not self._to_check:
                self._to_check.extend(self._traced)
            traced = self._traced.get(index := self._to_check.popleft())
            if traced is not None and not _is_intact(traced.attachment):
                self._on_removed(index, traced)
            if time.monotonic() > until:
                break
        for index in self._due():
            self._try_again(index)
            if time.monotonic() > until:
                break

    def _on_removed(self, index: int, traced: _Traced) -> None:
        interface = by_index(index)
        if interface is None:  # its event is still to come
            self.on_gone(index)
            return
        name = self._release(index)
        now = time.monotonic()
        # at once, but slower and slower against somebody who removes them again and again
        delay_s = traced.retry_s if now - traced.since < LAST_RETRY_S else 0.0
        self._missing[index] = _Missing(interface, now + delay_s, delay_s, "", removed=True)
        self._counts["removed"] += 1
        self._tell("detached", f"somebody has removed tfotrace's programs from {name}, which is not traced now", name)

    def _due(self) -> Iterator[int]:
        now = time.monotonic()
        return iter([index for index, one in self._missing.items() if one.due <= now])

    def _try_again(self, index: int) -> None:
        missing = self._missing[index]
        interface = by_index(index)
        if interface is None:
            self.on_gone(index)
            return
        if not self._try(interface, _longer(missing.delay_s)):
            return
        hook = self._traced[index].attachment.hook.value
        if missing.removed:
            self._counts["attached_again"] += 1
            self._tell("attached_again", f"{interface.name} is traced again (by {hook})", interface.name)
        else:
            self._tell("interface_added", f"{interface.name} can be traced now (by {hook})", interface.name)

    def _try(self, interface: Interface, retry_s: float = 0.0) -> bool:
        """Attach and switch on; if that fails, say why, unless it is known, and try again later."""
        try:
            self._attach(interface, one_of_many=len(self._traced) >= MANY, retry_s=retry_s)
        except InterfaceGoneError:
            return False
        except TfotraceError as error:
            told = self._missing.get(interface.index)
            if told is None or told.told != str(error):
                self._tell("interface_not_traced", str(error), interface.name)
            self._miss(interface, str(error))
            return False
        told = self._missing.get(interface.index)
        failure = self._switch_on(interface)
        if failure is None:
            self._missing.pop(interface.index, None)
            return True
        if told is None or told.told != failure.text:
            self._news(failure)
        return False

    def _miss(self, interface: Interface, why: str) -> None:
        """It could not be attached to: try again, less and less often."""
        before = self._missing.get(interface.index)
        delay_s = _longer(before.delay_s if before is not None else 0.0)
        removed = before is not None and before.removed
        self._missing[interface.index] = _Missing(interface, time.monotonic() + delay_s, delay_s, why, removed)

    def _tell(self, kind: str, text: str, interface: str | None) -> None:
        self._news(Notice(kind, text, interface))

    # --- end ---

    def detach_all(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Take off all programs. It may take seconds; `meanwhile` is called after each interface."""
        traced, self._traced = self._traced, {}
        if self._kernel is not None:
            # first of all: detaching takes a while, and handshakes seen by half would be judged wrongly
            for index in traced:
                self._kernel.ignore_interface(index)
        for one in traced.values():
            try:
                one.attachment.detach()
            except TfotraceError as error:  # one failure must not stop the rest
                self._tell("not_detached", str(error), one.attachment.name)
            meanwhile()


def _longer(delay_s: float) -> float:
    return min(LAST_RETRY_S, max(FIRST_RETRY_S, 2 * delay_s))


def _is_intact(attachment: Attachment) -> bool:
    try:
        return attachment.is_intact()
    except OSError:  # the kernel did not say: ask again in the next round
        return True


def _few(failures: list[Notice]) -> list[Notice]:
    """A notice for each of the first, and one for the others."""
    rest = failures[_NOTICES_AT_ONCE:]
    if len(rest) < 2:
        return failures
    text = f"{len(rest):,} more interfaces cannot be traced, {rest[0].interface} and {rest[-1].interface} among them"
    return [*failures[:_NOTICES_AT_ONCE], Notice("interface_not_traced", text)]
