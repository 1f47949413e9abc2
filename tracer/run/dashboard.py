"""A run with the dashboard: the pipeline in a thread, the dashboard in front, one store between them.

The dashboard is imported by name when it is wanted: tracer does without it, and without textual.
"""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracer.linux.allocator import give_back_at_once

if TYPE_CHECKING:
    from tracer.run.stop import StopRequest
    from tracer.store.snapshot import Snapshot
    from tracer.store.store import Store

APP = "tui.app"
TURN_S = 0.001  # how long one thread may run Python while the other waits


def is_wanted(options: Namespace) -> bool:
    """On a terminal, unless another form was asked for."""
    return not (options.json or options.text or options.quiet) and sys.stdin.isatty() and sys.stdout.isatty()


def load() -> Any:
    """Import the dashboard: it takes a third of a second, while the kernel programs compile."""
    gc.disable()  # until the dashboard has made its screens, which switches it on again (tui/app.py)
    return importlib.import_module(APP)


@dataclass(frozen=True, slots=True)
class _Engine:
    """What the dashboard needs (tui/engine.py)."""

    store: Store
    request: StopRequest

    def snapshot(self) -> Snapshot:
        return self.store.snapshot()

    def clear(self) -> None:
        self.store.clear()

    def stop(self) -> None:
        self.request.reason = self.request.reason or "quit"


def run(
    app: Any, work: Callable[[], int], store: Store, request: StopRequest, *, leave_when_ended: bool, filter_text: str
) -> int:
    """Do `work` behind the dashboard until it is left; returns the exit status. `filter_text` is what `/` starts with.

    Raises:
        Exception: any failure of either, once the terminal is restored and the programs are detached.
    """
    codes: list[int] = []
    failures: list[BaseException] = []

    def trace() -> None:
        try:
            codes.append(work())
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            failures.append(error)
            store.end(f"{'tracing' if store.replay_of is None else 'the replay'} broke off: {error}", early=True)

    # this thread answers keys: it must not wait 5 ms for each turn while the pipeline computes
    sys.setswitchinterval(TURN_S)
    give_back_at_once()
    thread = threading.Thread(target=trace, name="pipeline")
    thread.start()
    try:
        app.run(_Engine(store, request), leave_when_ended=leave_when_ended, filter_text=filter_text)
    finally:
        request.reason = request.reason or "quit"
        thread.join()
    if failures:
        raise failures[0]
    return codes[0]
