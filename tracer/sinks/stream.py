"""Bytes to a file or pipe: whole chunks, flushed at once, with every foreseeable failure as a sentence."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path

from tracer.errors import EndedEarlyError, UsageError
from tracer.sinks.base import SinkClosedError


class Stream:
    """An open descriptor and the name people know it by. Nothing is buffered here: a reader sees what is written."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self.name = name

    @classmethod
    def stdout(cls) -> Stream:
        """Standard output."""
        return cls(1, "standard output")

    @classmethod
    def create(cls, path: Path) -> Stream:
        """A new or emptied file. Raises UsageError if it cannot be written."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror}") from None
        return cls(fd, str(path))

    def write(self, data: bytes) -> None:
        """Write all of `data`.

        Raises:
            SinkClosedError: the reader has gone.
            EndedEarlyError: disk full, quota, I/O error.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # noqa: PERF203 - once, if ever
                os.set_blocking(self._fd, True)
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
                    raise SinkClosedError(self.name) from None
                raise EndedEarlyError(f"cannot write to {self.name}: {error.strerror}") from None

    def check(self) -> None:
        """Is anybody still reading? Told without writing, for a run that has nothing to say.

        Raises:
            SinkClosedError: the reader has gone.
        """
        poll = select.poll()
        poll.register(self._fd, 0)  # errors are always reported: the write end of a pipe without readers is one
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            raise SinkClosedError(self.name)

    def close(self) -> None:
        """Close a file; standard output stays open."""
        if self._fd > 2:
            os.close(self._fd)
            self._fd = -1
