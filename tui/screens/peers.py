"""3 Peers: one row per server, or client if this host is the server; enter shows its handshakes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from rich.cells import cell_len

from tracer.aggregate.figures import Peer
from tracer.aggregate.worth import difference, difference_words
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.fates import FAILED_WORDS, brief_cause, failed_words
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.printable import plural
from tracer.vocabulary.vocabulary import Difference
from tracer.words.signs import group_sign
from tui.format import count, duration
from tui.handshake_rows import outcome_cell
from tui.lines import Part, safe
from tui.screens.ranked import (
    NEVER,
    Ranked,
    RankedColumn,
    ago_column,
    cause_column,
    count_column,
    known,
    share_column,
)
from tui.widgets.comparison import STYLES
from tui.widgets.row_list import ListColumn

PeerColumn = RankedColumn[Peer]
_LAST_CELLS = 29  # of the longest words; only ", died" may be too much


def address(peer: Peer) -> str:
    """Address and port, an IPv6 address in brackets."""
    return peer.ip if peer.port is None else endpoint_text(peer.ip, peer.port)


def expression(peer: Peer) -> str:
    """The filter for this peer's handshakes."""
    text = f"{peer.role}.ip == {peer.ip}"
    return text if peer.port is None else f"{text} and {peer.role}.port == {peer.port}"


def _outcome(peer: Peer, _: int) -> Part:
    result, cause = peer.last_result or "", peer.last_cause
    # as in the list of handshakes what failed is never grey; there is less room, and a cause says more than a result
    words = safe(failed_words(result) if cause is None else brief_cause(cause))
    if result in FAILED_WORDS and (cause is not None or peer.last_group != "failed"):
        return (f"{group_sign('failed')} {words}", "failed")
    if cause is not None and peer.last_outcome == "not_attempted":
        return (f"{group_sign('degraded')} {words}", "degraded")
    text, style = outcome_cell(in_words(peer.last_outcome or "unknown"), peer.last_outcome, peer.last_group)
    if cell_len(text) > _LAST_CELLS:  # only of a connection that failed after it was established
        text = f"{group_sign('failed')} established, died"
    return text, style


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
    return peer.sooner_us if is_benefit and peer.sooner_us is not None else NEVER


def _samples(peer: Peer, _: int) -> Part:
    """How many responses with TFO and without are compared."""
    both = f"{count(peer.tfo_samples)}/{count(peer.normal_samples)}"
    return (both if peer.tfo_samples or peer.normal_samples else "-", "dim")


def _fewest(peer: Peer) -> float:
    return min(peer.tfo_samples, peer.normal_samples)


_ADDRESS = RankedColumn(
    ListColumn("peer", "Peer", 21, middle=True), lambda p, _: (address(p), "strong"), address, False
)
_NAME: PeerColumn = RankedColumn(
    ListColumn("name", "Name", 16), lambda p, _: (safe(p.name or "-"), "text"), lambda p: p.name or "", False
)
_HANDSHAKES: PeerColumn = count_column("handshakes", "Seen", 7, "text")
_ATTEMPTS: PeerColumn = count_column("attempts", "TFO", 7, "text")
_ACCEPTED: PeerColumn = share_column("accepted", "Accepted", 8)
_LIVED: PeerColumn = share_column("lived", "Lived", 7)
_FALLBACKS: PeerColumn = count_column("fallbacks", "Fallback", 8, "degraded")
_FAILED: PeerColumn = count_column("failed", "TFO ✗", 6, "failed")
_UNFINISHED: PeerColumn = count_column("handshakes_failed", "Failed", 6, "failed")
_CAUSE: PeerColumn = cause_column("handshakes_failed")
_CHANGES: PeerColumn = count_column("cookie_changes", "Cookies", 7, "degraded")
_RTT: PeerColumn = RankedColumn(
    ListColumn("rtt", "RTT", 8, True), lambda p, _: (duration(p.rtt_median_us), "text"), known("rtt_median_us")
)
_SAVED = RankedColumn(ListColumn("saved", "Saved", 9, True), _saved, known("saved_us"))
_LOST = RankedColumn(ListColumn("delay", "SYNs lost", 9, True), _lost, known("delay_us"))
_SOONER = RankedColumn(ListColumn("sooner", "First answer", _SOONER_CELLS), _sooner, _sooner_key)
_SAMPLES = RankedColumn(ListColumn("samples", "Samples", 9, True), _samples, _fewest)
_SEEN: PeerColumn = ago_column()
_LAST = RankedColumn(
    ListColumn("outcome", "Last outcome", _LAST_CELLS), _outcome, lambda p: p.last_outcome or "", False
)

# what the last outcome says is never cut, nor is a cause
BY_WIDTH: tuple[tuple[int, tuple[PeerColumn, ...]], ...] = (
    (221, (_ADDRESS, _NAME, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FALLBACKS, _FAILED,
           _CHANGES, _RTT, _SAVED, _LOST, _SOONER, _SAMPLES, _SEEN, _LAST)),
    (197, (_ADDRESS, _NAME, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FAILED, _RTT, _SAVED,
           _LOST, _SOONER, _SAMPLES, _LAST)),
    (169, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FALLBACKS, _FAILED, _RTT,
           _SAVED, _SOONER, _LAST)),
    (154, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FALLBACKS, _FAILED, _RTT, _SAVED,
           _LAST)),
    (135, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _CAUSE, _ATTEMPTS, _ACCEPTED, _LIVED, _FAILED, _RTT, _LAST)),
    (120, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _CAUSE, _ACCEPTED, _LIVED, _RTT, _LAST)),
    (93, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _ACCEPTED, _LIVED, _RTT, _LAST)),
    (0, (_ADDRESS, _HANDSHAKES, _UNFINISHED, _LIVED, _LAST)),
)  # fmt: skip


class Peers(Ranked[Peer]):
    """The list of peers."""

    NAME = "peers"
    EMPTY = "no peer yet"

    def columns_for(self, cells: int) -> Sequence[RankedColumn[Peer]]:
        """As many as fit."""
        return next(found for least, found in BY_WIDTH if cells >= least)

    def things_of(self, snapshot: Snapshot) -> Sequence[Peer]:
        """Servers and clients."""
        return snapshot.peers

    def words_of(self, things: Sequence[Peer], snapshot: Snapshot) -> str:  # noqa: ARG002 - all of the run
        """How many servers and clients."""
        servers = sum(peer.role == "server" for peer in things)
        text = f"{count(servers)} {plural(servers, 'server')}"
        if len(things) > servers:
            text += f", {count(len(things) - servers)} clients of this host"
        return f"{text}  ·  all handshakes"

    def hint(self, snapshot: Snapshot) -> str:
        """Where this host is a server, the way to its listeners too."""
        key = next(one.shown for one in self.shell.actions if one.id == "listeners")
        return f"{key}: listeners" if snapshot.listeners else super().hint(snapshot)

    def key_of(self, thing: Peer) -> Hashable:
        """Role, address and port."""
        return thing.role, thing.ip, thing.port

    def title_of(self, thing: Peer) -> str:
        """Its address."""
        return address(thing)

    def drill(self, thing: Peer) -> None:
        """Show its handshakes, which the list compares."""
        self.shell.show_handshakes_of(expression(thing), thing)
