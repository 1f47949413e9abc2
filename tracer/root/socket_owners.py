"""Finds the owner of a socket: the process with a descriptor of its inode (/proc/PID/fd). Root only.

Reading all of /proc takes long on a host with many descriptors, so it is done in slices. An owner may end, or close its
socket or pass it on, so what was found is checked again each time somebody asks.
"""

from __future__ import annotations

import math
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from tracer.ipc.messages import OwnerAnswer, SocketOwner
from tracer.linux.cgroup import Groups, name_from_proc
from tracer.linux.proc import PROC, open_files, pids, read_name_and_uid, read_stat

OWNERS_HELD = 1024
CHECKED = 16  # of these are checked each second: do they still have their socket?
WANTED_MAX = 4096  # sockets to look for at a time
SLICE_S = 0.005
SHARE = 4  # after a scan there is none for SHARE times its length
TIDY_S = 1.0
AGAIN_S = 1.0  # for so long, a socket without owner is not looked for again
LAST_NUMBER = 1 << 62  # an answer to every question
_FIRST = 1


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with a descriptor of a socket. `started` (clock ticks since boot) tells it from a later one."""

    pid: int
    parent: int
    started: int
    fd: int


def choose(holders: Iterable[Holder], parent_of: dict[int, int]) -> Holder | None:
    """The owner: the only holder, or the one from which all others descend; None if there is no such holder.

    With socket activation, the service owns the socket and not the service manager. `parent_of` has the parents of all
    processes, so that descent through processes that closed the socket counts, too.
    """
    by_pid = {holder.pid: holder for holder in holders}
    if len(by_pid) > 1:
        by_pid.pop(_FIRST, None)
    eldest = [holder for holder in by_pid.values() if not _descends(holder.pid, by_pid, parent_of)]
    return eldest[0] if len(eldest) == 1 else None


def _descends(pid: int, among: dict[int, Holder], parent_of: dict[int, int]) -> bool:
    seen = {pid}
    while (pid := parent_of.get(pid, 0)) and pid not in seen:
        if pid in among:
            return True
        seen.add(pid)
    return False


class Scan:
    """One walk through all descriptors, looking for some sockets."""

    def __init__(self, sockets: Iterable[int], proc: str = PROC) -> None:
        self._proc = proc
        self._wanted = {f"socket:[{number}]": number for number in sockets}
        self._steps = self._walk()
        self._parents: dict[int, int] = {}
        self.found: dict[int, list[Holder]] = {number: [] for number in self._wanted.values()}
        self.spent_s = 0.0

    def advance(self, seconds: float) -> bool:
        """Continue for some time; True when done."""
        began = time.monotonic()
        done = True
        for _ in self._steps:
            if time.monotonic() - began >= seconds:
                done = False
                break
        self.spent_s += time.monotonic() - began
        return done

    def owner(self, number: int) -> Holder | None:
        """The owner, after a finished scan."""
        return choose(self.found[number], self._parents)

    def _walk(self) -> Iterator[None]:
        for pid in pids(self._proc):
            # it may end at any moment, and then owns nothing
            with suppress(OSError, ValueError):
                parent, started = read_stat(pid, self._proc)
                self._parents[pid] = parent
                yield from self._look(pid, parent, started)
            yield

    def _look(self, pid: int, parent: int, started: int) -> Iterator[None]:
        for count, (fd, file) in enumerate(open_files(pid, self._proc)):
            if count % 256 == 255:
                yield
            if file in self._wanted:
                self.found[self._wanted[file]].append(Holder(pid, parent, started, fd))


class OwnerFinder:
    """Says who owns which sockets, and how cgroups are called: the root part's half of run/socket_owners.py."""

    def __init__(self, proc: str = PROC, groups: Groups | None = None) -> None:
        self._proc = proc
        self._groups = groups if groups is not None else Groups()
        self._known: OrderedDict[int, Holder] = OrderedDict()
        self._nobody: OrderedDict[int, float] = OrderedDict()  # when we looked for it
        self._wanted: dict[int, int] = {}  # socket: number of the question
        self._scan: Scan | None = None
        self._scan_wanted: dict[int, int] = {}
        self._not_before = 0.0
        self._next_tidy = 0.0

    def ask(self, number: int, sockets: Iterable[int], cgroups: Iterable[int]) -> OwnerAnswer:
        """Answer what is known; advance() returns the rest. Each answer repeats `number`."""
        answers: list[SocketOwner] = []
        now = time.monotonic()
        self._tidy(now)
        for socket in sockets:
            owner = self._check(socket)
            if owner is not None:
                answers.append(owner)
            elif now - self._nobody.get(socket, -AGAIN_S) < AGAIN_S or len(self._wanted) >= WANTED_MAX:
                answers.append(SocketOwner(socket))
            else:
                self._wanted[socket] = number
        return OwnerAnswer(number, answers, {group: self._groups.name(group) for group in cgroups})

    def advance(self) -> list[OwnerAnswer]:
        """Do a slice of the work; returns the answers that are ready."""
        now = time.monotonic()
        if self._scan is None:
            if not self._wanted or now < self._not_before:
                return []
            self._scan, self._scan_wanted, self._wanted = Scan(self._wanted, self._proc), self._wanted, {}
        if not self._scan.advance(SLICE_S):
            return []
        scan, self._scan = self._scan, None
        self._not_before = time.monotonic() + SHARE * scan.spent_s
        answers: dict[int, list[SocketOwner]] = {}
        for socket, number in self._scan_wanted.items():
            holder = scan.owner(socket)
            if holder is not None:
                _put(self._known, socket, holder)
            else:
                _put(self._nobody, socket, time.monotonic())
            # check it, since the scan may have seen it some time ago
            answers.setdefault(number, []).append(self._check(socket) or SocketOwner(socket))
        return [OwnerAnswer(number, found, {}) for number, found in answers.items()]

    def wait_s(self) -> float:
        """In how many seconds advance() has something to do."""
        if self._scan is not None:
            return 0.0
        return max(0.0, self._not_before - time.monotonic()) if self._wanted else math.inf

    def last_word(self) -> OwnerAnswer:
        """All known owners that still are, for handshakes that end when it is too late to ask."""
        checked = [self._check(socket) for socket in list(self._known)]
        return OwnerAnswer(LAST_NUMBER, [owner for owner in checked if owner is not None], {})

    def _tidy(self, now: float) -> None:
        """Forget sockets that are gone: nobody will ask about them again."""
        if now < self._next_tidy:
            return
        self._next_tidy = now + TIDY_S
        for socket in list(islice(self._known, CHECKED)):
            if self._holds(self._known[socket], socket):
                self._known.move_to_end(socket)
            else:
                del self._known[socket]
        while self._nobody and self._nobody[next(iter(self._nobody))] < now - AGAIN_S:
            self._nobody.popitem(last=False)

    def _holds(self, holder: Holder, socket: int) -> bool:
        try:
            return os.readlink(f"{self._proc}/{holder.pid}/fd/{holder.fd}") == f"socket:[{socket}]"
        except OSError:
            return False

    def _check(self, socket: int) -> SocketOwner | None:
        """The known owner, if it still has the socket."""
        holder = self._known.get(socket)
        if holder is None:
            return None
        try:
            name, uid = read_name_and_uid(holder.pid, self._proc)
            with open(f"{self._proc}/{holder.pid}/cgroup", encoding="utf-8", errors="replace") as file:
                cgroup = name_from_proc(file.read())
            still = read_stat(holder.pid, self._proc)[1] == holder.started and self._holds(holder, socket)
        except (OSError, ValueError):
            still = False
        if not still:
            del self._known[socket]
            return None
        self._known.move_to_end(socket)
        return SocketOwner(socket, holder.pid, name, uid, cgroup)

    def close(self) -> None:
        """Close descriptors."""
        self._groups.close()


def _put(kept: OrderedDict[int, Holder] | OrderedDict[int, float], key: int, value: Holder | float) -> None:
    kept[key] = value  # type: ignore[assignment]
    kept.move_to_end(key)
    while len(kept) > OWNERS_HELD:
        kept.popitem(last=False)
