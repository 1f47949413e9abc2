"""All that the dashboard needs from the rest of the program."""

from __future__ import annotations

from typing import Protocol

from tracer.store.snapshot import Snapshot


class Engine(Protocol):
    """The source of snapshots. Every call returns at once; the dashboard's thread may call at any time."""

    def snapshot(self) -> Snapshot:
        """The current state, immutable."""
        ...

    def clear(self) -> None:
        """Forget all handshakes and sums and count from now on; collection goes on."""
        ...

    def stop(self) -> None:
        """Tracing may end. Called once, when the user leaves the dashboard."""
        ...
