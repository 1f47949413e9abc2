"""What the root parts of a live run and of a replay share: how they wait, end on signals and report failures."""

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
    """The user part is gone, or a signal came before tracing began."""


def end_by_signals(on_signal: Callable[[int, FrameType | None], None]) -> None:
    """Handle SIGTERM and SIGHUP (not under nohup) by `on_signal`; ignore ctrl+c, which reaches the whole group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_signal)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, on_signal)


def await_loaded(loader: Loader, channel: Channel, is_over: Callable[[], bool] = lambda: False) -> Loaded:
    """Wait for the loading child. It is gone afterwards, whatever happens.

    Raises:
        LeaveError: the user part is gone, or `is_over`.
        CannotTraceError: the child failed.
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


def reporting(channel: Channel, work: Callable[[], None]) -> int:
    """Do `work` and report every failure to the user part; returns the exit status."""
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
