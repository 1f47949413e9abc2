"""What /proc says about processes and this boot."""

from __future__ import annotations

import os
from collections.abc import Iterator

PROC = "/proc"


def boot_id() -> str:
    """A random number that the kernel draws at every boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def pids(proc: str = PROC) -> list[int]:
    """All visible processes."""
    return [int(name) for name in os.listdir(proc) if name.isdigit()]


def read_stat(pid: int, proc: str = PROC) -> tuple[int, int]:
    """Parent and start time of a process (proc(5), stat fields 4 and 22). Raises OSError and ValueError."""
    with open(f"{proc}/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    if len(fields) < 20:
        raise ValueError("cut short")
    return int(fields[1]), int(fields[19])


def read_name_and_uid(pid: int, proc: str = PROC) -> tuple[str, int]:
    """Name and effective user of a process. Raises OSError and ValueError.

    The owner of its folder may be another: root, if the process may not be dumped.
    """
    with open(f"{proc}/{pid}/comm", "rb") as file:
        name = file.read().rstrip(b"\n").decode("utf-8", "replace")
    with open(f"{proc}/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                return name, int(line.split()[2])
    raise ValueError("no uid")


def open_files(pid: int, proc: str = PROC) -> Iterator[tuple[int, str]]:
    """Each descriptor of a process and its file; "" if it was just closed. Raises OSError."""
    folder = f"{proc}/{pid}/fd"
    for name in os.listdir(folder):
        try:
            yield int(name), os.readlink(f"{folder}/{name}")
        except OSError:  # noqa: PERF203 - any may be closed
            yield int(name), ""
