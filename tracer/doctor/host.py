"""Can this kernel, this process and this bcc trace at all?

The main check does what a start does: it compiles and loads every program, then unloads them without attaching any.
"""

from __future__ import annotations

import importlib.util
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from tracer.attach.instances import instances
from tracer.doctor.model import Finding, Level, Topic, some
from tracer.errors import CannotTraceError
from tracer.linux import capabilities
from tracer.linux.capabilities import Capability
from tracer.loader.load import Loaded, Loader, LoadOptions, default_transport, kernel_version
from tracer.loader.without import without
from tracer.records.without import Lacking
from tracer.vocabulary.own_command import sudo, tfotrace

LOCKDOWN = Path("/sys/kernel/security/lockdown")
WRITTEN_FOR = (5, 10)
NO_MEMLOCK_SINCE = (5, 11)  # from here on the control group accounts for BPF memory


def findings(root: bool) -> Iterator[Finding]:
    """All findings that concern the host, not an interface."""
    release = os.uname().release
    yield kernel(release)
    bits = capabilities.effective()
    yield privilege(root, bits)
    yield lockdown()
    yield memlock(kernel_version(release), bits)
    found = bcc()
    yield found
    if root:
        # without bcc only programs cached by an earlier run load, and the next kernel will need new ones
        yield from programs()
        yield from others_at_work()
    else:
        text = "only root can load the tracing programs to see whether the kernel accepts them"
        yield _finding("programs", Level.UNKNOWN, text, tfotrace("doctor"))


def _finding(word: str, level: Level, text: str, command: str | None = None, prevents: bool = False) -> Finding:
    return Finding(Topic.TRACING, word, level, text, command, prevents_tracing=prevents)


def kernel(release: str) -> Finding:
    """Judge the version only; programs() tries whether the programs load."""
    buffer = default_transport(release).value
    text = (
        f"Linux {release} on {os.uname().machine}; a {buffer} buffer carries the records; kernel headers are not needed"
    )
    if kernel_version(release) < WRITTEN_FOR:
        return _finding("kernel", Level.WARNING, f"{text}; tfotrace is written for Linux 5.10 and newer")
    return _finding("kernel", Level.OK, text)


def privilege(root: bool, bits: int) -> Finding:
    """Root is needed, with capabilities (`bits`) that root in a container often lacks."""
    if not root:
        text = "tracing needs root; doctor works without it and says what it could not see"
        return _finding("privilege", Level.PROBLEM, text, tfotrace("doctor"), prevents=True)
    missing = capabilities.lacking_to_trace(bits)
    if missing:
        return _finding("privilege", Level.PROBLEM, capabilities.lacks(missing), prevents=True)
    return _finding("privilege", Level.OK, "root, with the capabilities for BPF and for attaching to interfaces")


def lockdown(path: Path = LOCKDOWN) -> Finding:
    """Lockdown at "confidentiality" forbids reading kernel memory, which only the naming of processes needs."""
    try:
        found = re.search(r"\[(\w+)\]", path.read_text())
    except FileNotFoundError:
        return _finding("lockdown", Level.OK, "kernel lockdown is not there or not visible")
    except OSError as error:
        return _finding("lockdown", Level.UNKNOWN, f"kernel lockdown cannot be read: {error.strerror}")
    mode = found[1] if found else "none"
    if mode == "none":
        return _finding("lockdown", Level.OK, "kernel lockdown is off")
    text = f"kernel lockdown is at {mode}, which allows reading packets"
    if mode == "confidentiality":
        text += "; processes are not named, since that needs to read kernel memory"
    return _finding("lockdown", Level.OK, text)


def memlock(kernel_version: tuple[int, int], bits: int) -> Finding:
    """Before Linux 5.11, the limit of locked memory applies to maps."""
    if kernel_version >= NO_MEMLOCK_SINCE:
        return _finding("memlock", Level.OK, "since Linux 5.11 the limit of locked memory does not apply to BPF")
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or hard == resource.RLIM_INFINITY:
        return _finding("memlock", Level.OK, "locked memory is not limited")
    if capabilities.has(bits, Capability.SYS_RESOURCE):
        return _finding(
            "memlock", Level.OK, f"locked memory is limited to {hard} bytes; tfotrace lifts the limit for itself"
        )
    text = f"locked memory is limited to {hard} bytes, which may be too little for the maps"
    return _finding("memlock", Level.WARNING, text, "ulimit -l unlimited")


def bcc() -> Finding:
    """Look the compiler up without importing it, which would map LLVM into this process."""
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        text = "the bcc Python module is missing"
        return _finding("bcc", Level.PROBLEM, text, f"{sudo()}apt-get install python3-bpfcc", prevents=True)
    number = ""
    try:
        found = re.search(r"""__version__\s*=\s*['"]([^'"]+)""", Path(spec.origin).with_name("version.py").read_text())
        number = f" {found[1]}" if found else ""
    except OSError:
        pass
    return _finding("bcc", Level.OK, f"bcc{number} compiles the programs ({Path(spec.origin).parent})")


def programs() -> Iterator[Finding]:
    """Load every program as a start does, and unload them at once."""
    loader = Loader(LoadOptions(transport=default_transport(), kernel_reasons=True), keep=False)
    try:
        loaded = loader.result()
    except CannotTraceError as error:
        yield _finding("programs", Level.PROBLEM, str(error), prevents=True)
        return
    except BaseException:
        loader.kill()
        raise
    loaded.close()
    yield _finding("programs", Level.OK, "the kernel accepts the tracing programs (loaded and unloaded again)")
    yield from evidence(loaded)


def evidence(loaded: Loaded) -> Iterator[Finding]:
    """Say what records will tell of processes, listeners and the kernel's reasons, and what a run here lacks."""
    lacking = without(loaded)
    for one in lacking:
        yield _finding(one.what, Level.WARNING if one.capabilities else Level.INFO, one.text)
    found = {one.what for one in lacking}
    for words, text in (
        ((Lacking.PROCESSES, Lacking.SOCKET_OWNERS), "processes are named, by what the kernel says of its structures"),
        ((Lacking.LISTENER_OPTIONS,), "Fast Open options, keys and queues of listeners can be read"),
        ((Lacking.DROP_REASONS,), "the kernel says why it drops a segment"),
        ((Lacking.DROP_REASONS, Lacking.RESET_REASONS), "the kernel says why it sends a reset"),
        ((Lacking.DROP_REASONS, Lacking.PLACES), "the kernel says where it drops a segment"),
    ):
        if not found & {word.value for word in words}:
            yield _finding(words[-1].value, Level.OK, text)


def others_at_work() -> Iterator[Finding]:
    """Running instances of tfotrace, and what killed ones left behind."""
    own = instances()
    running = [str(item.pid) for item in own if item.running]
    if running:
        text = f"tfotrace is already running (process {some(running)}); several can trace at once"
        yield _finding("running", Level.INFO, text)
    left = [entry.interface for item in own if not item.running for entry in item.entries]
    if left:
        text = f"a killed run may have left programs on {some(sorted(set(left)))}; the next start also removes them"
        yield _finding("leftovers", Level.WARNING, text, tfotrace("detach"))
