"""Bytes to a file or pipe: whole chunks, flushed at once, with every foreseeable failure as a sentence."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from contextlib import suppress
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
    def create(cls, path: Path, *, append: bool = False) -> Stream:
        """A new or emptied file, or one that goes on at its end. Raises UsageError if it cannot be written."""
        # always at the end: whoever cuts the file meanwhile (copytruncate) must not find a hole in it
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (0 if append else os.O_TRUNC)
        try:
            # a named pipe that nobody reads would keep this waiting, beyond the reach of signals
            fd = os.open(path, flags | os.O_NONBLOCK, 0o644)
            os.set_blocking(fd, True)
        except OSError as error:
            if error.errno == errno.ENXIO and path.is_fifo():
                raise UsageError(f"nobody reads from {path}: begin to read before tfotrace starts") from None
            raise UsageError(f"cannot write to {path}: {error.strerror}") from None
        return cls(fd, str(path))

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def begin(self, head: Callable[[int], bytes], tail: Callable[[], bytes]) -> None:  # noqa: ARG002 - it never ends
        """Write what a stream begins with; it has one part."""
        self.write(head(1))

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

    def cut(self, size: int) -> None:
        """Make the file `size` bytes long if that can be done."""
        with suppress(OSError):
            os.ftruncate(self._fd, size)

    def tick(self) -> None:
        """Nothing waits here to be flushed; notice a reader that left."""
        self.check()

    def reopen(self) -> None:
        """A stream has no name to go back to."""

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
