"""3 Peers: one row per server, or client if this host is the server; enter shows its handshakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tracer.aggregate.figures import Peer
from tracer.aggregate.worth import difference, difference_words
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.fates import FAILED_WORDS, brief_cause, failed_words
from tracer.vocabulary.printable import plural
from tracer.vocabulary.vocabulary import Difference
from tui.export import json_text
from tui.format import clock, count, duration, share
from tui.handshake_rows import outcome_cell
from tui.lines import Part, cut, group_sign, safe
from tui.screens.base import TracerScreen
from tui.widgets.comparison import STYLES
from tui.widgets.row_list import ListColumn, RowList

_NEVER = float("-inf")
_LAST_WORD = "~"  # sorts behind all words


def address(peer: Peer) -> str:
    """Address and port, an IPv6 address in brackets."""
    return peer.ip if peer.port is None else endpoint_text(peer.ip, peer.port)


def expression(peer: Peer) -> str:
    """The filter for this peer's handshakes."""
    text = f"{peer.role}.ip == {peer.ip}"
    return text if peer.port is None else f"{text} and {peer.role}.port == {peer.port}"


@dataclass(frozen=True, slots=True)
class PeerColumn:
    """How a column shows a peer and sorts by it. `falls`: the greatest first."""

    column: ListColumn
    text: Callable[[Peer, int], Part]
    key: Callable[[Peer], float | str]
    falls: bool = True


def _outcome(peer: Peer, _: int) -> Part:
    result, cause = peer.last_result or "", peer.last_cause
    # as in the list of handshakes what failed is never grey; there is less room, and a cause says more than a result
    words = safe(failed_words(result) if cause is None else brief_cause(cause))
    if result in FAILED_WORDS and (cause is not None or peer.last_group != "failed"):
        return (f"{group_sign('failed')} {words}", "failed")
    if cause is not None and peer.last_outcome == "not_attempted":
        return (f"{group_sign('degraded')} {words}", "degraded")
    return outcome_cell((peer.last_outcome or "unknown").replace("_", " "), peer.last_outcome, peer.last_group)


def _saved(peer: Peer, _: int) -> Part:
    return (duration(peer.saved_us) if peer.saved_us else "-", "ok" if peer.saved_us else "dim")


def _lost(peer: Peer, _: int) -> Part:
    return (duration(peer.delay_us) if peer.delay_us else "-", "degraded" if peer.delay_us else "dim")


_SOONER_CELLS = 14


def _sooner(peer: Peer, _: int) -> Part:
    """How much sooner the first response comes with TFO than without."""
    return (difference_words(peer, _SOONER_CELLS), STYLES[difference(peer)])


def _sooner_key(peer: Peer) -> float:
    """What chance or others may have made is no benefit to sort by."""
    is_benefit = difference(peer) in (Difference.SOONER, Difference.LATER)
    return peer.sooner_us if is_benefit and peer.sooner_us is not None else _NEVER


def _samples(peer: Peer, _: int) -> Part:
    """How many responses with TFO and without are compared."""
    both = f"{count(peer.tfo_samples)}/{count(peer.normal_samples)}"
    return (both if peer.tfo_samples or peer.normal_samples else "-", "dim")


def _fewest(peer: Peer) -> float:
    return min(peer.tfo_samples, peer.normal_samples)


def _ago(peer: Peer, now_ns: int) -> Part:
    return (clock(max(0, now_ns - peer.last_seen_ns) / 1e9), "dim")


def _known(name: str) -> Callable[[Peer], float]:
    """A number of a peer; what is not known is the least."""
    return lambda peer: _NEVER if getattr(peer, name) is None else getattr(peer, name)


def _count(name: str, title: str, width: int, style: str) -> PeerColumn:
    def text(peer: Peer, _: int) -> Part:
        value = getattr(peer, name)
        return (count(value), style if value else "dim")

    return PeerColumn(ListColumn(name, title, width, True), text, _known(name))


def _share(name: str, title: str, width: int) -> PeerColumn:
    """A part of the SYNs with data."""

    def ratio(peer: Peer) -> float:
        part: int = getattr(peer, name)
        return part / peer.with_data if peer.with_data else _NEVER

    def text(peer: Peer, _: int) -> Part:
        if not peer.with_data:
            return ("-", "dim")
        style = "ok" if ratio(peer) >= 0.95 else "degraded" if ratio(peer) > 0 else "failed"
        return (share(getattr(peer, name), peer.with_data), style)

    return PeerColumn(ListColumn(name, title, width, True), text, ratio)


def _cause(cells: int) -> PeerColumn:
    """The most frequent cause of its handshakes."""

    def text(peer: Peer, _: int) -> Part:
        if peer.cause is None:
            return ("-", "dim")
        return (safe(brief_cause(peer.cause)), "failed" if peer.handshakes_failed else "degraded")

    return PeerColumn(ListColumn("cause", "Mostly since", cells), text, lambda peer: peer.cause or _LAST_WORD, False)


_ADDRESS = PeerColumn(ListColumn("peer", "Peer", 22), lambda p, _: (address(p), "strong"), address, False)
_NAME = PeerColumn(
    ListColumn("name", "Name", 16), lambda p, _: (safe(p.name or "-"), "text"), lambda p: p.name or "", False
)
_HANDSHAKES = _count("handshakes", "Seen", 7, "text")
_ATTEMPTS = _count("attempts", "TFO", 7, "text")
_ACCEPTED = _share("accepted", "Accepted", 8)
_LIVED = _share("lived", "Lived", 7)
_FALLBACKS = _count("fallbacks", "Fallback", 8, "degraded")
_FAILED = _count("failed", "TFO ✗", 6, "failed")
_UNFINISHED = _count("handshakes_failed", "Failed", 6, "failed")
_CAUSE = _cause(17)
_CHANGES = _count("cookie_changes", "Cookies", 7, "degraded")
_RTT = PeerColumn(
    ListColumn("rtt", "RTT", 8, True), lambda p, _: (duration(p.rtt_median_us), "text"), _known("rtt_median_us")
)
_SAVED = PeerColumn(ListColumn("saved", "Saved", 9, True), _saved, _known("saved_us"))
_LOST = PeerColumn(ListColumn("delay", "SYNs lost", 9, True), _lost, _known("delay_us"))
_SOONER = PeerColumn(ListColumn("sooner", "First answer", _SOONER_CELLS), _sooner, _sooner_key)
_SAMPLES = PeerColumn(ListColumn("samples", "Samples", 9, True), _samples, _fewest)
_SEEN = PeerColumn(ListColumn("last", "Ago", 5, True), _ago, _known("last_seen_ns"))
_LAST = PeerColumn(ListColumn("outcome", "Last outcome", 22), _outcome, lambda p: p.last_outcome or "", False)

BY_WIDTH: tuple[tuple[int, tuple[PeerColumn, ...]], ...] = (
    (200, (_ADDRESS, _NAME, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FALLBACKS, _FAILED,
           _CHANGES, _RTT, _SAVED, _LOST, _SOONER, _SAMPLES, _SEEN, _LAST)),
    (173, (_ADDRESS, _NAME, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FALLBACKS, _FAILED,
           _CHANGES, _RTT, _SAVED, _SOONER, _LAST)),
    (150, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FALLBACKS, _FAILED, _RTT,
           _SAVED, _SOONER, _LAST)),
    (132, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FALLBACKS, _FAILED, _RTT, _SAVED,
           _LAST)),
    (115, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FAILED, _RTT, _LAST)),
    (0, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _ACCEPTED, _LIVED, _RTT, _LAST)),
)  # fmt: skip


@dataclass(slots=True)
class PeerRows:
    """A RowSource over peers in order."""

    columns: tuple[PeerColumn, ...] = ()
    peers: Sequence[Peer] = ()
    now_ns: int = 0

    def __len__(self) -> int:
        return len(self.peers)

    def cells(self, position: int) -> Sequence[Part]:
        """Text and style of each column."""
        peer = self.peers[position]
        return [one.text(peer, self.now_ns) for one in self.columns]


class Peers(TracerScreen):
    """The list of peers."""

    NAME = "peers"
    AUTO_FOCUS = "RowList"

    def __init__(self) -> None:
        super().__init__()
        self.list = RowList(empty="no peer yet", id="peer-list")
        self.state = Static("", id="list-state")
        self.source = PeerRows()
        self.sort, self.descending = "handshakes", True
        self._shown_of: tuple[object, ...] = ()

    def body(self) -> Iterable[Widget]:
        """The state, then the list."""
        yield self.state
        yield self.list

    def update(self, snapshot: Snapshot) -> None:
        """Sort, and keep the selected peer."""
        columns = next(found for least, found in BY_WIDTH if self.size.width >= least)
        wanted = (snapshot.peers, self.size.width, self.sort, self.descending)
        if wanted == self._shown_of:
            return
        selected = self._selected()
        self._shown_of = wanted
        by = {one.column.id: one for one in columns}
        if self.sort not in by:
            self.sort, self.descending = "handshakes", True
        key = by[self.sort].key
        peers = sorted(snapshot.peers, key=key, reverse=self.descending)
        self.source = PeerRows(columns, peers, snapshot.taken_ns)
        self.list.set_columns([one.column for one in columns], (self.sort, self.descending))
        at = next((at for at, peer in enumerate(peers) if _key(peer) == selected), 0)
        self.list.show(self.source, at, keep_view=selected is not None)
        servers = sum(peer.role == "server" for peer in peers)
        text = f"{count(servers)} {plural(servers, 'server')}"
        if len(peers) > servers:
            text += f", {count(len(peers) - servers)} clients of this host"
        text += f"  ·  all handshakes  ·  by {by[self.sort].column.title.lower()} {'▼' if self.descending else '▲'}"
        hint = "  ·  enter: its handshakes"
        room = max(10, self.size.width - 2)
        self.state.update(Content(text + hint if len(text + hint) <= room else cut(text, room)), layout=False)

    def _selected(self) -> tuple[str, str, int | None] | None:
        peer = self.peer
        return None if peer is None else _key(peer)

    @property
    def peer(self) -> Peer | None:
        """The selected peer."""
        return self.source.peers[self.list.cursor] if self.list.cursor < len(self.source) else None

    def _sort_by(self, column: str, descending: bool) -> None:
        self.sort, self.descending = column, descending
        if self.snapshot is not None:
            self.update(self.snapshot)

    def on_row_list_heading(self, event: RowList.Heading) -> None:
        """Sort by the clicked heading, or reverse the order."""
        if event.column == self.sort:
            self.action_sort_reverse()
            return
        self._sort_by(event.column, next(one.falls for one in self.source.columns if one.column.id == event.column))

    def on_row_list_opened(self) -> None:
        """Show the peer's handshakes on a second click."""
        self.action_drill()

    def action_sort_next(self) -> None:
        """Sort by the next column."""
        columns = self.source.columns
        if columns:
            ids = [one.column.id for one in columns]
            following = columns[(ids.index(self.sort) + 1) % len(ids)]
            self._sort_by(following.column.id, following.falls)

    def action_sort_reverse(self) -> None:
        """Reverse the order."""
        self._sort_by(self.sort, not self.descending)

    def action_drill(self) -> None:
        """Show the handshakes of the selected peer."""
        if self.peer is not None:
            self.shell.show_handshakes_of(expression(self.peer), self.peer)

    def action_copy(self) -> None:
        """Copy the selected row as JSON."""
        if self.peer is not None:
            self.app.copy_to_clipboard(json_text(self.peer))
            self.shell.say(f"copied {address(self.peer)} as JSON")


def _key(peer: Peer) -> tuple[str, str, int | None]:
    return peer.role, peer.ip, peer.port
