"""Which addresses are local to the traced namespace, which gives the `vantage` of a handshake."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U8, Bool, Events
from tracer.vocabulary.vocabulary import Vantage

ADDRESS_LEN = 16
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
        found = np.zeros(len(first), np.bool_)
        for network, mask in self._networks:
            inside = second ^ network[1]
            inside &= mask[1]
            if mask[0] == _ALL_BITS:
                found |= (inside == 0) & (first == network[0])
            else:
                found |= (inside | (first ^ network[0]) & mask[0]) == 0
        if len(self._keys):
            at = np.searchsorted(self._keys, _keys(first, second))
            at[at == len(self._keys)] = 0
            found |= (self._first[at] == first) & (self._second[at] == second)
        return found

    def vantage(self, events: Events) -> U8:
        """Vantage of each handshake of a batch."""
        vantage = self.contains(events["client"]) * _CLIENT
        vantage += self.contains(events["server"]) * _SERVER
        return vantage


def _listed(addresses: set[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return _words(np.frombuffer(b"".join(addresses), np.uint8).reshape(len(addresses), ADDRESS_LEN))


def _mask(prefix: int) -> bytes:
    return (((1 << 128) - 1) ^ ((1 << (128 - prefix)) - 1)).to_bytes(ADDRESS_LEN, "big")
