"""What screens ask of the app that shows them, so that no screen imports the app."""

from __future__ import annotations

from typing import Protocol

from tracer.aggregate.figures import Peer
from tracer.store.snapshot import Snapshot


class Shell(Protocol):
    """The app as a screen sees it: the snapshot that is shown, ways to other screens, a place for short messages."""

    @property
    def shown(self) -> Snapshot:
        """The snapshot on the screen: the latest, or the one the view was frozen on."""
        ...

    @property
    def frozen(self) -> Snapshot | None:
        """The snapshot that the view was frozen on, if it is frozen."""
        ...

    @property
    def new(self) -> int:
        """Handshakes that came since the view was frozen."""
        ...

    def action_show(self, name: str) -> None:
        """Go to one of the five screens."""

    def open_detail(self, rows_position: int) -> None:
        """Open the detail of the handshake at a position of the list."""

    def show_handshakes_of(self, expression: str, peer: Peer) -> None:
        """Go to the handshakes of a peer, by the filter that lets them through."""

    def say(self, text: str, error: bool = False) -> None:
        """Show a short message over the screen; never markup."""
