"""The hashes by which we remember the peers of a batch's handshakes, and the cookies of those that tried Fast Open.

Computed once for all tables: most of the hash of client, server and cookie is the hash of client and server.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.causes.slot_table import NumberHash, WordHash
from tracer.dissect import signature
from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, U64, Bool, Events, Indexes, has
from tracer.handshake.outcome import FirstAnswers, cookie_words, first_answers, first_cookie_words
from tracer.vocabulary.vocabulary import Has, Outcome, Request

HOPS = np.array([signature.hops(ttl) for ttl in range(256)], np.uint8)  # by TTL
_ADDRESS, _COOKIE = 2, 2  # words of 64 bits
_WITH_COOKIE = np.zeros(len(Request), np.bool_)
_WITH_COOKIE[[Request.COOKIE, Request.COOKIE_AND_DATA]] = True
_ACCEPTED = np.zeros(len(Outcome), np.bool_)
_ACCEPTED[[Outcome.DATA_ACKED, Outcome.DATA_ACKED_NEW_COOKIE]] = True


@dataclass(frozen=True, slots=True)
class Keys:
    """One row per handshake. A router sees each at two interfaces, so most keys are of one at an interface."""

    addresses: U64  # the client's
    clients: U64  # likewise at an interface
    listeners: U64  # the server's address and port
    places: U64  # the server's address, at an interface
    services: U64  # and port
    ends: U64  # client and server
    pairs: U64  # at an interface
    pairs_by_port: U64  # and the server's port


class PeerHash:
    """Hashes under a secret of the run. Keys of different kinds share parts, so each kind has its own table."""

    def __init__(self) -> None:
        self._client, self._server = WordHash(_ADDRESS), WordHash(_ADDRESS)
        self._sent, self._given = WordHash(_COOKIE), WordHash(_COOKIE)
        self._place, self._length, self._fate = NumberHash(), NumberHash(), NumberHash()
        self._port = NumberHash()

    def keys(self, events: Events) -> Keys:
        """The keys of a batch."""
        server, client = self._server.of(*_words(events["server"])), self._client.of(*_words(events["client"]))
        ports = np.ascontiguousarray(events["server_port"])
        interface, port = self._place.of(events["ifindex"]), self._port.of(ports)
        ends, places = server + client, server + interface
        pairs = ends + interface
        return Keys(
            client, client + interface, server + self._place.of(ports), places, places + port, ends, pairs, pairs + port
        )

    def of(self, batch: Batch, rows: Indexes, keys: Keys) -> Attempts:
        """The attempts in some rows of a batch, whose keys these are."""
        request, outcome = batch.verdicts.request[rows], batch.verdicts.outcome[rows]
        return Attempts(
            rows, batch.events, keys, batch.vantage[rows], request, outcome, _WITH_COOKIE.take(request),
            _ACCEPTED.take(outcome), batch.events["syn_ns"][rows], keys.pairs[rows], keys.clients[rows], self,
        )  # fmt: skip

    def cookies(self, events: Events, rows: Indexes) -> U64:
        """A part of a key: the SYN's cookie of some rows."""
        return self._cookies(cookie_words(events["syn"], rows), events["syn"]["cookie_len"][rows])

    def given_cookies(self, events: Events, rows: Indexes, lengths: U8) -> U64:
        """The same of the cookie that came back with the first SYN-ACK of some rows."""
        return self._cookies(first_cookie_words(events, rows), lengths)

    def _cookies(self, words: U64, lengths: U8) -> U64:
        return self._sent.of(*words.T) + self._length.of(lengths)

    def fates(self, events: Events, rows: Indexes, given_len: U8, accepted: Bool) -> U64:
        """A part of a key: the cookie that came back, and whether the data was accepted."""
        found = self._fate.of(given_len * np.uint16(2) + accepted)
        given = np.flatnonzero(given_len)
        if len(given):
            found[given] += self._given.of(*first_cookie_words(events, rows[given]).T)
        return found


@dataclass(slots=True)
class Attempts:
    """Rows of a batch, and what all users of them need.

    `events` and `keys` are the whole batch's: few of their columns are read, so copies of the rows would cost more.
    """

    rows: Indexes
    events: Events
    keys: Keys
    vantage: U8
    request: U8
    outcome: U8
    with_cookie: Bool
    accepted: Bool  # all of the SYN's data was acked
    syn_ns: U64
    pairs: U64
    clients: U64
    hash: PeerHash
    _cookies: U64 | None = None
    _answers: FirstAnswers | None = None

    def some(self, chosen: Bool) -> Attempts:
        """The chosen ones."""
        at = np.flatnonzero(chosen)
        cookies = self.cookies()[at]
        return Attempts(
            self.rows[at], self.events, self.keys, self.vantage[at], self.request[at], self.outcome[at],
            self.with_cookie[at], self.accepted[at], self.syn_ns[at], self.pairs[at], self.clients[at], self.hash,
            cookies, self._answers,
        )  # fmt: skip

    def answers(self) -> FirstAnswers:
        """The first SYN-ACKs of the whole batch."""
        if self._answers is None:
            self._answers = first_answers(self.events)
        return self._answers

    def given_len(self) -> U8:
        """The length of the cookie that came back, 0 if there was none."""
        answers = self.answers()
        found: U8 = answers.cookie_len[self.rows] * has(answers.has[self.rows], Has.TFO)
        return found

    def servers(self) -> U64:
        """Keys of the server's address and port."""
        return self.keys.listeners[self.rows]

    def cookies(self) -> U64:
        """Keys of client, server and the SYN's cookie."""
        if self._cookies is None:
            self._cookies = self.keys.ends[self.rows] + self.hash.cookies(self.events, self.rows)
        return self._cookies

    def ports(self) -> U64:
        """A part of a key: the server's port."""
        return self.keys.pairs_by_port[self.rows] - self.pairs

    def fates(self) -> U64:
        """Keys of cookies(), the cookie that came back, whether the data was accepted, and the port."""
        return self.cookies() + self.ports() + self.hash.fates(self.events, self.rows, self.given_len(), self.accepted)


def _words(addresses: NDArray[np.uint8]) -> U64:
    return addresses.view(np.uint64).T
