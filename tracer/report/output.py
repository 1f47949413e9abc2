"""The file that a report is written to: what can be known to keep it from being written is told at the start."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tracer.errors import EndedEarlyError, UsageError
from tracer.sinks.base import SinkClosedError

ROOM = 1 << 20  # bytes: no page is larger
STDOUT = Path("-")


@dataclass(frozen=True, slots=True)
class PageFile:
    """A name that was tried. A file is replaced at once, so a reader sees the old page or the new one; what is no file
    (a pipe, a device) is written to as it is."""

    path: Path

    def write(self, page: str) -> None:
        """Write the page.

        Raises:
            EndedEarlyError: it cannot be written.
            SinkClosedError: the reader of standard output has gone.
        """
        data = page.encode()
        try:
            if self.path == STDOUT:
                sys.stdout.flush()
                _write_all(1, data)
            elif _is_replaceable(self.path):
                _replace(Path(os.path.realpath(self.path)), data)
            else:
                with self.path.open("wb", buffering=0) as file:
                    _write_all(file.fileno(), data)
        except BrokenPipeError:
            raise SinkClosedError from None
        except OSError as error:
            raise EndedEarlyError(f"cannot write the report to {self.path}: {error.strerror or error}") from None


def page_file(path: Path) -> PageFile:
    """Try whether a page can be written there. Raises UsageError."""
    if path == STDOUT:
        return PageFile(path)
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name a file for the report")
        if _is_replaceable(path):
            folder = os.path.dirname(os.path.realpath(path))
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, ROOM)
        elif not os.access(path, os.W_OK):
            raise PermissionError(0, "you may not write there")
    except OSError as error:
        raise UsageError(f"cannot write the report to {path}: {error.strerror or error}") from None
    return PageFile(path)


def _is_replaceable(path: Path) -> bool:
    """Is it a file, or nothing yet?"""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _replace(path: Path, data: bytes) -> None:
    """Write a file beside it, and put that in its place, with its permissions."""
    beside = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))
        _write_all(descriptor, data)
        os.close(descriptor)
        descriptor = -1
        os.replace(beside, path)
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)
        beside.unlink(missing_ok=True)
        raise
