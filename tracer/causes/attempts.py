"""The handshakes of a batch that tried Fast Open, and the hashes by which we remember their peers and cookies.

Computed once for all tables: most of the hash of client, server and cookie is the hash of client and server.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.causes.slot_table import NumberHash, WordHash
from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, U64, Bool, Events, Indexes, has, pick
from tracer.handshake.outcome import cookie_words
from tracer.vocabulary.vocabulary import Has, Request

_ADDRESS, _COOKIE = 2, 2  # words of 64 bits
_WITH_COOKIE = np.zeros(len(Request), np.bool_)
_WITH_COOKIE[[Request.COOKIE, Request.COOKIE_AND_DATA]] = True


class PeerHash:
    """Hashes under a secret of the run. Keys of different kinds share parts, so each kind has its own table."""

    def __init__(self) -> None:
        self._client, self._server = WordHash(_ADDRESS), WordHash(_ADDRESS)
        self._sent, self._given = WordHash(_COOKIE), WordHash(_COOKIE)
        self._place, self._length, self._fate = NumberHash(), NumberHash(), NumberHash()
        self._port = NumberHash()

    def of(self, batch: Batch, rows: Indexes) -> Attempts:
        """The attempts in some rows of a batch, with their keys."""
        events = pick(batch.events, rows)
        server = self._server.of(*_words(events["server"]))
        ends = server + self._client.of(*_words(events["client"]))
        request, length = batch.verdicts.request[rows], events["syn"]["payload_len"]
        return Attempts(
            rows, events, batch.vantage[rows], request, batch.verdicts.outcome[rows], _WITH_COOKIE.take(request),
            (length != 0) & (batch.verdicts.acked_payload_len[rows] == length),
            server + self._place.of(events["server_port"]),
            # a router sees each handshake at two interfaces, each with a history of its own
            ends + self._place.of(events["ifindex"]),
            ends, self,
        )  # fmt: skip

    def listeners(self, events: Events) -> U64:
        """Keys of server and port."""
        return self._server.of(*_words(events["server"])) + self._place.of(events["server_port"])

    def services(self, events: Events) -> U64:
        """Keys of client, server and its port, at an interface."""
        ends = self._server.of(*_words(events["server"])) + self._client.of(*_words(events["client"]))
        return ends + self._place.of(events["ifindex"]) + self._port.of(events["server_port"])

    def cookies(self, ends: U64, events: Events) -> U64:
        """Keys of client, server and the SYN's cookie."""
        sums = ends + self._sent.of(*cookie_words(events["syn"]).T)
        return sums + self._length.of(events["syn"]["cookie_len"])

    def fates(self, cookies: U64, events: Events, accepted: Bool) -> U64:
        """Keys of cookies(), the cookie that came back, and whether the data was accepted."""
        synack = events["synack"]
        given_len = np.where(has(synack["has"], Has.TFO), synack["cookie_len"], np.uint8(0))
        found = cookies + self._fate.of(given_len * np.uint16(2) + accepted)
        rows = np.flatnonzero(given_len)
        if len(rows):
            found[rows] += self._given.of(*cookie_words(synack, rows).T)
        return found


@dataclass(slots=True)
class Attempts:
    """Rows of a batch, and what all users of them need. `servers` (address and port) and `pairs` (client and server at
    an interface) are keys."""

    rows: Indexes
    events: Events
    vantage: U8
    request: U8
    outcome: U8
    with_cookie: Bool
    accepted: Bool  # all of the SYN's data was acked
    servers: U64
    pairs: U64
    ends: U64
    hash: PeerHash
    _cookies: U64 | None = None

    def some(self, chosen: Bool) -> Attempts:
        """The chosen ones."""
        if chosen.all():
            return self
        at = np.flatnonzero(chosen)
        return Attempts(
            self.rows[at], pick(self.events, at), self.vantage[at], self.request[at], self.outcome[at],
            self.with_cookie[at], self.accepted[at], self.servers[at], self.pairs[at], self.ends[at], self.hash,
        )  # fmt: skip

    def cookies(self) -> U64:
        """Keys of client, server and the SYN's cookie."""
        if self._cookies is None:
            self._cookies = self.hash.cookies(self.ends, self.events)
        return self._cookies

    def fates(self) -> U64:
        """Keys of cookies(), the cookie that came back, and whether the data was accepted."""
        return self.hash.fates(self.cookies(), self.events, self.accepted)


def _words(addresses: NDArray[np.uint8]) -> U64:
    return addresses.view(np.uint64).T
