"""TCP sockets that ask for ECN, though this host's clients do not (net.ipv4.tcp_ecn): no setting is changed for it.

Their SYNs are ECN-capable themselves, ECT(0) in the IP header, as those of DCTCP are: Linux servers answer these and
grant no ECN (tcp_ecn_create_request()), so they show whether such SYNs pass, and seldom more.

A BPF program of type SOCK_OPS on a private cgroup answers BPF_SOCK_OPS_NEEDS_ECN; a helper inside makes sockets and
hands them over, for a socket belongs to the cgroup that made it. Sources: include/uapi/linux/bpf.h, tcp_bpf_needs_ecn()
in include/net/tcp.h, cgroup_sk_alloc() in kernel/cgroup/cgroup.c.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock

from tracer.linux import bpfsys
from tracer.linux.cgroup import v2_mount

_SOCK_OPS = 13  # enum bpf_prog_type
_NEEDS_ECN = 6  # BPF_SOCK_OPS_NEEDS_ECN
_OP, _REPLY = 0, 4  # offsets in struct bpf_sock_ops
_LOAD, _STORE, _SET, _JUMP_UNLESS, _EXIT = 0x61, 0x63, 0xB7, 0x55, 0x95
_ANSWER_S = 5.0


def _instruction(code: int, target: int, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    """struct bpf_insn."""
    registers = source << 4 | target if sys.byteorder == "little" else target << 4 | source
    return struct.pack("=BBhi", code, registers, offset, constant)


PROGRAM = b"".join(
    (
        _instruction(_LOAD, 2, 1, _OP),  # r2 = ctx->op
        _instruction(_JUMP_UNLESS, 2, offset=2, constant=_NEEDS_ECN),
        _instruction(_SET, 3, constant=1),
        _instruction(_STORE, 1, 3, _REPLY),  # ctx->reply = 1
        _instruction(_SET, 0, constant=1),
        _instruction(_EXIT, 0),
    )
)


class EcnSockets:
    """Makes them, until it is closed. Begin it before there are threads: it forks.

    Raises OSError where this kernel or this container has no such cgroups.
    """

    def __init__(self) -> None:
        mount = v2_mount()
        if mount is None:
            raise FileNotFoundError("no cgroup v2 hierarchy")
        self._lock = Lock()
        self._socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_ANSWER_S)
        self._helper = os.fork()
        if not self._helper:
            self._socket.close()
            _keep(Path(mount), end)
        end.close()
        try:
            ready = self._socket.recv(64)
        except TimeoutError:
            ready = b""
        if ready != b"ready":
            self.close()
            raise OSError(int(ready or b"0"), "no private cgroup")

    def close(self) -> None:
        """The helper sees it, and removes the cgroup."""
        self._socket.close()
        with suppress(ChildProcessError):
            os.waitpid(self._helper, 0)

    def __enter__(self) -> EcnSockets:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def make(self, family: socket.AddressFamily) -> socket.socket:
        """A TCP socket. Raises OSError."""
        with self._lock:
            self._socket.send(bytes([family]))
            answer, descriptors, _, _ = socket.recv_fds(self._socket, 64, 1)
        if not descriptors:
            raise OSError(int(answer or b"0"), "no socket")
        return socket.socket(fileno=descriptors[0])


def _keep(mount: Path, end: socket.socket) -> None:
    """The helper: makes the cgroup, has a child in it, waits, removes it. Does not return."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the one that asks
    folder = mount / f"tfotrace-probe-{os.getpid()}"
    try:
        folder.mkdir()
        try:
            inside = os.fork()
            if not inside:
                _serve(folder, end)
            end.close()
            os.waitpid(inside, 0)
        finally:
            folder.rmdir()
    except OSError as error:
        with suppress(OSError):
            end.send(str(error.errno).encode())
    finally:
        os._exit(0)


def _serve(folder: Path, end: socket.socket) -> None:
    """Inside the cgroup: one socket for each byte, until the other end has gone. Does not return."""
    try:
        program = bpfsys.prog_load(_SOCK_OPS, "tfotrace_ecn", PROGRAM)
        cgroup = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        bpfsys.link_create_cgroup(program, cgroup, bpfsys.CGROUP_SOCK_OPS)  # lives as long as this process
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        end.send(b"ready")
        while asked := end.recv(1):
            try:
                with socket.socket(asked[0], socket.SOCK_STREAM) as made:
                    socket.send_fds(end, [b"0"], [made.fileno()])
            except OSError as error:  # noqa: PERF203 - each may fail by itself
                end.send(str(error.errno).encode())
    except OSError as error:
        with suppress(OSError):
            end.send(str(error.errno).encode())
    finally:
        os._exit(0)
