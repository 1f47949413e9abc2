"""Control groups by name: which service, container or session a process belongs to."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path

from tracer.linux.libc import libc

MOUNTS = Path("/proc/self/mounts")
ROOT_ID = 1

_HEX_ID = re.compile(r"[0-9a-f]{32,64}")
# names that container runtimes give: systemd's cgroup driver, LXC, machined, and the cgroupfs driver with a bare id
_CONTAINER = re.compile(
    r"(docker|libpod|crio|cri-containerd|containerd|buildkit|nerdctl)-[0-9a-f]{12,64}\.scope"
    r"|lxc\.payload\..+|machine-.+\.scope|[0-9a-f]{64}"
)  # fmt: skip
_UNIT = re.compile(r".+\.(service|scope)")


def name_of_path(path: str) -> str | None:
    """Whose a cgroup is, judged by its path: the innermost container, else the unit, else the last component.

    None for the root.
    """
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    if not parts:
        return None
    for pattern in (_CONTAINER, _UNIT):
        for place in reversed(range(len(parts))):
            if pattern.fullmatch(parts[place]):
                return _with_parent(parts, place)
    return _with_parent(parts, len(parts) - 1)


def _with_parent(parts: list[str], place: int) -> str:
    """Put the parent in front where it says what the name is: `docker/3f...`, `lxc/web`."""
    name = parts[place]
    if place and (_HEX_ID.fullmatch(name) or parts[place - 1] in ("lxc", "lxc.payload", "docker")):
        return f"{parts[place - 1]}/{name}"
    return name


def name_from_proc(text: str) -> str | None:
    """The same from /proc/PID/cgroup (cgroups(7)): by the v2 hierarchy, else by systemd's own."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number.isdigit() and path.startswith("/"):
            paths.setdefault("" if number == "0" else controllers, path)
    for key in ("", "name=systemd"):
        name = name_of_path(paths.get(key, "/"))
        if name is not None:
            return name
    return None


def v2_mount(mounts: Path = MOUNTS) -> str | None:
    """Where the v2 hierarchy is mounted; None if it is not."""
    with suppress(OSError):
        for line in mounts.read_text().splitlines():
            fields = line.split()
            if len(fields) > 2 and fields[2] == "cgroup2":
                return fields[1].encode().decode("unicode_escape")
    return None


# --- by number ---


class _Handle(ctypes.Structure):
    """struct file_handle (open_by_handle_at(2)) of a kernfs node, which holds its number."""

    _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("id", ctypes.c_uint64))


_KERNFS = 0xFE  # FILEID_KERNFS, include/linux/exportfs.h


class Groups:
    """Names by the cgroup's number in the v2 hierarchy. Needs root; without that hierarchy every answer is None."""

    def __init__(self, mounts: Path = MOUNTS) -> None:
        self._mount, self._path = -1, ""
        self._open = libc.open_by_handle_at
        self._open.argtypes = (ctypes.c_int, ctypes.POINTER(_Handle), ctypes.c_int)
        path = v2_mount(mounts)
        if path is not None:
            with suppress(OSError):
                self._mount = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._path = path

    def name(self, number: int) -> str | None:
        """The name of a cgroup; None if there is none with this number (any more), or it is the root."""
        if self._mount < 0 or number <= ROOT_ID:
            return None
        handle = _Handle(8, _KERNFS, number)
        fd = self._open(self._mount, ctypes.byref(handle), os.O_PATH | os.O_CLOEXEC)
        if fd < 0:
            return None
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return None
        finally:
            os.close(fd)
        if not path.startswith(self._path) or path.endswith(" (deleted)"):
            return None
        return name_of_path(path[len(self._path) :])

    def close(self) -> None:
        """Close the mount's descriptor."""
        if self._mount >= 0:
            os.close(self._mount)
            self._mount = -1
