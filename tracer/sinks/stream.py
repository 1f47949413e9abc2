"""Bytes to a file or pipe: whole chunks, flushed at once; every foreseeable failure becomes a sentence.

While tracing, a reader that stops reading (a pager, a stopped process, a terminal after ctrl+s) must not stop the rest:
its data is buffered here up to a limit. Beyond that the stream is full, and its sink drops records and counts them.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tracer.errors import EndedEarlyError, UsageError
from tracer.sinks.base import SinkClosedError

WAITING_MAX = 8 << 20  # bytes buffered for a reader that has stopped
TURN_S = 0.25  # how long one call waits for a reader
LAST_TURN_S = 2.0  # the same at the end, from the last byte that the reader took


class Stream:
    """An open descriptor and its name for messages. A reader sees at once what was written."""

    def __init__(self, fd: int, name: str, *, live: bool = False) -> None:
        """`live`: a reader that stops must not block the caller, since packets do not wait."""
        self._fd = fd
        self.name = name
        # the same pipe or terminal, non-blocking; -1: we write to `fd` itself, which may block
        self._patient = _without_blocking(fd) if live else -1
        self._waiting = bytearray()

    @classmethod
    def stdout(cls, *, live: bool = False) -> Stream:
        """Standard output."""
        return cls(1, "standard output", live=live)

    @classmethod
    def create(cls, path: Path, *, append: bool = False, private: bool = False) -> Stream:
        """Create or empty a file, or append to it. `private`: nobody but its owner may read it.

        Raises:
            UsageError: it cannot be written, or not be made private.
        """
        # always append: truncating the file meanwhile (copytruncate) must not leave a hole in it
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (0 if append else os.O_TRUNC)
        try:
            # opening a named pipe without a reader would block, even against signals
            fd = os.open(path, flags | os.O_NONBLOCK, 0o600 if private else 0o644)
            os.set_blocking(fd, True)
        except OSError as error:
            if error.errno == errno.ENXIO and path.is_fifo():
                raise UsageError(f"nobody reads from {path}: start its reader before tfotrace") from None
            raise UsageError(f"cannot write to {path}: {error.strerror}") from None
        status = os.fstat(fd)
        if private and stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:  # it was there before
            try:
                os.fchmod(fd, stat.S_IMODE(status.st_mode) & ~0o077)
            except OSError as error:
                os.close(fd)
                says = f"{path} may be read by others and cannot be made private"
                raise UsageError(f"{says}: {error.strerror}; write cookies to a new file") from None
        return cls(fd, str(path))

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def begin(self, head: Callable[[int], bytes], tail: Callable[[], bytes]) -> None:  # noqa: ARG002 - one part
        """Write the head; a stream has only one part."""
        self.write(head(1))

    def is_full(self) -> bool:
        """Has the reader stopped for so long that we must drop records?"""
        return len(self._waiting) >= WAITING_MAX

    def make_room(self, more: int) -> None:
        """Do nothing: a stream has only one part."""

    def write(self, data: bytes) -> None:
        """Write all of `data`, or buffer what the reader does not take in time.

        Raises:
            SinkClosedError: the reader has gone.
            EndedEarlyError: disk full, quota, I/O error.
        """
        if self._patient < 0:
            self._write_blocking(data)
            return
        self._offer()
        if self._waiting:
            self._waiting += data
        else:
            self._waiting += data[self._send(memoryview(data), TURN_S) :]

    def _write_blocking(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # noqa: PERF203 - once, if ever
                os.set_blocking(self._fd, True)
            except OSError as error:
                raise self._broken(error) from None

    def _offer(self) -> None:
        """Offer the buffer, without waiting for a reader that still does not read."""
        if self._push(0):
            self._push(TURN_S)

    def _push(self, seconds: float) -> int:
        """Offer the buffer to the reader; return how many bytes it took."""
        if not self._waiting:
            return 0
        with memoryview(self._waiting) as view:
            done = self._send(view, seconds)
        del self._waiting[:done]
        return done

    def _send(self, view: memoryview, seconds: float) -> int:
        """Return how many bytes of `view` the reader took in that time."""
        done, deadline = 0, time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._patient, select.POLLOUT)
        while done < len(view):
            try:
                done += os.write(self._patient, view[done:])
            except BlockingIOError:  # noqa: PERF203 - the pipe is full, and it waits
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not poll.poll(left_s * 1000):
                    break
            except OSError as error:
                raise self._broken(error) from None
        return done

    def _broken(self, error: OSError) -> SinkClosedError | EndedEarlyError:
        if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
            return SinkClosedError(self.name)
        return EndedEarlyError(f"cannot write to {self.name}: {error.strerror}")

    def cut(self, size: int) -> None:
        """Truncate the file to `size` bytes if possible."""
        with suppress(OSError):
            os.ftruncate(self._fd, size)

    def tick(self) -> None:
        """Offer the buffer; notice a reader that left."""
        self._offer()
        self.check()

    def reopen(self) -> None:
        """Do nothing: a stream has no name to open again."""

    def check(self) -> None:
        """Find out without writing whether anybody still reads, for a run with nothing to write.

        Raises:
            SinkClosedError: the reader has gone.
        """
        poll = select.poll()
        poll.register(self._fd, 0)  # a pipe without readers is an error, which is always reported
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            raise SinkClosedError(self.name)

    def close(self, last: Callable[[], bytes] | None = None) -> None:
        """Write what `last` gives and close a file; standard output stays open.

        Raises:
            SinkClosedError: the reader has gone.
            EndedEarlyError: the reader has stopped and did not take the buffer, or writing failed.
        """
        try:
            if last is not None:
                self.write(last())
            while self._waiting and self._push(LAST_TURN_S):
                pass
            if self._waiting:
                left, self._waiting = len(self._waiting), bytearray()
                raise EndedEarlyError(f"{self.name}: the reader stopped reading, so the last {left} bytes are lost")
        finally:
            if self._patient >= 0:
                os.close(self._patient)
                self._patient = -1
            if self._fd > 2:
                os.close(self._fd)
                self._fd = -1


def _without_blocking(fd: int) -> int:
    """A second descriptor for the same pipe or terminal; -1 for other files, or if that is not permitted.

    We do not set O_NONBLOCK on `fd`: it would apply to every process that inherited this pipe or terminal.
    """
    try:
        if not (stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd)):
            return -1
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return -1
