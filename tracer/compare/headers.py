"""What was changed in SYNs and SYN-ACKs that both places saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tracer.compare.join import Joined
from tracer.compare.model import Finding, Towards
from tracer.compare.place import Rows
from tracer.dissect.options import option_names
from tracer.handshake import ecn
from tracer.handshake.events import has
from tracer.vocabulary.addresses import endpoint_text, ip_text
from tracer.vocabulary.changes import Piece, What
from tracer.vocabulary.vocabulary import Has

Bool = NDArray[np.bool_]
EXAMPLES = 3
KINDS_MAX = 8  # of one change, by their values; the others are told as one


class Findings:
    """Collects them for the handshakes of a comparison."""

    def __init__(self, near: Rows) -> None:
        self._near = near
        self.list: list[Finding] = []

    def tell(
        self, what: What, piece: Piece, towards: Towards, happened: Bool, could: Bool | int, *,
        before: str | None = None, after: str | None = None, count: int | None = None, certain: bool = True,
    ) -> None:  # fmt: skip
        """One kind, if it happened at all; `count` where a handshake can have several."""
        rows = np.flatnonzero(happened)
        if not len(rows):
            return
        number = len(rows) if count is None else count
        of = could if isinstance(could, int) else int(np.count_nonzero(could))
        ids = tuple(f"{one:016x}" for one in self._near["id"][rows[:EXAMPLES]].tolist())
        self.list.append(Finding(what, piece, towards, before, after, number, of, certain, ids, self._servers(rows)))

    def values(
        self, what: What, piece: Piece, towards: Towards, compared: Bool, before: NDArray[np.generic],
        after: NDArray[np.generic], say: Callable[[int], str],
    ) -> None:  # fmt: skip
        """One finding for each pair of values that differ; the rare ones together."""
        differ = compared & (before != after)
        rows = np.flatnonzero(differ)
        pairs = Counter(zip(before[rows].tolist(), after[rows].tolist(), strict=True))
        rest = differ.copy()
        for (old, new), _ in pairs.most_common(KINDS_MAX):
            these = differ & (before == old) & (after == new)
            rest &= ~these
            if say(old) != say(new):
                self.tell(what, piece, towards, these, compared, before=say(old), after=say(new))
        self.tell(what, piece, towards, rest, compared)

    def _servers(self, rows: NDArray[np.intp]) -> tuple[str, ...]:
        some = self._near[rows[:1000]]
        counted = Counter(zip((one.tobytes() for one in some["server"]), some["server_port"].tolist(), strict=True))
        return tuple(endpoint_text(ip_text(ip), port) for (ip, port), _ in counted.most_common(EXAMPLES))


def compare_headers(joined: Joined, layouts: Sequence[bytes], answered: Bool, findings: Findings) -> None:
    """Tell what was changed. `answered`: somebody in between answered, so that both places saw different segments."""
    pieces = ((Piece.SYN, Towards.SERVER, joined.same_syn), (Piece.SYNACK, Towards.CLIENT, joined.same_synack))
    for piece, towards, same in pieces:
        compared = same & ~answered
        near, far = joined.near[piece.value], joined.far[piece.value]
        before, after = (near, far) if towards is Towards.SERVER else (far, near)
        _options(before["options"], after["options"], layouts, compared, piece, towards, findings)
        for flag, name, what in (
            (Has.MSS, "mss", What.MSS_CHANGED), (Has.WSCALE, "wscale", What.WSCALE_CHANGED),
            (Has.TFO, "cookie_len", What.COOKIE_CHANGED),
        ):  # fmt: skip
            both = compared & has(before["has"], flag) & has(after["has"], flag)
            findings.values(what, piece, towards, both, before[name], after[name], str)
        findings.values(What.WINDOW_CHANGED, piece, towards, compared, before["window"], after["window"], str)
        flags = ecn.ECN_FLAGS | ecn.ACK
        findings.values(
            What.ECN_CHANGED, piece, towards, compared & ((before["tcp_flags"] & ecn.ECN_FLAGS) != 0),
            before["tcp_flags"] & flags, after["tcp_flags"] & flags, ecn.segment_ecn,
        )  # fmt: skip
        _data(before["payload_len"], after["payload_len"], compared, piece, towards, findings)
        findings.tell(What.TTL_RAISED, piece, towards, compared & (after["ttl"] > before["ttl"]), compared)
    _addresses(joined, findings)


def hops_between(joined: Joined, answered: Bool) -> int | None:
    """Routers between both places; None if SYNs passed different numbers of them, or their TTL was set anew."""
    compared = joined.same_syn & ~answered
    fewer = joined.near["syn"]["ttl"][compared].astype(int) - joined.far["syn"]["ttl"][compared]
    if not len(fewer) or fewer.min() != fewer.max() or fewer[0] < 0:
        return None
    return int(fewer[0])


def _options(
    before: NDArray[np.uint32], after: NDArray[np.uint32], layouts: Sequence[bytes], compared: Bool, piece: Piece,
    towards: Towards, findings: Findings,
) -> None:  # fmt: skip
    names = [option_names(layout) for layout in layouts]
    rows = np.flatnonzero(compared & (before != after))
    pairs = np.unique(np.stack((before[rows], after[rows]), axis=1), axis=0).tolist() if len(rows) else []
    removed: dict[str, Bool] = {}
    added: dict[str, Bool] = {}
    reordered = np.zeros(len(before), np.bool_)
    for old, new in pairs:
        had, has_now = Counter(names[old]), Counter(names[new])
        these = compared & (before == old) & (after == new)
        for kinds, changed in ((had - has_now, removed), (has_now - had, added)):
            for name in kinds:
                changed[name] = changed.get(name, np.zeros(len(before), np.bool_)) | these
        if had == has_now and names[old] != names[new]:
            reordered |= these
    for name, rows_changed in sorted(removed.items()):
        carry = [number for number, one in enumerate(names) if name in one]
        could = compared & np.isin(before, carry)
        findings.tell(What.OPTION_STRIPPED, piece, towards, rows_changed, could, before=name)
    for name, rows_changed in sorted(added.items()):
        findings.tell(What.OPTION_ADDED, piece, towards, rows_changed, compared, after=name)
    findings.tell(What.OPTIONS_REORDERED, piece, towards, reordered, compared)


def _data(
    before: NDArray[np.uint16], after: NDArray[np.uint16], compared: Bool, piece: Piece, towards: Towards,
    findings: Findings,
) -> None:  # fmt: skip
    carried = compared & (before > 0)
    findings.tell(What.PAYLOAD_STRIPPED, piece, towards, carried & (after < before), carried)
    findings.tell(What.DATA_ADDED, piece, towards, compared & (after > before), compared)


def _addresses(joined: Joined, findings: Findings) -> None:
    """Ends that differ, each with how often which became which."""
    both = np.ones(len(joined), np.bool_)
    for what, name in ((What.CLIENT_TRANSLATED, "client"), (What.SERVER_TRANSLATED, "server")):
        near, far = joined.near, joined.far
        moved = (near[name] != far[name]).any(axis=1) | (near[f"{name}_port"] != far[f"{name}_port"])
        rows = np.flatnonzero(moved)
        if not len(rows):
            continue
        # a client's ports differ each time: addresses tell enough
        with_port = name == "server"
        pairs: Counter[tuple[str, str]] = Counter()
        of_row: list[tuple[str, str]] = []
        for row in rows.tolist():
            pair = (_end(near, row, name, with_port=with_port), _end(far, row, name, with_port=with_port))
            pairs[pair] += 1
            of_row.append(pair)
        rest = moved.copy()
        for pair, _ in pairs.most_common(KINDS_MAX):
            these = np.zeros(len(joined), np.bool_)
            these[rows[[one == pair for one in of_row]]] = True
            rest &= ~these
            findings.tell(what, Piece.SYN, Towards.SERVER, these, both, before=pair[0], after=pair[1])
        findings.tell(what, Piece.SYN, Towards.SERVER, rest, both)


def _end(rows: Rows, row: int, name: str, *, with_port: bool) -> str:
    ip = ip_text(rows[name][row].tobytes())
    return endpoint_text(ip, int(rows[f"{name}_port"][row])) if with_port else ip
