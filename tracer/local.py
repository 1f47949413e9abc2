"""Which addresses are local to the traced namespace, and so from where a handshake was seen (`vantage`)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tracer.drain import Events
from tracer.tfo import U8, Bool
from tracer.vocabulary import Vantage

ADDRESS_LEN = 16


def _words(addresses: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """[n, 16] bytes as [n, 2] big-endian words, so that numbers order as addresses do."""
    return np.ascontiguousarray(addresses).view(">u8").astype(np.uint64)


class LocalSet:
    """Local addresses and networks, asked a batch at a time. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d."""

    def __init__(self, addresses: Iterable[bytes] = (), networks: Iterable[tuple[bytes, int]] = ()) -> None:
        listed = sorted(addresses)
        raw = np.frombuffer(b"".join(listed), np.uint8).reshape(len(listed), ADDRESS_LEN)
        self._addresses = _words(raw)
        self._networks = [
            (_words(np.frombuffer(network, np.uint8).reshape(1, ADDRESS_LEN))[0], _masks(prefix))
            for network, prefix in networks
        ]

    def contains(self, addresses: NDArray[np.uint8]) -> Bool:
        """For each of [n, 16] addresses: is it local?"""
        words = _words(addresses)
        found = np.zeros(len(words), np.bool_)
        for network, mask in self._networks:
            found |= ((words & mask) == (network & mask)).all(axis=1)
        if len(self._addresses):
            # few distinct low words: narrow down by them, then compare both
            low = np.isin(words[:, 1], self._addresses[:, 1])
            rows = np.flatnonzero(low)
            if len(rows):
                same = (words[rows, None, :] == self._addresses[None, :, :]).all(axis=2).any(axis=1)
                found[rows] |= same
        return found

    def vantage(self, events: Events) -> U8:
        """Vantage of each handshake of a batch."""
        client = self.contains(events["client"])
        server = self.contains(events["server"])
        return np.where(
            client,
            np.where(server, Vantage.LOCAL, Vantage.CLIENT),
            np.where(server, Vantage.SERVER, Vantage.TRANSIT),
        ).astype(np.uint8)


def _masks(prefix: int) -> NDArray[np.uint64]:
    mask = ((1 << 128) - 1) ^ ((1 << (128 - prefix)) - 1)
    return np.array([mask >> 64, mask & ((1 << 64) - 1)], np.uint64)
