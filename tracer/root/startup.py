"""What the root parts of tracing and of a replay have in common: how they wait, are told to end, and tell failures."""

from __future__ import annotations

import select
import signal
from collections.abc import Callable
from types import FrameType

from tracer.errors import ExitCode, TfotraceError
from tracer.ipc.messages import Channel, Failed
from tracer.loader.load import Loaded, Loader
from tracer.vocabulary.printable import printable


class LeaveError(Exception):
    """Nobody is left to trace for, or a signal said to end before there was anything to end."""


def end_by_signals(on_signal: Callable[[int, FrameType | None], None]) -> None:
    """SIGTERM and SIGHUP (not under nohup) go to `on_signal`; ctrl+c, which reaches the whole group, to nobody here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_signal)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, on_signal)


def await_loaded(loader: Loader, channel: Channel, is_over: Callable[[], bool] = lambda: False) -> Loaded:
    """Wait for the compiling child, which is gone afterwards, whatever happens.

    Raises:
        LeaveError: the user part has gone, or `is_over`.
        CannotTraceError: it failed.
    """
    poll = select.poll()
    poll.register(loader.fileno(), select.POLLIN)
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll(1000)}
        if channel.fileno() in ready or is_over():
            loader.kill()
            raise LeaveError
        if loader.fileno() in ready:
            return loader.result()


def telling(channel: Channel, work: Callable[[], None]) -> int:
    """Do `work`; returns the exit status. Whatever goes wrong is told to the user part."""
    try:
        work()
    except LeaveError:
        return 0
    except TfotraceError as error:
        channel.send(Failed(printable(str(error)), int(error.exit_code)))
        return int(error.exit_code)
    except OSError as error:
        channel.send(Failed(f"the kernel refuses: {error}", int(ExitCode.CANNOT_TRACE)))
        return int(ExitCode.CANNOT_TRACE)
    return 0
