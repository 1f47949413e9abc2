"""Put our programs on an interface, ahead of all others, and later take off exactly them.

DESIGN.md section 6 says which hook. `auto` means tc, because native XDP costs other traffic its offloads and resets the
link with many drivers. Call attach and detach in the interface's network namespace.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tracer.attach import others as survey
from tracer.attach import tcx
from tracer.attach.clsact import ClsactFilter, FilterKey, NoEgressSideError
from tracer.attach.instances import Instance
from tracer.attach.tcx import TcxLink
from tracer.attach.xdp import XdpAttachment, XdpKey, XdpTakenError
from tracer.errors import CannotTraceError
from tracer.linux import bpfsys, capabilities
from tracer.linux.interfaces import Interface
from tracer.vocabulary.vocabulary import Hook, HookChoice

__all__ = ["Attachment", "Hook", "HookChoice", "InterfaceGoneError", "Programs", "attach"]


class InterfaceGoneError(CannotTraceError):
    """The interface vanished while it was being attached to."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Descriptors of the loaded programs: two of type SCHED_CLS and, if loaded, one of type XDP."""

    tc_ingress: int
    tc_egress: int
    xdp_ingress: int | None = None
    loaded_ns: dict[int, int] = field(init=False, repr=False, compare=False)  # when each was loaded, by its id

    def __post_init__(self) -> None:
        fds = (self.tc_ingress, self.tc_egress, self.xdp_ingress)
        found = [bpfsys.program_info(fd) for fd in fds if fd is not None]
        object.__setattr__(self, "loaded_ns", {info.id: info.loaded_ns for info in found})


class _Piece(Protocol):
    def is_intact(self) -> bool: ...
    def detach(self) -> None: ...


@dataclass(slots=True)
class Attachment:
    """Our programs on one interface.

    `why` is one sentence for the `start` record. `others` are the other programs on the interface, `warnings` sentences
    about those that may end the chain before us, both as of attaching.
    """

    ifindex: int
    name: str
    hook: Hook
    why: str
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    own_ids: frozenset[int] = frozenset()
    _pieces: list[_Piece] = field(default_factory=list)
    _instance: Instance | None = None
    _keys: list[FilterKey | XdpKey] = field(default_factory=list)

    def look_again(self) -> None:
        """Update `others` and `warnings`: programs may come later."""
        found = survey.occupants(self.ifindex)
        self.others = survey.others(found, self.own_ids)
        self.warnings = tuple(
            f"{words} runs before tfotrace on {self.name}; what it drops, redirects or accepts is not traced"
            for words in survey.before_us(found, self.own_ids)
        )

    def is_intact(self) -> bool:
        """False once any of our programs was taken off (the interface is gone, somebody deleted the qdisc)."""
        return bool(self._pieces) and all(piece.is_intact() for piece in self._pieces)

    def detach(self) -> None:
        """Take off our programs and nothing else. Harmless the second time, and if the interface is gone."""
        pieces, self._pieces = self._pieces, []
        failure = _detach_all(pieces)
        if failure is not None:
            # entries stay in the instance's file, where `tfotrace detach` finds them
            raise CannotTraceError(
                f"could not remove every program from {self.name} ({failure.strerror}); "
                "run `tfotrace detach` when this run has ended"
            ) from failure
        keys, self._keys = self._keys, []
        if self._instance is not None:
            self._instance.forget(keys)


def _detach_all(pieces: Iterable[_Piece]) -> OSError | None:
    """Detach every piece; returns the last failure, if any."""
    failure = None
    for piece in pieces:
        try:
            piece.detach()
        except OSError as error:  # noqa: PERF203 - one failure must not stop the rest
            failure = error
    return failure


def attach(
    interface: Interface,
    programs: Programs,
    choice: HookChoice,
    instance: Instance | None = None,
    *,
    one_of_many: bool = False,
) -> Attachment:
    """Attach to `interface` as `choice` says, or as close to it as possible without touching programs of others.

    Each packet passes both hooks of loopback, so only one side is traced there: with tc egress, where a packet still
    belongs to its socket, with XDP ingress. `one_of_many`: so many interfaces are traced that `auto` must not wait
    for TCX links, each of which takes the kernel some 10 ms to make and to remove (tcx_entry_sync() in
    include/net/tcx.h waits for a grace period of RCU). Raises InterfaceGoneError and CannotTraceError.
    """
    if interface.untraceable is not None:
        raise CannotTraceError(interface.untraceable)
    builder = _Builder(interface, programs, instance)
    try:
        hook, why = builder.build(choice, one_of_many)
        attachment = builder.finish(hook, why)
        attachment.look_again()
    except BaseException as error:
        builder.undo()
        if isinstance(error, OSError):
            raise _explain(interface, error) from error
        raise
    return attachment


def _explain(interface: Interface, error: OSError) -> CannotTraceError:
    if error.errno == errno.ENODEV:
        return InterfaceGoneError(f"{interface.name} went away while tfotrace was attaching to it")
    if error.errno in (errno.EPERM, errno.EACCES):
        missing = capabilities.lacking_to_trace(capabilities.effective())
        why = capabilities.lacks(missing) if missing else "run tfotrace as root (with sudo)"
        return CannotTraceError(f"not permitted to attach to {interface.name}: {why}")
    return CannotTraceError(f"could not attach to {interface.name}: {error.strerror}")


class _XdpRefusedError(Exception):
    """XDP is not possible here: why, as a clause. `taken`: another program has the place."""

    def __init__(self, reason: str, taken: bool = False) -> None:
        super().__init__(reason)
        self.taken = taken


class _Builder:
    """Collects what one attach() makes, so that a failure half-way can undo it."""

    def __init__(self, interface: Interface, programs: Programs, instance: Instance | None) -> None:
        self._interface = interface
        self._programs = programs
        self._instance = instance
        self._pieces: list[_Piece] = []
        self._announced: list[FilterKey | XdpKey] = []
        self._name = instance.filter_name if instance is not None else survey.OWN_NAME + "unregistered"
        self._loaded_ns = programs.loaded_ns
        self._sides = [(True, programs.tc_egress)]  # (egress?, program) of tc
        if not interface.is_loopback:
            self._sides.insert(0, (False, programs.tc_ingress))

    def build(self, choice: HookChoice, one_of_many: bool) -> tuple[Hook, str]:
        if choice in (HookChoice.XDP, HookChoice.XDP_NATIVE, HookChoice.XDP_GENERIC):
            return self._xdp_or_tc(choice)
        if choice is HookChoice.CLSACT:
            self._clsact_filters(self._sides)
            return Hook.CLSACT, self._sentence("tc by clsact filters, as asked for")
        if choice is HookChoice.AUTO and one_of_many and self._may_be_clsact():
            return Hook.CLSACT, self._sentence(
                "tc, the default; clsact filters at priority 1, because TCX links (Linux 6.6 has them) on so many "
                "interfaces would take minutes (--hook tc makes them)"
            )
        hook, what = self._tc(self._sides)
        reason = "tc by choice" if choice is HookChoice.TC else "tc, the default, since it costs other traffic nothing"
        return hook, self._sentence(f"{reason}; {what}")

    def finish(self, hook: Hook, why: str) -> Attachment:
        kept = [p.key for p in self._pieces if isinstance(p, (ClsactFilter, XdpAttachment)) and p.key is not None]
        if self._instance is not None:
            self._instance.forget([key for key in self._announced if key not in kept])
        return Attachment(
            ifindex=self._interface.index,
            name=self._interface.name,
            hook=hook,
            why=why,
            own_ids=frozenset(self._loaded_ns),
            _pieces=self._pieces,
            _instance=self._instance,
            _keys=list(kept),
        )

    def undo(self) -> None:
        pieces, self._pieces = self._pieces, []
        if _detach_all(pieces) is not None:
            return  # the entries stay in the instance's file
        if self._instance is not None:
            self._instance.forget(self._announced)

    # --- tc ---

    def _tc(self, sides: list[tuple[bool, int]]) -> tuple[Hook, str]:
        before = len(self._pieces)
        try:
            for egress, prog_fd in sides:
                self._pieces.append(TcxLink(self._interface.index, egress, prog_fd))
        except OSError as error:
            if error.errno not in tcx.NOT_HERE:
                raise
            self._detach_down_to(before)  # a link on one side and a filter on the other would be two hooks
            self._clsact_filters(sides)
            return Hook.CLSACT, "clsact filters at priority 1, because this kernel has no TCX links (Linux 6.6 has)"
        return Hook.TCX, "TCX links, ahead of other programs"

    def _may_be_clsact(self) -> bool:
        """Attach clsact filters, unless TCX programs of others would run before them; False if it cannot be."""
        if survey.has_tcx(self._interface.index):
            return False
        try:
            self._clsact_filters(self._sides)
        except (CannotTraceError, OSError):  # an ingress qdisc is there, say, which TCX does not mind
            self._detach_down_to(0)
            return False
        return True

    def _detach_down_to(self, count: int) -> None:
        """Detach the latest pieces. One that stays is undo()'s, and keeps its line in the instance's file."""
        while len(self._pieces) > count:
            self._pieces[-1].detach()
            self._pieces.pop()

    def _clsact_filters(self, sides: list[tuple[bool, int]]) -> None:
        for side in sides:
            self._clsact(*side)

    def _clsact(self, egress: bool, prog_fd: int) -> None:
        try:
            piece = ClsactFilter(self._interface.index, egress, prog_fd, self._name, self._announce)
        except NoEgressSideError:
            name = self._interface.name
            raise CannotTraceError(
                f'{name} has an "ingress" qdisc where clsact would go, and this kernel has no TCX links; '
                f"if nothing needs it, remove it: tc qdisc del dev {name} ingress"
            ) from None
        self._pieces.append(piece)

    def _announce(self, key: FilterKey | XdpKey) -> None:
        self._announced.append(key)
        if self._instance is not None:
            self._instance.record(key, self._interface.name, self._loaded_ns[key.program_id])

    # --- XDP ---

    def _xdp_or_tc(self, choice: HookChoice) -> tuple[Hook, str]:
        try:
            hook, why = self._xdp(choice)
        except _XdpRefusedError as refusal:
            hook, what = self._tc(self._sides)
            return hook, self._sentence(f"tc instead of {choice.value}, because {refusal}; {what}")
        if self._interface.is_loopback:
            return hook, self._sentence(why)
        self._tc(self._sides[1:])
        return hook, f"{why}; egress by tc"

    def _xdp(self, choice: HookChoice) -> tuple[Hook, str]:
        """Attach at ingress; returns the hook and why. Raises _XdpRefusedError."""
        prog_fd = self._programs.xdp_ingress
        if prog_fd is None:
            raise _XdpRefusedError("no XDP program could be loaded")
        if choice is HookChoice.XDP_GENERIC:
            self._xdp_at(prog_fd, bpfsys.XDP_FLAGS_SKB_MODE)
            return Hook.XDP_GENERIC, "generic XDP, as asked for"
        try:
            self._xdp_at(prog_fd, bpfsys.XDP_FLAGS_DRV_MODE)
            return Hook.XDP_NATIVE, "XDP in the driver, as asked for"
        except _XdpRefusedError as refusal:
            if choice is HookChoice.XDP_NATIVE or refusal.taken:
                raise
            self._xdp_at(prog_fd, bpfsys.XDP_FLAGS_SKB_MODE)
            return Hook.XDP_GENERIC, f"generic XDP, because {refusal}"

    def _xdp_at(self, prog_fd: int, flags: int) -> None:
        try:
            piece = XdpAttachment(self._interface.index, prog_fd, flags, self._announce)
        except XdpTakenError:
            raise _XdpRefusedError(f"{self._xdp_owner()} is there already", taken=True) from None
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.EPERM, errno.EACCES):
                raise
            where = "the driver" if flags == bpfsys.XDP_FLAGS_DRV_MODE else "generic XDP"
            raise _XdpRefusedError(f"{where} does not take it ({error.strerror})") from error
        self._pieces.append(piece)

    def _xdp_owner(self) -> str:
        words = (item.words for item in survey.occupants(self._interface.index) if item.words.startswith("XDP"))
        return next(words, "another XDP program")

    def _sentence(self, text: str) -> str:
        if self._interface.is_loopback:
            text += "; on loopback at one side only, so that each packet is seen once"
        return text
