"""The processes that own listening sockets."""

from __future__ import annotations

from tracer.linux.listener_options import Owner
from tracer.linux.proc import open_files, pids


def owners(inodes: set[int]) -> tuple[dict[int, list[Owner]], bool]:
    """Owners by the socket's inode, and whether there are processes whose descriptors we may not read."""
    found: dict[int, list[Owner]] = {}
    unseen = False
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    for pid in sorted(pids()):
        try:
            for fd, file in open_files(pid):
                if file in wanted:
                    found.setdefault(wanted[file], []).append((pid, fd))
        except PermissionError:  # noqa: PERF203 - the next process may allow it
            unseen = True
        except OSError:  # it has just ended
            continue
    return found, unseen
