"""The handshakes of a batch that tried Fast Open, and the hashes by which we remember their peers and cookies.

Computed once for all tables: most of the hash of client, server and cookie is the hash of client and server.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.causes.slot_table import NumberHash, WordHash
from tracer.dissect import signature
from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, U64, Bool, Events, Indexes, has, pick
from tracer.handshake.outcome import FirstAnswers, cookie_words, first_answers, first_cookie_words
from tracer.vocabulary.vocabulary import Has, Outcome, Request

HOPS = np.array([signature.hops(ttl) for ttl in range(256)], np.uint8)  # by TTL
_ADDRESS, _COOKIE = 2, 2  # words of 64 bits
_WITH_COOKIE = np.zeros(len(Request), np.bool_)
_WITH_COOKIE[[Request.COOKIE, Request.COOKIE_AND_DATA]] = True
_ACCEPTED = np.zeros(len(Outcome), np.bool_)
_ACCEPTED[[Outcome.DATA_ACKED, Outcome.DATA_ACKED_NEW_COOKIE]] = True


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
        client = self._client.of(*_words(events["client"]))
        ends = server + client
        # a router sees each handshake at two interfaces, each with a history of its own
        place = self._place.of(events["ifindex"])
        request, outcome = batch.verdicts.request[rows], batch.verdicts.outcome[rows]
        return Attempts(
            rows, events, batch.vantage[rows], request, outcome, _WITH_COOKIE.take(request), _ACCEPTED.take(outcome),
            server + self._place.of(events["server_port"]), ends + place, client + place, ends, self,
        )  # fmt: skip

    def listeners(self, events: Events) -> U64:
        """Keys of server and port."""
        return self._server.of(*_words(events["server"])) + self._place.of(events["server_port"])

    def listeners_at(self, events: Events) -> U64:
        """Keys of server and port, at an interface."""
        return self.listeners(events) + self._port.of(events["ifindex"])

    def services(self, events: Events) -> U64:
        """Keys of client, server and its port, at an interface."""
        ends = self._server.of(*_words(events["server"])) + self._client.of(*_words(events["client"]))
        return ends + self._place.of(events["ifindex"]) + self._port.of(events["server_port"])

    def addresses(self, events: Events) -> U64:
        """Keys of the client's address."""
        return self._client.of(*_words(events["client"]))

    def places(self, events: Events) -> U64:
        """Keys of the server's address, at an interface."""
        return self._server.of(*_words(events["server"])) + self._place.of(events["ifindex"])

    def cookies(self, events: Events) -> U64:
        """A part of a key: the SYN's cookie."""
        return self._cookies(cookie_words(events["syn"]), events["syn"]["cookie_len"])

    def given_cookies(self, events: Events, rows: Indexes, lengths: U8) -> U64:
        """The same of the cookie that came back with the first SYN-ACK of some rows."""
        return self._cookies(first_cookie_words(events, rows), lengths)

    def _cookies(self, words: U64, lengths: U8) -> U64:
        return self._sent.of(*words.T) + self._length.of(lengths)

    def fates(self, events: Events, given_len: U8, accepted: Bool) -> U64:
        """A part of a key: the cookie that came back, whether the data was accepted, and the port."""
        found = self._fate.of(given_len * np.uint16(2) + accepted) + self.ports(events)
        rows = np.flatnonzero(given_len)
        if len(rows):
            found[rows] += self._given.of(*first_cookie_words(events, rows).T)
        return found

    def ports(self, events: Events) -> U64:
        """A part of a key: the server's port."""
        return self._port.of(events["server_port"])


@dataclass(slots=True)
class Attempts:
    """Rows of a batch, and what all users of them need.

    Keys: `servers` (address and port), `pairs` (client and server at an interface), `clients` (at an interface), `ends`
    (client and server).
    """

    rows: Indexes
    events: Events
    vantage: U8
    request: U8
    outcome: U8
    with_cookie: Bool
    accepted: Bool  # all of the SYN's data was acked
    servers: U64
    pairs: U64
    clients: U64
    ends: U64
    hash: PeerHash
    _cookies: U64 | None = None
    _answers: FirstAnswers | None = None

    def some(self, chosen: Bool) -> Attempts:
        """The chosen ones."""
        if chosen.all():
            return self
        at = np.flatnonzero(chosen)
        return Attempts(
            self.rows[at], pick(self.events, at), self.vantage[at], self.request[at], self.outcome[at],
            self.with_cookie[at], self.accepted[at], self.servers[at], self.pairs[at], self.clients[at], self.ends[at],
            self.hash,
        )  # fmt: skip

    def answers(self) -> FirstAnswers:
        """The first SYN-ACKs."""
        if self._answers is None:
            self._answers = first_answers(self.events)
        return self._answers

    def given_len(self) -> U8:
        """The length of the cookie that came back, 0 if there was none."""
        answers = self.answers()
        found: U8 = np.where(has(answers.has, Has.TFO), answers.cookie_len, np.uint8(0))
        return found

    def places(self) -> U64:
        """Keys of the server's address, at an interface."""
        return self.pairs - self.clients + self.pairs - self.ends

    def pairs_by_port(self) -> U64:
        """Keys of client, server and its port, at an interface."""
        return self.pairs + self.hash.ports(self.events)

    def cookies(self) -> U64:
        """Keys of client, server and the SYN's cookie."""
        if self._cookies is None:
            self._cookies = self.ends + self.hash.cookies(self.events)
        return self._cookies

    def fates(self) -> U64:
        """Keys of cookies(), the cookie that came back, whether the data was accepted, and the port."""
        return self.cookies() + self.hash.fates(self.events, self.given_len(), self.accepted)


def _words(addresses: NDArray[np.uint8]) -> U64:
    return addresses.view(np.uint64).T
