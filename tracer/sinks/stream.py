"""Bytes to a file or pipe: whole chunks, flushed at once, with every foreseeable failure as a sentence.

While tracing, a reader that stops reading (a pager, a stopped process, a terminal after ctrl+s) must not stop the rest:
what it does not take waits here, up to a limit; beyond it the stream is full, and its sink leaves records out and
counts them.
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

WAITING_MAX = 8 << 20  # bytes kept for a reader that has stopped
TURN_S = 0.25  # for so long one call waits for a reader
LAST_TURN_S = 2.0  # at the end, after the last byte that the reader took


class Stream:
    """An open descriptor and the name people know it by. A reader who reads sees what is written at once."""

    def __init__(self, fd: int, name: str, *, live: bool = False) -> None:
        """`live`: a reader who stops must not hold up the caller, for whom packets do not wait."""
        self._fd = fd
        self.name = name
        # the same pipe or terminal; -1: `fd` itself is written to, and may block
        self._patient = _without_blocking(fd) if live else -1
        self._waiting = bytearray()

    @classmethod
    def stdout(cls, *, live: bool = False) -> Stream:
        """Standard output."""
        return cls(1, "standard output", live=live)

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

    def is_full(self) -> bool:
        """Has the reader stopped for so long that records are to be left out?"""
        return len(self._waiting) >= WAITING_MAX

    def write(self, data: bytes) -> None:
        """Write all of `data`, or keep what a reader does not take in time.

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
        """What waits, without waiting for a reader who still does not read."""
        if self._push(0):
            self._push(TURN_S)

    def _push(self, seconds: float) -> int:
        """Offer what waits to the reader; how many bytes it took."""
        if not self._waiting:
            return 0
        with memoryview(self._waiting) as view:
            done = self._send(view, seconds)
        del self._waiting[:done]
        return done

    def _send(self, view: memoryview, seconds: float) -> int:
        """Bytes of `view` that the reader took in that time."""
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
        """Make the file `size` bytes long if that can be done."""
        with suppress(OSError):
            os.ftruncate(self._fd, size)

    def tick(self) -> None:
        """Offer what waits; notice a reader that left."""
        self._offer()
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
        """Close a file; standard output stays open.

        Raises:
            EndedEarlyError: the reader has stopped and did not take what waited.
        """
        try:
            while self._waiting and self._push(LAST_TURN_S):
                pass
            if self._waiting:
                left, self._waiting = len(self._waiting), bytearray()
                raise EndedEarlyError(f"{self.name}: its reader does not read, the last {left} bytes are lost")
        finally:
            if self._patient >= 0:
                os.close(self._patient)
                self._patient = -1
            if self._fd > 2:
                os.close(self._fd)
                self._fd = -1


def _without_blocking(fd: int) -> int:
    """A descriptor of its own for the same pipe or terminal; -1 for others, and where that is not permitted.

    Not O_NONBLOCK on `fd`: everybody who has the pipe or terminal from the same parent would share it.
    """
    try:
        if not (stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd)):
            return -1
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return -1
