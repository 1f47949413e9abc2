"""Which rows of two places are the same handshake, which place is nearer to its client, and how their clocks differ.

A handshake's id is made of its addresses, ports and the client's initial sequence number: rows with the same id are the
same handshake. Where addresses were translated on the way, the client's initial sequence number, its timestamps and the
time join them; where that number was rewritten, addresses, ports and time do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.compare.place import SECOND_NS, Rows, take
from tracer.handshake.events import has
from tracer.vocabulary.vocabulary import Has, Vantage

Indexes = NDArray[np.intp]
Bool = NDArray[np.bool_]
Times = NDArray[np.int64]

# A SYN that is sent again comes a second later (RFC 6298, section 2), and no path here is as long as half of one.
SAME_SEGMENT_NS = SECOND_NS // 2
BY_CHANCE = 1e-3  # so many wrong matches of sequence numbers may be expected at most
ENDS = np.dtype([("client", "u1", 16), ("client_port", "<u2"), ("server", "u1", 16), ("server_port", "<u2")])


@dataclass(frozen=True, slots=True)
class Offset:
    """How far the second place's clock is ahead of the first one's, in nanoseconds.

    `error_ns` bounds it: half of what both ways between the places take, or more where clocks drift. None: only
    one direction was seen.
    """

    ns: int
    error_ns: int | None
    handshakes: int  # from which it is estimated


@dataclass(frozen=True, slots=True)
class Joined:
    """Handshakes that both places saw. `near` is the one at the side of the client; times are the first place's."""

    near: Rows
    far: Rows
    first_is_near: Bool
    by_id: Bool  # else joined over a translation
    same_syn: Bool  # both saw the same SYN first
    same_synack: Bool
    offset: Offset | None
    alone: tuple[Rows, Rows]  # rows of each place that the other did not see, each with times of its own clock

    def __len__(self) -> int:
        return len(self.near)


def join(first: Rows, second: Rows) -> Joined:
    """Join the rows of two places, each with one row for an id and in the order of ids."""
    _, ours, theirs = np.intersect1d(first["id"], second["id"], assume_unique=True, return_indices=True)
    offset = clock_offset(take(first, ours), take(second, theirs))
    by_id = len(ours)
    for search in (_translated, _renumbered):
        found = search(first, second, _others(first, ours), _others(second, theirs), offset)
        ours, theirs = np.concatenate((ours, found[0])), np.concatenate((theirs, found[1]))
        if offset is None:
            offset = clock_offset(take(first, ours), take(second, theirs))
    one, other = take(first, ours), take(second, theirs)
    alone = take(first, _others(first, ours)), take(second, _others(second, theirs))
    if offset is not None:
        _shift(other, -offset.ns)
    is_near = _is_near(one, other)
    near, far = one.copy(), other.copy()
    near[~is_near], far[~is_near] = other[~is_near], one[~is_near]
    return Joined(
        near, far, is_near, np.arange(len(ours)) < by_id, _same(near, far, "syn", offset),
        _same(near, far, "synack", offset), offset, alone,
    )  # fmt: skip


def clock_offset(one: Rows, other: Rows) -> Offset | None:
    """Estimate it from handshakes that both saw whole, as NTP does (RFC 5905, section 8), by the shortest way.

    SYN and SYN-ACK pass both places in opposite directions: half the difference of their two delays is the offset, half
    the sum, which is the time between the places, bounds its error.
    """
    whole = (one["syn_count"] == 1) & (other["syn_count"] == 1) & _stamped_alike(one["syn"], other["syn"])
    rows = np.flatnonzero(whole)
    if not len(rows):
        answered = _answered_once(one, other)
        back: Times = (other["synack_ns"] - one["synack_ns"])[answered]
        return Offset(int(np.median(back)), None, len(back)) if len(back) else None
    one, other = take(one, rows), take(other, rows)
    there: Times = other["syn_ns"] - one["syn_ns"]
    both = _once(one, other)
    if not both.any():
        return Offset(int(np.median(there)), None, len(rows))
    there, back = there[both], (other["synack_ns"] - one["synack_ns"])[both]
    between = np.abs(there - back)  # the time that both ways between the places took
    # the shortest tenth: what queues added is least there; clocks drift, so their median counts, not one of them
    shortest = np.argsort(between, kind="stable")[: max(1, len(between) // 10)]
    middle = (there[shortest] + back[shortest]) / 2
    offset = np.median(middle)
    error = max(np.max(between[shortest]) / 2, np.max(np.abs(middle - offset)))  # the latter if they drift
    return Offset(int(offset), int(error), int(both.sum()))


def ends(rows: Rows) -> NDArray[np.void]:
    """Addresses and ports as one comparable value a row."""
    found = np.zeros(len(rows), ENDS)
    for name in ENDS.names or ():
        found[name] = rows[name]
    return found.view(f"V{ENDS.itemsize}")


def _stamped_alike(one: NDArray[np.void], other: NDArray[np.void]) -> Bool:
    """Not two segments with different timestamps: the second was sent later."""
    both = has(one["has"], Has.TIMESTAMPS) & has(other["has"], Has.TIMESTAMPS)
    alike: Bool = ~both | (one["ts_val"] == other["ts_val"])
    return alike


def _others(rows: Rows, taken: Indexes) -> Indexes:
    free = np.ones(len(rows), np.bool_)
    free[taken] = False
    return np.flatnonzero(free)


def _translated(
    first: Rows, second: Rows, ours: Indexes, theirs: Indexes, offset: Offset | None
) -> tuple[Indexes, Indexes]:
    """Rows with other addresses or ports and the same initial sequence number, and timestamps where both have them.

    Only where just one row of each side fits. Without timestamps see `_unlikely_by_chance()`.
    """
    one, other = take(first, ours), take(second, theirs)
    places, matches = _unique_matches(one["syn"]["seq"], other["syn"]["seq"])
    one, other = take(one, places), take(other, matches)
    later: Times = other["syn_ns"] - one["syn_ns"]
    stamped = has(one["syn"]["has"], Has.TIMESTAMPS) & has(other["syn"]["has"], Has.TIMESTAMPS)
    stamped &= one["syn"]["ts_val"] != 0  # some clients count from 0, which says nothing
    fits = _stamped_alike(one["syn"], other["syn"])
    if offset is not None:
        # a client may send its SYN for a minute and more until one arrives
        fits &= np.abs(later - offset.ns) < 120 * SECOND_NS
    plain = np.flatnonzero(fits & ~stamped)
    fits &= stamped
    if len(plain):
        known_ns = offset.ns if offset is not None else int(np.median(later[fits])) if fits.any() else None
        one, other, later = take(one, plain), take(other, plain), later[plain]
        fits[plain] = _unlikely_by_chance(one, other, later, known_ns, len(ours) * len(theirs))
    return ours[places[fits]], theirs[matches[fits]]


def _unlikely_by_chance(one: Rows, other: Rows, later: Times, ahead_ns: int | None, pairs: int) -> Bool:
    """Which rows with the same initial sequence number are the same handshake, though no timestamps say so?

    One end must be the same at both places, and the window that the client offers; and they passed both places at
    the same time, by the clocks' offset. Where that is not known, by the median of all: if there are so few `pairs`
    that hardly any two of them have one number by chance.
    """
    same_client = (one["client"] == other["client"]).all(axis=1) & (one["client_port"] == other["client_port"])
    same_server = (one["server"] == other["server"]).all(axis=1) & (one["server_port"] == other["server_port"])
    fits: Bool = (same_client | same_server) & (one["syn"]["window"] == other["syn"]["window"])
    if ahead_ns is None:
        if pairs > BY_CHANCE * (1 << 32) or not fits.any():
            return np.zeros(len(one), np.bool_)
        ahead_ns = int(np.median(later[fits]))
    fits &= np.abs(later - ahead_ns) < SAME_SEGMENT_NS
    return fits


def _renumbered(
    first: Rows, second: Rows, ours: Indexes, theirs: Indexes, offset: Offset | None
) -> tuple[Indexes, Indexes]:
    """Rows with the same addresses and ports at the same time, and another initial sequence number.

    Their timestamps must not differ. Where the clocks' offset is not known, both must have some.
    """
    one, other = take(first, ours), take(second, theirs)
    _, numbers = np.unique(np.concatenate((ends(one), ends(other))), return_inverse=True)
    places, matches = _unique_matches(numbers[: len(one)], numbers[len(one) :])
    one, other = take(one, places), take(other, matches)
    fits = _stamped_alike(one["syn"], other["syn"])
    if offset is None:
        fits &= has(one["syn"]["has"], Has.TIMESTAMPS) & has(other["syn"]["has"], Has.TIMESTAMPS)
    else:
        fits &= np.abs(other["syn_ns"] - one["syn_ns"] - offset.ns) < SAME_SEGMENT_NS
    return ours[places[fits]], theirs[matches[fits]]


def _unique_matches(one: NDArray[np.generic], other: NDArray[np.generic]) -> tuple[Indexes, Indexes]:
    """Where the same value stands once at each side: its places."""
    values, places, counts = np.unique(one, return_index=True, return_counts=True)
    values, places = values[counts == 1], places[counts == 1]
    others, found, counts = np.unique(other, return_index=True, return_counts=True)
    others, found = others[counts == 1], found[counts == 1]
    _, left, right = np.intersect1d(values, others, assume_unique=True, return_indices=True)
    return places[left], found[right]


def _shift(rows: Rows, by_ns: int) -> None:
    for name in ("syn_ns", "synack_ns", "ack_ns", "response_ns"):
        happened = rows[name] != 0
        rows[name][happened] += by_ns


def _is_near(one: Rows, other: Rows) -> Bool:
    """Is the first place at the side of the client?

    By whose address is local at one of them; else the nearer place waits longer for the same SYN-ACK; else by the SYN's
    TTL; else by the order of the places.
    """
    found = np.zeros(len(one), np.int8)  # 1: the first place is nearer, -1: the second one
    for vantage, sign in ((Vantage.CLIENT, 1), (Vantage.SERVER, -1)):
        here, there = one["vantage"] == vantage, other["vantage"] == vantage  # both: two interfaces of one host
        found[here & ~there & (found == 0)] = sign
        found[there & ~here & (found == 0)] = -sign
    whole = _once(one, other) & (found == 0)
    waits = (one["synack_ns"] - one["syn_ns"]) - (other["synack_ns"] - other["syn_ns"])
    found[whole] = np.sign(waits[whole])
    fewer = np.sign(one["syn"]["ttl"].astype(np.int16) - other["syn"]["ttl"].astype(np.int16))
    near: Bool = np.array(np.where(found != 0, found, fewer) >= 0, np.bool_)
    return near


def _once(one: Rows, other: Rows) -> Bool:
    """Did both see one SYN and one SYN-ACK, the same ones?"""
    found = _stamped_alike(one["syn"], other["syn"])
    found &= one["synack"]["seq"] == other["synack"]["seq"]
    for rows in (one, other):
        found &= (rows["syn_count"] == 1) & (rows["synack_count"] == 1) & (rows["synack_ns"] != 0)
    return found


def _answered_once(one: Rows, other: Rows) -> Bool:
    """Did both see one SYN-ACK, the same one?"""
    found: Bool = _stamped_alike(one["synack"], other["synack"]) & (one["synack"]["seq"] == other["synack"]["seq"])
    for rows in (one, other):
        found &= (rows["synack_count"] == 1) & (rows["synack_ns"] != 0) & acked_first(rows)
    return found


def acked_first(rows: Rows) -> Bool:
    """Did no data of the server settle the handshake before the client's ACK?"""
    found: Bool = (rows["response_ns"] == 0) | (rows["ack_ns"] != 0) & (rows["ack_ns"] <= rows["response_ns"])
    return found


def _same(near: Rows, far: Rows, name: str, offset: Offset | None) -> Bool:
    """Did both places see the same segment, not the one a repetition of the other?"""
    there = has(near[name]["has"], Has.SEGMENT) & has(far[name]["has"], Has.SEGMENT)
    if name == "synack":
        there &= near[name]["seq"] == far[name]["seq"]
    there &= _stamped_alike(near[name], far[name])
    if offset is None:
        there &= near[f"{name}_count"] == far[f"{name}_count"]
        return there
    between = np.abs(far[f"{name}_ns"] - near[f"{name}_ns"])
    stamped = has(near[name]["has"], Has.TIMESTAMPS) & has(far[name]["has"], Has.TIMESTAMPS)
    # timestamps tell more than clocks, which may drift apart over hours
    there &= between < np.where(stamped, 60 * SECOND_NS, SAME_SEGMENT_NS)
    return there
