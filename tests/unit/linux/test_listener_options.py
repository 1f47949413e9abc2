"""Options of a listening socket by a copy of its descriptor, and who may not even try to get one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tracer.linux import listener_options

# a filter like systemd's SystemCallFilter: pidfd_getfd (438 everywhere but on alpha) ends the process or is refused
FILTERED = """
import ctypes, struct, sys
from tracer.linux.libc import libc
from tracer.linux.listener_options import may_be_copied
code = b"".join(struct.pack("=HBBI", *one) for one in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 438), (0x06, 0, 0, int(sys.argv[1], 16)), (0x06, 0, 0, 0x7FFF0000)))
buffer = ctypes.create_string_buffer(code, len(code))
program = struct.pack("HP", 4, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
print(may_be_copied())
"""


def test_ones_own_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setsockopt(socket.IPPROTO_TCP, 23, 7)
        owner, inode = (os.getpid(), made.fileno()), os.fstat(made.fileno()).st_ino
        found = listener_options.ask(owner, inode)
        assert found is not None
        assert (found.queue, found.own_keys, found.no_cookie) == (7, 0, False)
        made.setsockopt(socket.IPPROTO_TCP, 33, bytes(range(32)))
        assert listener_options.of_copy(owner, inode, listener_options.own_keys) == (
            bytes(range(16)), bytes(range(16, 32))
        )  # fmt: skip
        assert listener_options.ask(owner, inode + 1) is None
        open_before = len(os.listdir("/proc/self/fd"))
        listener_options.ask(owner, inode)
        listener_options.ask(owner, inode + 1)
        assert len(os.listdir("/proc/self/fd")) == open_before


def test_without_a_filter_it_may() -> None:
    assert listener_options.may_be_copied()


@pytest.mark.parametrize(("action", "may"), [("80000000", False), ("00000000", False), ("00050001", False),
                                             ("7fff0000", True)])  # fmt: skip
def test_a_filter_of_system_calls_is_tried_by_a_child(action: str, may: bool) -> None:
    """Kill the process, kill the thread, refuse with EPERM, allow."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", FILTERED, action], cwd=root, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(may)


def test_where_proc_is_not_there_nothing_is_tried(tmp_path: Path) -> None:
    assert not listener_options.may_be_copied(tmp_path / "status")
