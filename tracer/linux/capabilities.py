"""Which capabilities this process has (capabilities(7)), and what else keeps it from BPF."""

from __future__ import annotations

import os
from enum import IntEnum
from pathlib import Path

from tracer.linux import bpfsys

STATUS = Path("/proc/self/status")
_FIRST_USER_NAMESPACE = 0xEFFFFFFD  # inode; include/linux/proc_ns.h, PROC_USER_INIT_INO


class Capability(IntEnum):
    """Bits of include/uapi/linux/capability.h, as far as this program asks for them."""

    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    SETGID = 6
    SETUID = 7
    NET_ADMIN = 12
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    SYS_RESOURCE = 24
    SYSLOG = 34
    PERFMON = 38
    BPF = 39

    @property
    def word(self) -> str:
        """As people write it."""
        return f"CAP_{self.name}"


# any of these is enough: what BPF and PERFMON give was SYS_ADMIN's before Linux 5.8
_TO_LOAD = (
    (Capability.BPF, Capability.SYS_ADMIN),
    (Capability.PERFMON, Capability.SYS_ADMIN),
    (Capability.NET_ADMIN, Capability.SYS_ADMIN),
)
_TO_ATTACH = ((Capability.NET_ADMIN,),)
_TO_CHANGE_USER = ((Capability.SETUID,), (Capability.SETGID,))
_TO_READ_DESCRIPTORS = ((Capability.SYS_PTRACE,), (Capability.DAC_READ_SEARCH, Capability.DAC_OVERRIDE))


def _status(word: str, path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{word}:")), "")


def effective(path: Path = STATUS) -> int:
    """Effective capabilities as bits."""
    return int(_status("CapEff", path) or "0", 16)


def _lacking(bits: int, wanted: tuple[tuple[Capability, ...], ...]) -> list[str]:
    return [any_of[0].word for any_of in wanted if not any(bits >> one & 1 for one in any_of)]


def lacking_to_trace(bits: int) -> list[str]:
    """Names of those that tracing needs and `bits` lack."""
    return list(dict.fromkeys(_lacking(bits, _TO_LOAD) + _lacking(bits, _TO_ATTACH)))


def lacking_to_read_descriptors(bits: int) -> list[str]:
    """Names of those that it takes to see what files and sockets the processes of others have open."""
    return _lacking(bits, _TO_READ_DESCRIPTORS)


def lacking_to_change_user(bits: int) -> list[str]:
    """Names of those that it takes to become another user."""
    return _lacking(bits, _TO_CHANGE_USER)


def has(bits: int, capability: Capability) -> bool:
    """Is it among `bits`?"""
    return bool(bits >> capability & 1)


def is_filtered(path: Path = STATUS) -> bool:
    """Does a seccomp filter judge this process's system calls?"""
    return _status("Seccomp", path) == "2"


def why_no_bpf(path: Path = STATUS) -> str | None:
    """Why this process cannot load a BPF program, as a sentence; None if nothing is known to forbid it."""
    missing = _lacking(effective(path), _TO_LOAD)
    if missing:
        return lacks(missing)
    if not _in_first_user_namespace():
        return "root here is root of a user namespace only, whose capabilities do not count for BPF: run it on the host"
    if is_filtered(path) and not _bpf_comes_through():
        return (
            "a seccomp filter refuses bpf(2) here, though the capabilities are there: give the container a profile "
            "that allows it (--security-opt seccomp=FILE, or seccomp=unconfined)"
        )
    return None


def lacks(missing: list[str]) -> str:
    """A sentence on capabilities without which there is no tracing."""
    return f"root here lacks {', '.join(missing)}: give that to the container or unit, or run tfotrace on the host"


def _in_first_user_namespace() -> bool:
    try:
        return os.stat("/proc/self/ns/user").st_ino == _FIRST_USER_NAMESPACE
    except OSError:
        return True  # a kernel without user namespaces


def bpf_kills() -> bool:
    """Does a seccomp filter kill who calls bpf(2)?"""
    return is_filtered() and os.WIFSIGNALED(_status_of_asking())


def _bpf_comes_through() -> bool:
    return _status_of_asking() == 0


def _status_of_asking() -> int:
    """How a child ended that asked for a command that does not exist, to which the kernel answers EINVAL."""
    try:
        child = os.fork()
        if not child:
            came = False
            try:
                came = bpfsys.answers_unknown_commands()
            finally:
                os._exit(not came)
        return os.waitpid(child, 0)[1]
    except OSError:  # too many processes, or SIGCHLD is ignored: not known
        return 0
