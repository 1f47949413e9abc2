"""Child processes that cannot outlive the lab, however its own process ends.

Three ties, because each alone has a gap: end of file on a pipe (works after the parent gave up root and may signal
nobody any more), PR_SET_PDEATHSIG (works if the child hangs, but depends on the parent THREAD and its privileges), and
getppid (covers a death between fork and prctl, and other children of the parent that inherited the pipe).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from tracer.linux.libc import checked, libc
from tracer.linux.parent import signal_at_parents_end

_PR_SET_NAME = 15  # include/uapi/linux/prctl.h
MESSAGE_MAX = 4096  # bytes of one control message
_WATCH_MS = 500


@dataclass(slots=True)
class Child:
    """A running child: its pid, and the parent's ends of its control socket and its lifeline."""

    pid: int
    control: socket.socket
    lifeline: int

    def end(self, patience_s: float = 2.0) -> None:
        """Cut the lifeline and wait for the process; after `patience_s` send SIGKILL. Never raises."""
        self.control.close()
        with suppress(BrokenPipeError):  # it has ended already
            os.write(self.lifeline, b"!")  # just closing is not enough if another child inherited our end
        os.close(self.lifeline)
        deadline = time.monotonic() + patience_s
        while not _reaped(self.pid):
            if time.monotonic() > deadline:
                with suppress(OSError):  # it was reaped elsewhere, or we may not signal it any more
                    os.kill(self.pid, signal.SIGKILL)
                    os.waitpid(self.pid, 0)
                return
            time.sleep(0.002)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody else waited for it
        return True


def spawn(name: str, main: Callable[[socket.socket], None], keep: Iterable[int] = ()) -> Child:
    """Fork a child that runs `main(control)` and then exits.

    It keeps only the descriptors of `keep`, so that none of the caller's pipes, maps or BPF links stay open in it. Call
    this before starting threads. An exception in `main` arrives as `fault ...`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    watched, lifeline = os.pipe()
    parent = os.getpid()
    # PR_SET_PDEATHSIG fires when the forking thread ends. Only the main thread's end is that of the process.
    tied = threading.current_thread() is threading.main_thread()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _become_child(name, parent, tied, {*keep, theirs.fileno(), watched}, watched)
            main(theirs)
            status = 0
        except BaseException as error:  # noqa: BLE001 - the parent reports it, whatever it is
            _send_fault(theirs, error)
        finally:
            os._exit(status)
    theirs.close()
    os.close(watched)
    return Child(pid, ours, lifeline)


def _become_child(name: str, parent: int, tied: bool, keep: set[int], watched: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl+c reaches the whole process group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if tied:
        signal_at_parents_end(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    checked(libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0), "prctl")  # at most 15 characters
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    for entry in os.listdir("/proc/self/fd"):
        descriptor = int(entry)
        if descriptor > 2 and descriptor not in keep:
            with suppress(OSError):  # listdir's own descriptor
                os.close(descriptor)
    threading.Thread(target=_watch, args=(watched, parent), daemon=True, name="lifeline").start()


def _watch(watched: int, parent: int) -> None:
    poll = select.poll()
    poll.register(watched, select.POLLIN | select.POLLHUP)
    while not poll.poll(_WATCH_MS) and os.getppid() == parent:
        pass
    os._exit(0)


def say(control: socket.socket, text: str) -> None:
    """Send a message to the parent. One that never reads must not stop the child: what has no room is dropped."""
    with suppress(BlockingIOError):
        control.send(text.encode()[:MESSAGE_MAX], socket.MSG_DONTWAIT)


def come_first() -> None:
    """Have this thread, and those that it starts, run as soon as they can.

    What a busy machine lets them wait would be part of the durations that the lab shows.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:  # where groups of processes have no share of real time
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)


def _send_fault(control: socket.socket, error: BaseException) -> None:
    with suppress(OSError):  # the parent is gone
        control.send(f"fault {type(error).__name__}: {error}".encode()[:MESSAGE_MAX])
