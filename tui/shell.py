"""What screens need from the app, so that no screen imports the app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tracer.aggregate.figures import Peer
from tracer.aggregate.history import Window
from tracer.store.snapshot import Snapshot
from tui.actions import Action


class Shell(Protocol):
    """The app as seen by a screen: the snapshot shown, ways to other screens, short messages."""

    @property
    def actions(self) -> Sequence[Action]:
        """All actions with the user's keys."""
        ...

    @property
    def shown(self) -> Snapshot:
        """The snapshot on the screen: the latest, or the one the view was frozen on."""
        ...

    @property
    def frozen(self) -> Snapshot | None:
        """The snapshot that the view is frozen on, or None."""
        ...

    @property
    def new(self) -> int:
        """How many handshakes came since the view was frozen."""
        ...

    @property
    def window(self) -> Window:
        """Which handshakes screens sum up."""
        ...

    def action_show(self, name: str) -> None:
        """Go to one of the five screens, or to one under them."""

    def open_detail(self, rows_position: int) -> None:
        """Open the detail of the handshake at a position of the list."""

    def show_handshakes_of(self, expression: str, peer: Peer | None = None) -> None:
        """Show the handshakes that a filter finds; esc on them comes back to the screen that asks.

        `peer` is given if they are those of one peer.
        """

    def say(self, text: str, error: bool = False) -> None:
        """Show a short message over the screen; never markup."""
