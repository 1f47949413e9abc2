"""A file of -w: compressed if its name says so, rotated by size, time and SIGHUP.

Every file of a run can be used by itself: each begins with the same head (JSON lines: the `start` record, with `part`
counting up), and each but the last ends with a tail that says so. The file being written always has the given name.
Rotation inserts the time at which a finished file began into its name (events.20261123T114000Z.jsonl); before SIGHUP,
something else such as logrotate has moved the file.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from tracer.errors import EndedEarlyError, UsageError
from tracer.sinks.compression import Coder, coder
from tracer.sinks.pcapng_format import whole
from tracer.sinks.stream import Stream
from tracer.sinks.targets import Compression, Form, Rotation, Target

Head = Callable[[int], bytes]  # of part 1, 2 ...
Tail = Callable[[], bytes]
Tell = Callable[[str], None]

_TRY_AGAIN_S = 60.0  # after a rotation that could not be


class OutputFile:
    """Takes whole records only: a file may end after any record."""

    def __init__(
        self, target: Target, rotation: Rotation | None = None, *, private: bool = False, tell: Tell | None = None
    ) -> None:
        """Create or empty the file; with rotation, move an existing one aside. Raises UsageError.

        `private`: it will hold cookies, so nobody but its owner may read it. `tell` gets a sentence where writing goes
        on otherwise than asked.
        """
        self._tell = tell
        self._rotate_from = 0.0  # not before this time
        self._target = target
        self._private = private
        self._rotation = rotation
        self._finished = re.compile(
            re.escape(target.stem) + r"\.([0-9]{8}T[0-9]{6}Z)(?:-([0-9]+))?" + re.escape(target.suffix), re.ASCII
        )
        self._head: Head | None = None
        self._tail: Tail | None = None
        self._part = 0
        if rotation is not None:
            self._set_aside_what_is_there()
        self._open(append=rotation is not None)
        if rotation is not None and not self._regular:
            self._stream.close()
            raise UsageError(f"{target.path} is not a regular file: it cannot be rotated")

    # --- the protocol that sinks use ---

    def begin(self, head: Head, tail: Tail) -> None:
        """Set what each file begins with, and what each but the last ends with."""
        self._head, self._tail = head, tail
        self._begin_part()

    def is_full(self) -> bool:
        """Has the reader of a pipe stopped for so long that we must drop records?"""
        return self._stream.is_full()

    def make_room(self, more: int) -> None:
        """Begin the next part now if `more` bytes do not fit into this one. Raises as write()."""
        if self._is_full(more):
            self._rotate()

    def write(self, data: bytes) -> None:
        """Write whole records.

        Raises:
            SinkClosedError: the reader of a pipe has gone.
            EndedEarlyError: disk full, quota, I/O error.
        """
        self.make_room(len(data))
        self._untouched = False
        self._put(self._coder.add(data))

    def tick(self) -> None:
        """Once a second: write what was compressed; rotate if the file's time is up."""
        self._stream.tick()
        if self._is_over():
            self._rotate()
        else:
            self._put(self._coder.flush())

    def reopen(self) -> None:
        """End the file and continue at the end of the one that has the name now."""
        if not self._regular or self._name_is_a_folder():
            return
        self._end_part()
        try:
            self._open(append=True)
        except UsageError as error:
            raise EndedEarlyError(str(error)) from None
        self._begin_part()

    def close(self, last: Tail | None = None) -> None:
        """Finish the file, with what `last` gives, however full it is."""
        try:
            if last is not None:
                self._put(self._coder.add(last()))
            self._put(self._coder.finish())
        finally:
            self._stream.close()

    # --- one file ---

    def _open(self, append: bool) -> None:
        self._stream = Stream.create(self._target.path, append=append, private=self._private)
        self._coder: Coder = coder(self._target.compression)
        status = os.fstat(self._stream.fileno())
        self._regular = stat.S_ISREG(status.st_mode)
        self._size = status.st_size
        self._began = time.monotonic()
        self._began_at = datetime.now(timezone.utc)
        self._untouched = True  # contains only its head

    def _begin_part(self) -> None:
        assert self._head is not None
        self._part += 1
        self._put(self._coder.add(self._head(self._part)) + self._coder.flush())

    def _end_part(self) -> None:
        self.close(self._tail)

    def _put(self, data: bytes) -> None:
        if not data:
            return
        try:
            self._stream.write(data)
        except EndedEarlyError:
            self._cut_to_whole_records(data)
            raise
        self._size += len(data)

    def _cut_to_whole_records(self, data: bytes) -> None:
        """The disk filled up in the middle of `data`: cut the file after its last whole record."""
        if self._regular and self._target.compression is Compression.NONE:
            written = os.fstat(self._stream.fileno()).st_size - self._size
            self._stream.cut(self._size + _whole_records(self._target.form, data, max(0, written)))

    # --- rotation ---

    def _is_full(self, more: int) -> bool:
        limit = self._rotation.size if self._rotation is not None else None
        if limit is None or self._untouched or time.monotonic() < self._rotate_from:
            return False
        return self._size + (more if self._target.compression is Compression.NONE else 0) > limit

    def _is_over(self) -> bool:
        limit = self._rotation.seconds if self._rotation is not None else None
        now = time.monotonic()
        return limit is not None and not self._untouched and now >= max(self._began + limit, self._rotate_from)

    def _name_is_a_folder(self) -> bool:
        """Has somebody made a folder of that name? We leave it alone and go on in the file that we have."""
        if not self._target.path.is_dir():
            return False
        if self._tell is not None:
            self._tell(f"{self._target.path} is a folder now: its records go on into the file that had the name")
        return True

    def _rotate(self) -> None:
        if self._name_is_a_folder():
            self._rotate_from = time.monotonic() + _TRY_AGAIN_S
            return
        self._end_part()
        try:
            self._set_aside(self._began_at)
            self._open(append=False)
            self._remove_oldest()
        except UsageError as error:
            raise EndedEarlyError(str(error)) from None
        except OSError as error:
            raise EndedEarlyError(f"cannot rotate {self._target.path}: {error.strerror}") from None
        self._begin_part()

    def _set_aside_what_is_there(self) -> None:
        path = self._target.path
        try:
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode) and status.st_size:
                self._set_aside(datetime.fromtimestamp(status.st_mtime, timezone.utc))
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"cannot move the existing {path} aside: {error.strerror}") from None

    def _finished_files(self) -> list[tuple[str, int, Path]]:
        """Start time, number within that second, path; oldest first."""
        folder = self._target.path.parent
        names = ((name, self._finished.fullmatch(name)) for name in os.listdir(folder))
        return sorted((match[1], int(match[2] or 1), folder / name) for name, match in names if match)

    def _set_aside(self, began: datetime) -> None:
        stamp = began.strftime("%Y%m%dT%H%M%SZ")
        number = max((number for when, number, _ in self._finished_files() if when == stamp), default=0) + 1
        again = f"-{number}" if number > 1 else ""
        path = self._target.path
        try:
            path.rename(path.with_name(f"{self._target.stem}.{stamp}{again}{self._target.suffix}"))
        except FileNotFoundError:
            return  # somebody else moved it first: the file is safe, and the name is free

    def _remove_oldest(self) -> None:
        keep = self._rotation.keep if self._rotation is not None else None
        if keep is not None:
            files = [path for _, _, path in self._finished_files() if not path.is_dir()]
            for path in files[:-keep]:
                path.unlink(missing_ok=True)


def _whole_records(form: Form, data: bytes, written: int) -> int:
    """How many of the first `written` bytes of `data` form whole lines or blocks."""
    return whole(data, written) if form is Form.PCAPNG else data.rfind(b"\n", 0, written) + 1
