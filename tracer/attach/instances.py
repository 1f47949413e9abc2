"""Running instances and what killed ones left: each process has a locked file under /run/tfotrace.

The first line says whose file it is and what is attached; each line that follows adds an attachment or strikes one, for
with thousands of interfaces rewriting the whole at each would take minutes.

A root part keeps its file's flock for as long as it lives, so a file whose lock is free belongs to a killed run. Links
vanish with their process and are not listed. Clsact filters and XDP programs without a link are, before they are made.
A leftover is removed only if its name and program still match: the id with its load time, since ids are used again.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tracer.attach import clsact, xdp
from tracer.attach.clsact import FilterKey
from tracer.attach.xdp import XdpKey
from tracer.linux import bpfsys, interfaces, netns
from tracer.linux.proc import boot_id, read_stat
from tracer.linux.run_dir import RUN_DIR, require_own

_LIMIT = 64 << 20  # bytes read of one file: a line is some 250, and a run attaches two filters to an interface
_LINES_MAX = 1000  # beyond twice the number of attachments: then the file is written anew

Key = FilterKey | XdpKey


class _Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """An attachment that outlives its process: where and what it is, and the program's load time (ns since boot)."""

    interface: str
    netns: int
    loaded_ns: int


class FilterEntry(_Entry, frozen=True, tag="clsact"):
    """A tc filter."""

    key: FilterKey


class XdpEntry(_Entry, frozen=True, tag="xdp"):
    """An XDP program without a link."""

    key: XdpKey


Entry = FilterEntry | XdpEntry


class _File(msgspec.Struct, frozen=True):
    pid: int
    boot: str
    attachments: list[Entry]


class _Struck(msgspec.Struct, frozen=True, tag_field="kind", tag="struck"):
    """A line that strikes an entry of an earlier line."""

    entry: Entry


_first_line = msgspec.json.Decoder(_File)
_line: msgspec.json.Decoder[Entry | _Struck] = msgspec.json.Decoder(Entry | _Struck)


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """What one file says. `running` is True while its lock is held."""

    path: Path
    pid: int
    running: bool
    entries: list[Entry]


# --- the file ---


def _write(fd: int, pid: int, entries: list[Entry]) -> None:
    data = msgspec.json.encode(_File(pid, boot_id(), entries)) + b"\n"
    # write first, then truncate: if we are killed in between, the first line is whole
    _require_all(os.pwrite(fd, data, 0), data)
    os.ftruncate(fd, len(data))


def _require_all(written: int, data: bytes) -> None:
    """Raises OSError unless all was written, which of a write(2) that meets a full disk only a part is."""
    if written < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Instance:
    """This process among the running instances. Without /run it works all the same, and `warning` says so.

    The lock belongs to the open file: a child forked without exec must close() it, or it keeps the lock.
    """

    def __init__(self, directory: Path = RUN_DIR) -> None:
        pid = os.getpid()
        _, started = read_stat(pid)
        self.filter_name = f"tfotrace-{pid}-{started}"
        self.warning: str | None = None
        self._pid = pid
        self._entries: dict[tuple[int, Key], Entry] = {}  # by network namespace and key
        self._lines = 0  # after the first one
        self._fd = -1
        self._path = directory / f"{pid}-{started}.json"
        try:
            self._create(directory)
        except OSError as error:
            self.warning = (
                f"cannot write to {directory} ({error.strerror}): should this run be killed, "
                "`tfotrace detach` will not find what it left"
            )

    def _create(self, directory: Path) -> None:
        directory.mkdir(mode=0o755, exist_ok=True)
        require_own(directory.stat(follow_symlinks=False))
        self._write_anew()

    def _write_anew(self) -> None:
        # lock it under another name first, so that nobody sees it unlocked under its own
        draft = self._path.with_name(f".{self._path.name}")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(draft, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(fd, self._pid, list(self._entries.values()))
            os.rename(draft, self._path)
        except BaseException:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._lines = fd, 0

    def record(self, key: Key, interface: str, loaded_ns: int) -> None:
        """List an attachment before it is made in the calling thread's network namespace.

        `loaded_ns` is its program's ProgramInfo.loaded_ns. Raises OSError where the file has no room for it.
        """
        here = netns.current()
        entry: Entry
        if isinstance(key, FilterKey):
            entry = FilterEntry(key=key, interface=interface, netns=here, loaded_ns=loaded_ns)
        else:
            entry = XdpEntry(key=key, interface=interface, netns=here, loaded_ns=loaded_ns)
        self._entries[here, key] = entry
        self._add_lines(entry)

    def forget(self, keys: Iterable[Key]) -> None:
        """Strike attachments that are gone from the calling thread's network namespace."""
        here = netns.current()
        found = [self._entries.pop((here, key), None) for key in keys]
        with suppress(OSError):  # then it stays in the file, where who reads it finds that it is gone
            self._add_lines(*(_Struck(entry) for entry in found if entry is not None))

    def _add_lines(self, *lines: Entry | _Struck) -> None:
        if self._fd < 0 or not lines:
            return
        # a line break before each, too: an earlier one may be unfinished
        data = b"".join(b"\n" + msgspec.json.encode(line) + b"\n" for line in lines)
        _require_all(os.write(self._fd, data), data)
        self._lines += len(lines)
        if self._lines > 2 * len(self._entries) + _LINES_MAX:
            with suppress(OSError):  # then the file just stays longer than it needs to be
                self._write_anew()

    def close(self) -> None:
        """Release the lock, and remove the file if it lists nothing. Harmless the second time."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if not self._entries and os.getpid() == self._pid:
            self._path.unlink(missing_ok=True)
        os.close(fd)


# --- what others left ---


def _files(directory: Path, drafts: bool = False) -> list[Path]:
    try:
        require_own(directory.stat(follow_symlinks=False))  # otherwise others could have us remove what they like
        found = (path for path in directory.iterdir() if path.suffix == ".json")
        return sorted(path for path in found if path.name.startswith(".") == drafts)
    except OSError:
        return []


def _remove_drafts(directory: Path) -> None:
    """Remove files of runs that were killed before they renamed them, and so before they attached anything."""
    for path in _files(directory, drafts=True):
        pid = path.name[1:].partition("-")[0]
        # a living process may be about to lock its draft
        if pid.isdigit() and not Path("/proc", pid).exists():
            with _opened(path) as opened, suppress(OSError):
                if opened is not None and opened[1]:
                    path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, bool] | None]:
    """(descriptor, whether the lock was free and is now ours), or None if the file is gone or not a plain file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield fd, False
            return
        # somebody may have cleaned up between open and flock
        yield (fd, True) if os.fstat(fd).st_nlink else None
    finally:
        os.close(fd)


def _read(fd: int, path: Path) -> tuple[int, list[Entry]]:
    """Pid and attachments; none if this program did not write the file, or wrote it before this boot."""
    try:
        first, *lines = _whole(fd).split(b"\n")
        found = _first_line.decode(first)
    except ValueError:  # msgspec's errors are ValueErrors
        pid = path.name.partition("-")[0]
        return int(pid) if pid.isdigit() else 0, []
    if found.boot != boot_id():
        return found.pid, []
    entries = {(entry.netns, entry.key): entry for entry in found.attachments}
    for raw in lines:
        with suppress(ValueError):  # the end of a longer version, a line that was not finished, an empty one
            line = _line.decode(raw)
            if isinstance(line, _Struck):
                entries.pop((line.entry.netns, line.entry.key), None)
            else:
                entries[line.netns, line.key] = line
    return found.pid, list(entries.values())


def _whole(fd: int) -> bytes:
    parts: list[bytes] = []
    while part := os.pread(fd, min(1 << 20, _LIMIT - sum(map(len, parts))), sum(map(len, parts))):
        parts.append(part)
    return b"".join(parts)


def instances(directory: Path = RUN_DIR) -> list[InstanceFile]:
    """All known instances, running or killed."""
    found = []
    for path in _files(directory):
        with _opened(path) as opened:
            if opened is not None:
                pid, entries = _read(opened[0], path)
                found.append(InstanceFile(path, pid, not opened[1], entries))
    return found


def remove_leftovers(ifname: str | None = None, directory: Path = RUN_DIR) -> list[str]:
    """Remove what killed runs left, on one interface of this namespace or everywhere; returns sentences about it.

    Running instances and other programs stay untouched. Raises UsageError for an unknown interface.
    """
    ifindex = None if ifname is None else interfaces.find(ifname).index
    sentences: list[str] = []
    _remove_drafts(directory)
    for path in _files(directory):
        with _opened(path) as opened:
            if opened is None or not opened[1]:
                continue
            pid, entries = _read(opened[0], path)
            remaining = []
            for entry in entries:
                if ifindex is not None and (entry.netns != netns.current() or entry.key.ifindex != ifindex):
                    remaining.append(entry)
                    continue
                sentence, done = _remove(entry, pid)
                if sentence:
                    sentences.append(sentence)
                if not done:
                    remaining.append(entry)
            if remaining:
                _write(opened[0], pid, remaining)
            else:
                path.unlink(missing_ok=True)
    return sentences


def _remove(entry: Entry, pid: int) -> tuple[str | None, bool]:
    """(a sentence for the user, whether the entry is settled)."""
    what = f"the {_what(entry.key)} that process {pid} left on {entry.interface}"
    try:
        info = bpfsys.program_info_by_id(entry.key.program_id)
        if info is None or info.loaded_ns != entry.loaded_ns:
            return None, True  # the program is gone, so it is attached nowhere
    except PermissionError:
        # Looking up a program takes CAP_SYS_ADMIN, which the systemd unit lacks. The name of a filter shows that it is
        # ours, too: it has pid and start of its process. An XDP program has no such name.
        if isinstance(entry.key, XdpKey):
            return f"{what} may still be there; `sudo tfotrace detach` can check, and removes it", False
    try:
        if entry.netns == netns.current():
            removed = _remove_here(entry.key)
        else:
            path = netns.path_of(entry.netns)
            if path is None:
                where = f"its network namespace ({entry.netns}) cannot be reached from here"
                return f"{what} is still there, because {where}; it goes with that namespace", False
            removed = _in_namespace(path, lambda: _remove_here(entry.key))
    except OSError as error:
        return f"{what} could not be removed: {error.strerror}", False
    return (f"removed {what}" if removed else None), True


def _what(key: Key) -> str:
    if isinstance(key, XdpKey):
        return "XDP program"
    return "tc ingress filter" if key.parent == clsact.PARENT_INGRESS else "tc egress filter"


def _remove_here(key: Key) -> bool:
    return xdp.remove(key) if isinstance(key, XdpKey) else clsact.remove(key)


def _in_namespace(path: str, work: Callable[[], bool]) -> bool:
    """Do `work` in another network namespace, in a thread, since setns(2) moves only the calling thread."""
    from concurrent.futures import ThreadPoolExecutor  # here, since hardly any run needs it

    def run() -> bool:
        netns.enter(path)
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()
