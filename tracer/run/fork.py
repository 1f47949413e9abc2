"""The root part as a child of this process: fork it, wait until it is ready, see it end."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tracer.errors import CannotTraceError, EndedEarlyError, UsageError
from tracer.ipc.messages import Channel, Failed, InterfacesChanged, Ready, channel_pair

if TYPE_CHECKING:
    from tracer.ipc.traced import TracedInterface
    from tracer.ring.open import Sources
    from tracer.run.stop import StopRequest

_LOOK_S = 0.01  # how often we see whether the root part has ended
_STOPPED_S = 1.0  # so long stopped, and it is not just the last of a group to continue


def fork(body: Callable[[], int]) -> int:
    """Run `body`, which returns an exit status, in a child; return the child's process id."""
    sys.stderr.flush()
    gc.freeze()  # a collection writes to every object it visits, and then the processes no longer share the page
    child = os.fork()
    if child == 0:
        status = 3
        try:
            status = body()
        finally:
            # whatever happened, none of the parent's code may run in this process
            sys.stderr.flush()
            os._exit(status)
    return child


@contextmanager
def root_child(body: Callable[[Channel], int], *, reopens: bool = False) -> Iterator[Channel]:
    """Run `body` in a child that stays root. Inside, this process has the channel to it; at the end the child is gone.

    `reopens`: SIGHUP asks for files to be reopened, and the child ignores it.
    """
    root_end, user_end = channel_pair()

    def child_body() -> int:
        user_end.close()
        # ctrl+c reaches the whole group; the user part decides. LLVM has a handler of its own in the compiling child
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if reopens:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the user part decides
        return body(root_end)

    child = fork(child_body)
    root_end.close()
    try:
        yield user_end
    finally:
        user_end.close()
        _wait(child)


def _wait(child: int) -> None:
    """See the root part end, unless somebody has stopped it (SIGSTOP): it detaches and ends once it continues."""
    running = time.monotonic()  # when it last was
    while not _has_ended(child):
        if not _is_stopped(child):
            running = time.monotonic()
        elif time.monotonic() - running > _STOPPED_S:
            how = f"it detaches and ends once `kill -CONT {child}` continues it"
            raise EndedEarlyError(f"the root part is stopped (process {child}): {how}")
        time.sleep(_LOOK_S)


def _has_ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG) != (0, 0)
    except ChildProcessError:  # whoever started us ignores SIGCHLD, so the kernel keeps no status
        return True


def _is_stopped(child: int) -> bool:
    try:
        # the state comes behind the name, which may contain anything
        return Path(f"/proc/{child}/stat").read_bytes().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False


def await_ready(channel: Channel, stop: StopRequest) -> tuple[Ready, Sources] | None:
    """The root part's first message and the rings that come with it; None if a signal came before it."""
    from tracer.ring.open import open_sources

    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    earlier: list[TracedInterface] = []
    while True:
        while stop.reason is None and not poll.poll(100):
            pass
        message, fds = channel.from_root() if stop.reason is None else (None, [])
        if not isinstance(message, InterfacesChanged):
            break
        earlier += message.there
    if isinstance(message, Ready):
        whole = msgspec.structs.replace(message, interfaces=[*earlier, *message.interfaces])
        return whole, open_sources(message, fds)
    if stop.reason is not None:
        return None  # the same signal may have ended the root part or what it waited for
    if isinstance(message, Failed):
        raise _failure(message)
    raise CannotTraceError("the root part ended before tracing began")


def _failure(message: Failed) -> CannotTraceError | UsageError | EndedEarlyError:
    for kind in (UsageError, EndedEarlyError):
        if kind.exit_code == message.exit_code:
            return kind(message.text)
    return CannotTraceError(message.text)
