"""What a replay reads: a file or standard input, plain or compressed by gzip or Zstandard, as a stream of bytes."""

from __future__ import annotations

import errno
import gzip
import io
import os
import select
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from tracer.errors import UsageError
from tracer.vocabulary.near import did_you_mean

STDIN = Path("-")
HEAD = 64  # bytes: enough to recognize the kind of file
_CHUNK = 1 << 18
_NAMES_MAX = 1000  # of a folder
_LOOK_MS = 200  # how long a signal to end waits for a silent pipe
PCAPNG = b"\x0a\x0d\x0d\x0a"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# raised for a compressed file that is cut or damaged
_BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)


class _Ahead(io.RawIOBase):
    """A descriptor whose first bytes can be read twice. It counts what was read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._head = b""
        self.taken = 0
        self.is_over: Callable[[], bool] = lambda: False

    def look(self, size: int) -> bytes:
        """The first bytes, however small the pieces in which they come; read() returns them again."""
        while len(self._head) < size and (part := os.read(self._fd, size - len(self._head))):
            self._head += part
        return self._head

    def fileno(self) -> int:
        return self._fd

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; empty at the end."""
        size = _CHUNK if size < 0 else size
        if self._head:
            found, self._head = self._head[:size], self._head[size:]
        else:
            found = os.read(self._fd, size) if self._wait() else b""
        self.taken += len(found)
        return found

    def _wait(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not self.is_over():
            if poll.poll(_LOOK_MS):
                return True
        return False

    def readinto(self, buffer: object) -> int:
        """For io.BufferedReader."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()


@dataclass(slots=True)
class Input:
    """An open input. `name` is for people, `size` its bytes as stored, None if unknown."""

    name: str
    size: int | None
    head: bytes  # the first bytes, uncompressed
    compressed: bool
    _source: _Ahead
    _stream: BinaryIO | gzip.GzipFile
    _first: bytes = b""
    broken: str | None = None  # why a compressed input ended too early

    @property
    def position(self) -> int:
        """How many bytes, as stored, have been read."""
        return self._source.taken

    def end_when(self, is_over: Callable[[], bool]) -> None:
        """End the input once `is_over` says so, also while a pipe is silent."""
        self._source.is_over = is_over

    def descriptor(self) -> int | None:
        """The file's own descriptor, at its beginning, for other readers; None for a pipe or a compressed file."""
        if self.size is None or self.compressed:
            return None
        os.lseek(self._source.fileno(), 0, os.SEEK_SET)
        return self._source.fileno()

    def read(self, size: int = _CHUNK) -> bytes:
        """The next bytes, at most `size`; empty at the end, also where a compressed file is cut (`broken`).

        Raises:
            UsageError: it cannot be read.
        """
        if self._first:
            found, self._first = self._first[:size], self._first[size:]
            return found
        return self._take(size)

    def _take(self, size: int) -> bytes:
        if self.broken is not None:
            return b""
        try:
            # not read(), which loses the last bytes before the cut of a gzip file
            return self._stream.read1(size) if isinstance(self._stream, gzip.GzipFile) else self._stream.read(size)
        except _BROKEN as error:
            self.broken = str(error) or "it ends in the middle"
            return b""
        except OSError as error:
            raise UsageError(f"cannot read {self.name}: {error.strerror or error}") from None

    def close(self) -> None:
        """Close it."""
        self._source.close()


def _near(path: Path) -> str:
    """Names a file of the same folder that may have been meant."""
    try:
        with os.scandir(path.parent) as entries:
            return did_you_mean(path.name, [one.name for one in islice(entries, _NAMES_MAX)])
    except OSError:
        return ""


def open_input(path: Path) -> Input:
    """Open a file, or standard input for `-`, and look at its first bytes.

    Raises:
        UsageError: there is no such file, it is a folder, it may not be read ...
    """
    name = "standard input" if path == STDIN else str(path)
    try:
        fd = os.dup(0) if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        near = _near(path) if error.errno == errno.ENOENT else ""
        raise UsageError(f"cannot read {name}: {error.strerror}{near}") from None
    source = _Ahead(fd)
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        magic = source.look(4)
    except OSError as error:
        source.close()
        raise UsageError(f"cannot read {name}: {error.strerror}") from None
    size = found.st_size if stat.S_ISREG(found.st_mode) else None
    plain = cast(BinaryIO, source)
    stream: BinaryIO | gzip.GzipFile = plain
    if magic.startswith(_GZIP):
        stream = gzip.GzipFile(fileobj=plain, mode="rb")
    elif magic == _ZSTD:
        reader = zstandard.ZstdDecompressor().stream_reader(plain, read_across_frames=True)
        stream = cast(BinaryIO, reader)
    opened = Input(name, size, b"", stream is not plain, source, stream)
    head = b""
    while len(head) < HEAD and (part := opened._take(HEAD - len(head))):
        head += part
    opened.head = opened._first = head
    return opened
