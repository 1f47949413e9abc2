"""Which addresses are local to the traced namespace, which gives the `vantage` of a handshake."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, U64, Bool, Events
from tracer.vocabulary.vocabulary import Vantage

ADDRESS_LEN = 16
CHANGES_KEPT_NS = 300_000_000_000  # longer than a handshake stays open
CHANGED_ADDRESSES = 4096
CHANGES_PER_ADDRESS = 8
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)
# both together are LOCAL, neither is TRANSIT
_CLIENT, _SERVER = np.uint8(Vantage.CLIENT), np.uint8(Vantage.SERVER)


def _words(addresses: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """[n, 16] bytes as two words each, in this machine's byte order: they are only compared."""
    words = addresses.view(np.uint64)
    return np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])


def _keys(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number for both words, modulo 2^64. Different addresses may share it: it is only a hint where to look."""
    return first * _MULTIPLIER + second


class Local(Protocol):
    """What knows the vantage of handshakes."""

    def vantage(self, events: Events, /) -> U8: ...


class LocalSet:
    """Local addresses and networks, for whole batches. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d."""

    def __init__(self, addresses: Iterable[bytes] = (), networks: Iterable[tuple[bytes, int]] = ()) -> None:
        first, second = _listed(set(addresses))
        keys = _keys(first, second)
        order = np.argsort(keys)
        self._keys, self._first, self._second = keys[order], first[order], second[order]
        self._networks = [(_listed({network}), _listed({_mask(prefix)})) for network, prefix in networks]

    def contains(self, addresses: NDArray[np.uint8]) -> Bool:
        """For each of [n, 16] addresses: is it local?"""
        first, second = _words(addresses)
        found = self._within_networks(first, second)
        if len(self._keys):
            at = np.searchsorted(self._keys, _keys(first, second))
            at[at == len(self._keys)] = 0
            found |= (self._first[at] == first) & (self._second[at] == second)
        return found

    def _within_networks(self, first: U64, second: U64) -> Bool:
        found = np.zeros(len(first), np.bool_)
        for network, mask in self._networks:
            inside = second ^ network[1]
            inside &= mask[1]
            if mask[0] == _ALL_BITS:
                found |= (inside == 0) & (first == network[0])
            else:
                found |= (inside | (first ^ network[0]) & mask[0]) == 0
        return found

    def vantage(self, events: Events) -> U8:
        """Vantage of each handshake of a batch."""
        vantage = self.contains(events["client"]) * _CLIENT
        vantage += self.contains(events["server"]) * _SERVER
        return vantage


class LocalHistory:
    """The local addresses of now and of a while ago: a handshake's vantage is that of its SYN's time (DESIGN.md 4)."""

    def __init__(self, now: LocalSet | None = None) -> None:
        self.is_known = now is not None
        self._now = now if now is not None else LocalSet()
        self._addresses: frozenset[bytes] = frozenset()
        self._networks: list[tuple[bytes, int]] = []
        # by address, the latest last: when it changed, and whether it was local until then
        self._changes: dict[bytes, list[tuple[int, bool]]] = {}
        self._changed = LocalSet()
        self._latest_ns = 0

    def update(self, addresses: Iterable[bytes], networks: Iterable[tuple[bytes, int]], taken_ns: int) -> None:
        """Take the addresses that are local from `taken_ns` (CLOCK_MONOTONIC) on."""
        found, networks = frozenset(addresses), list(networks)
        if self.is_known and (found, networks) == (self._addresses, self._networks):
            return
        if self.is_known:
            self._note(found, taken_ns)
        self.is_known, self._addresses, self._networks = True, found, networks
        self._now = LocalSet(found, networks)

    def _note(self, found: frozenset[bytes], taken_ns: int) -> None:
        before = LocalSet(self._addresses, self._networks)
        changed = list(found ^ self._addresses)
        were_local = before.contains(np.frombuffer(b"".join(changed), np.uint8).reshape(-1, ADDRESS_LEN)).tolist()
        for address, was_local in zip(changed, were_local, strict=True):
            changes = self._changes.pop(address, [])  # to the end
            self._changes[address] = [*changes[1 - CHANGES_PER_ADDRESS :], (taken_ns, was_local)]
        oldest_ns = taken_ns - CHANGES_KEPT_NS
        kept = [(address, changes) for address, changes in self._changes.items() if changes[-1][0] > oldest_ns]
        self._changes = dict(kept[-CHANGED_ADDRESSES:])
        self._changed = LocalSet(self._changes)
        self._latest_ns = taken_ns

    def contains(self, addresses: NDArray[np.uint8]) -> Bool:
        """For each of [n, 16] addresses: is it local now?"""
        return self._now.contains(addresses)

    def vantage(self, events: Events) -> U8:
        """Vantage of each handshake of a batch, at the time of its SYN."""
        found = self._now.vantage(events)
        if not self._changes:
            return found
        before = np.flatnonzero(events["syn_ns"] < self._latest_ns)
        for column, bit in (("client", _CLIENT), ("server", _SERVER)):
            rows = before[self._changed.contains(events[column][before])]
            for row in rows.tolist():
                was_local = self._at(events[column][row].tobytes(), int(events["syn_ns"][row]))
                if was_local is not None:
                    found[row] = found[row] | bit if was_local else found[row] & ~bit
        return found

    def _at(self, address: bytes, when_ns: int) -> bool | None:
        """Was it local then? None: as now."""
        for changed_ns, was_local in self._changes.get(address, ()):
            if when_ns < changed_ns:
                return was_local
        return None


def _listed(addresses: set[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return _words(np.frombuffer(b"".join(addresses), np.uint8).reshape(len(addresses), ADDRESS_LEN))


def _mask(prefix: int) -> bytes:
    return (((1 << 128) - 1) ^ ((1 << (128 - prefix)) - 1)).to_bytes(ADDRESS_LEN, "big")
