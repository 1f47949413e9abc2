"""What /proc says of processes."""

from __future__ import annotations

PROC = "/proc"


def read_stat(pid: int, proc: str = PROC) -> tuple[int, int]:
    """Parent and start time of a process (proc(5), stat fields 4 and 22). Raises OSError and ValueError."""
    with open(f"{proc}/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    if len(fields) < 20:
        raise ValueError("cut short")
    return int(fields[1]), int(fields[19])


def effective_uid(status: bytes) -> int:
    """Of /proc/PID/status: the folder's owner is root for what may not be dumped. Raises ValueError."""
    for line in status.split(b"\n"):
        if line.startswith(b"Uid:"):
            return int(line.split()[2])
    raise ValueError("no uid")
