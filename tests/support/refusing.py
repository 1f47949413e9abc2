"""Runs a command under a seccomp filter that refuses one system call, as a container's profile does.

python -I refusing.py NUMBER [kill] WORD...: the system call gets EPERM, or with `kill` its process SIGSYS.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

# include/uapi/linux: prctl.h, seccomp.h, filter.h
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ERRNO, _KILL_PROCESS, _ALLOW = 0x00050000, 0x80000000, 0x7FFF0000


def refusing(number: int, *words: str, kill: bool = False) -> list[str]:
    """Prefix of a command that is refused the system call of this number; `words` follow it."""
    return [sys.executable, "-I", str(Path(__file__)), str(number), *(["kill"] if kill else []), *words]


def _refuse(number: int, answer: int) -> None:
    """Filter the system calls of this process and of those it becomes."""
    code = b"".join((
        struct.pack("=HBBI", _LOAD_WORD, 0, 0, 0),  # seccomp_data.nr
        struct.pack("=HBBI", _JUMP_IF_EQUAL, 0, 1, number),
        struct.pack("=HBBI", _RETURN, 0, 0, answer),
        struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW),
    ))  # fmt: skip
    held = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program):
        raise OSError(ctypes.get_errno(), "the filter is refused")


if __name__ == "__main__":
    _, refused, *rest = sys.argv
    kills = rest[0] == "kill"
    _refuse(int(refused), _KILL_PROCESS if kills else _ERRNO | errno.EPERM)
    os.execvp(rest[kills], rest[kills:])
