"""What a run does without, and why: capabilities, namespaces, filters of system calls, an older kernel.

Nothing here is an error: tracing goes on. But what is not said would be taken for "there was none".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tracer.linux import capabilities, kallsyms, listener_options
from tracer.linux.btf import KERNEL
from tracer.linux.capabilities import Capability
from tracer.loader import process_offsets
from tracer.loader.load import Loaded
from tracer.records.without import Lacking, Without
from tracer.vocabulary.vocabulary import Transport

LOCKDOWN = Path("/sys/kernel/security/lockdown")
KPTR_RESTRICT = Path("/proc/sys/kernel/kptr_restrict")
_HIDDEN_FROM_ALL = "2"


def without(loaded: Loaded, refused: str = "", *, hears_drops: bool = True) -> list[Without]:
    """All that a run with these programs lacks.

    `refused`: why reasons that were loaded are not heard all the same; where `hears_drops`, these are those of resets.
    """
    return [*_processes(loaded), *_reasons(loaded, refused, hears_drops)]


def _processes(loaded: Loaded) -> Iterator[Without]:
    if loaded.options.replay:
        return
    missing = capabilities.lacking_to_read_descriptors(capabilities.effective())
    if loaded.options.details:
        if not loaded.names_processes:
            yield _lacking(Lacking.PROCESSES, f"no process is named: {_why_unnamed()}")
        elif missing:
            text = "listeners, and clients outside of a system call on their socket, may go unnamed: root here lacks "
            yield _lacking(Lacking.SOCKET_OWNERS, text + ", ".join(missing), missing)
        if loaded.names_processes and not process_offsets.sees_all_pids():
            text = "only processes of this pid namespace are named, since this is not the host's (--pid=host)"
            yield _lacking(Lacking.SOCKET_OWNERS, text)
    unread = "Fast Open options, keys and queues of listeners are not read, so that causes say less:"
    if missing:
        yield _lacking(Lacking.LISTENER_OPTIONS, f"{unread} root here lacks {', '.join(missing)}", missing)
    elif not listener_options.may_be_copied():
        why = "a seccomp filter refuses pidfd_getfd(2)" if capabilities.is_filtered() else "that takes Linux 5.6"
        yield _lacking(Lacking.LISTENER_OPTIONS, f"{unread} {why}")


def _why_unnamed() -> str:
    if not KERNEL.exists():
        return f"this kernel does not describe its structures ({KERNEL})"
    try:
        if "[confidentiality]" in LOCKDOWN.read_text():
            return "kernel lockdown at confidentiality lets no program read the kernel's memory"
    except OSError:
        pass
    return "the kernel lets no program read its memory, or its structures are not those that are known"


def _reasons(loaded: Loaded, refused: str, hears_drops: bool) -> Iterator[Without]:
    if not loaded.options.kernel_reasons:
        return  # nobody asked for them
    what = "records will not say why this host dropped a segment"
    words = loaded.words
    if loaded.options.transport is Transport.PERF:
        yield _lacking(Lacking.DROP_REASONS, f"{what}: that takes the ring buffer of Linux 5.8")
    elif words is None or not words.programs:
        yield _lacking(Lacking.DROP_REASONS, f"{what}: {words.why if words is not None else 'the kernel does not say'}")
    elif not hears_drops:
        yield _lacking(Lacking.DROP_REASONS, f"{what}: {refused}")
    else:
        if refused or not words.reset_reasons:
            why = refused or "that takes Linux 6.11"
            yield _lacking(Lacking.RESET_REASONS, f"records will not say why this host sent a reset: {why}")
        if not kallsyms.is_open():
            yield _places()


def _places() -> Without:
    text = "records will not say where in the kernel a segment was dropped:"
    try:
        restrict = KPTR_RESTRICT.read_text().strip()
    except OSError:
        restrict = ""
    if restrict == _HIDDEN_FROM_ALL:
        return _lacking(Lacking.PLACES, f"{text} it hides its addresses from everybody (kernel.kptr_restrict=2)")
    if capabilities.has(capabilities.effective(), Capability.SYSLOG):
        return _lacking(Lacking.PLACES, f"{text} it hides its addresses (/proc/kallsyms)")
    name = Capability.SYSLOG.word
    return _lacking(Lacking.PLACES, f"{text} it hides its addresses, since root here lacks {name}", [name])


def _lacking(what: Lacking, text: str, missing: list[str] | None = None) -> Without:
    return Without(what.value, text, tuple(missing or ()))
