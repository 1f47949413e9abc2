"""What the dashboard needs of the rest of the program: nothing but this."""

from __future__ import annotations

from typing import Protocol

from tracer.store.snapshot import Snapshot


class Engine(Protocol):
    """The source of snapshots. Every call returns at once and may come from the dashboard's thread at any time."""

    def snapshot(self) -> Snapshot:
        """Everything at this moment, immutable."""
        ...

    def clear(self) -> None:
        """Forget the handshakes and sums so far and count from here; collection goes on."""
        ...

    def stop(self) -> None:
        """Tracing may end: nobody looks any more. Called once, when the dashboard leaves."""
        ...
