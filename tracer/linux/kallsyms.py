"""Names of the kernel's functions by address (/proc/kallsyms). Root only; without CAP_SYSLOG all addresses are 0."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path

KALLSYMS = Path("/proc/kallsyms")
_DIGITS = 16
_NAME_AT = _DIGITS + 3  # behind the letter
_HEAD = 1 << 16  # bytes: many lines, of which the first may be 0 in any case
_AT_ONCE = 1 << 16
_STARTS_AT_ONCE = 1 << 13
_NOWHERE = 1 << 64
_TEXT = b"tTwW"  # nm's letters of code


def is_open(path: Path = KALLSYMS) -> bool:
    """Does the kernel show its addresses to this process?"""
    try:
        with path.open("rb") as file:
            return any(line[:_DIGITS].strip(b"0") for line in file.read(_HEAD).splitlines()[:-1])
    except OSError:
        return False


class Lookup:
    """Finds the functions that some addresses lie in. Reading takes a tenth of a second, so it goes in steps."""

    def __init__(self, addresses: Iterable[int], path: Path = KALLSYMS) -> None:
        self.addresses = sorted(set(addresses))
        self.names: dict[int, str | None] = dict.fromkeys(self.addresses)
        self._wanted = [b"%016x" % address for address in self.addresses]
        self._best = [b""] * len(self._wanted)
        self._path = path

    def steps(self) -> Iterator[None]:
        """Read on at each step; `names` are right at the end. Raises OSError."""
        if not self._wanted:
            return
        for lines in _read(self._path):
            self._look_at(lines)
            yield
        self._name()

    def _look_at(self, lines: list[bytes]) -> None:
        wanted, best = self._wanted, self._best
        highest = wanted[-1]
        for line in lines:
            address = line[:_DIGITS]
            if len(line) <= _NAME_AT or address > highest or line[_DIGITS + 1] not in _TEXT:
                continue
            place = bisect_left(wanted, address)  # of the lowest that may lie in it; _name() takes care of the others
            if address > best[place][:_DIGITS]:
                best[place] = line

    def _name(self) -> None:
        below = b""
        for place, address in enumerate(self.addresses):
            below = max(self._best[place], below)
            words = below.split()
            if len(words) >= 3 and words[0].strip(b"0"):  # a symbol at address 0 is a hidden one
                # without the suffix that the compiler gives to a copy or a part
                self.names[address] = words[2].decode("ascii", "replace").split(".")[0] or None


class Known:
    """Where some functions are, read once and in steps; find() then answers at once."""

    def __init__(self, names: Iterable[str], path: Path = KALLSYMS) -> None:
        self._names = {name.encode(): name for name in names}
        self._path = path
        self._starts = array("Q")
        self._found: dict[int, str] = {}
        self._ranges: list[tuple[int, int, str]] = []

    def steps(self) -> Iterator[None]:
        """Read on at each step. Raises OSError."""
        for lines in _read(self._path):
            self._look_at(lines)
            yield
        yield from self._end_them()
        self._starts = array("Q")

    def _end_them(self) -> Iterator[None]:
        """Each one ends where the next function starts. A sorted list of all starts would take some megabytes."""
        begins = sorted(self._found)
        ends = [_NOWHERE] * len(begins)
        for step in range(0, len(self._starts), _STARTS_AT_ONCE):
            for start in self._starts[step : step + _STARTS_AT_ONCE]:
                place = bisect_left(begins, start) - 1
                if place >= 0 and start < ends[place]:
                    ends[place] = start
            yield
        self._ranges = [
            (start, end if end < _NOWHERE else start + 1, self._found[start])
            for start, end in zip(begins, ends, strict=True)
        ]

    def _look_at(self, lines: list[bytes]) -> None:
        for line in lines:
            if len(line) > _NAME_AT and line[_DIGITS + 1] in _TEXT:
                try:
                    start = int(line[:_DIGITS], 16)
                except ValueError:  # damaged
                    continue
                self._starts.append(start)
                name = self._names.get(line[_NAME_AT:].partition(b"\t")[0].partition(b".")[0])
                if name is not None and start:
                    self._found[start] = name

    def find(self, address: int) -> str | None:
        """The function with this address, if it is one of them."""
        return next((name for start, end, name in self._ranges if start <= address < end), None)


def _read(path: Path) -> Iterator[list[bytes]]:
    """Whole lines, some at a time. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        rest = b""
        while data := os.read(fd, _AT_ONCE):
            *lines, rest = (rest + data).split(b"\n")
            yield lines
        yield [rest]
    finally:
        os.close(fd)
