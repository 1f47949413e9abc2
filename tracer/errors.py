"""What can go wrong, and how the process then ends: one sentence for people, one exit code for scripts.

Exit codes are those of DESIGN.md section 2: 0 ended as asked, 2 wrong usage, 3 cannot trace here, 4 tracing ended
early, 5 doctor found a problem that does not prevent tracing.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of every tfotrace command."""

    OK = 0
    USAGE = 2
    CANNOT_TRACE = 3
    ENDED_EARLY = 4
    PROBLEM = 5


class TfotraceError(Exception):
    """A foreseeable failure: `str(error)` is one sentence that says what is wrong and what to do.

    `shown` holds lines to print below it, such as the user's input with the error marked.
    """

    exit_code = ExitCode.CANNOT_TRACE
    shown: tuple[str, ...] = ()


class UsageError(TfotraceError):
    """The command line asks for something that does not exist or contradicts itself."""

    exit_code = ExitCode.USAGE


class CannotTraceError(TfotraceError):
    """This host, kernel or user cannot trace: not root, kernel too old, lockdown, no bcc."""

    exit_code = ExitCode.CANNOT_TRACE


class EndedEarlyError(TfotraceError):
    """Tracing started but could not continue: last interface gone, disk full, root part died."""

    exit_code = ExitCode.ENDED_EARLY
