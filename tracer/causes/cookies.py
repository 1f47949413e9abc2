"""Cookies that the server replaced: a key that is being changed, one that was, or several.

Cookies that were given and accepted are noted for whole batches at a time. Only refused ones, which are rare, are
judged one by one (refusals.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from tracer.causes.attempts import HOPS, Attempts
from tracer.causes.case import Case
from tracer.causes.notes import Earlier, Notes
from tracer.causes.refusals import Refusal, Refusals, Said
from tracer.causes.translated import Side, Translated
from tracer.handshake.events import U64, Bool, Indexes, among, byte_rows, distinct, has, pick
from tracer.handshake.outcome import cookie_rows, cookie_words, first_answers, first_cookie_rows, first_cookie_words
from tracer.vocabulary.vocabulary import Cause, Confidence, CookieCheck, CookieOrigin, Has, Outcome, Request, Vantage

PAIRS = CLIENTS = COOKIES = 1 << 16
COOKIE_SENT = (Request.COOKIE, Request.COOKIE_AND_DATA)
REFUSED = (Outcome.DATA_NOT_ACKED_NEW_COOKIE, Outcome.COOKIE_ONLY_NEW_COOKIE)

_IS_REFUSED = np.zeros(len(Outcome), np.bool_)
_IS_REFUSED[list(REFUSED)] = True


def key_rotation(case: Case) -> None:
    """Data was taken and a cookie came back: a backup key matched."""
    rows = case.outcome_is(Outcome.DATA_ACKED_NEW_COOKIE)
    if not len(rows):
        return
    rows = rows[among(COOKIE_SENT).take(case.batch.verdicts.request[rows])]
    events = pick(case.batch.events, rows)
    other = (cookie_words(events["syn"]) != first_cookie_words(events, np.arange(len(rows)))).any(axis=1)
    other |= events["syn"]["cookie_len"] != first_answers(events).cookie_len
    rows = rows[other]
    backup = case.causes.cookie_check[rows] == CookieCheck.VALID_BACKUP
    case.say(rows[backup], Cause.KEY_ROTATION, Confidence.CERTAIN)
    case.say(rows[~backup], Cause.KEY_ROTATION, Confidence.LIKELY)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The cookies that a batch shows to be a server's: first those that it accepted, then those that it gave."""

    at: Indexes  # which attempts
    accepted: int  # how many of them are of the first kind
    cookies: U64  # keys of client, server and cookie
    here: U64  # and port
    given: U64  # keys of server and cookie, of those that it gave
    syn_ns: U64


class CookieCauses:
    """Takes batches in the order of settling; how many handshakes each has makes no difference."""

    def __init__(self) -> None:
        self._known = Notes(COOKIES, "when_ns")  # by client, server and cookie
        self._known_here = Notes(COOKIES)  # and port
        self._accepted = Notes(COOKIES)  # by client, server and cookie
        self._owners = Notes(COOKIES, "client")  # by server and cookie
        self._given = Notes(PAIRS)  # pairs that were given a cookie
        self._accepting = Notes(PAIRS, "when_ns")  # pairs that had one accepted
        self._clients = Notes(CLIENTS, "pair", "when_ns")  # the last accepted cookie of each
        self._refusals = Refusals()
        self._translated = Translated()
        self._interface: int | None = None  # the one of the last batch
        self._number = 0  # of the next refusal

    def judge(self, case: Case, tried: Attempts) -> None:
        """Say why cookies were refused; note this batch."""
        self._note_interfaces(tried)
        seen = _seen(tried)
        refused = np.flatnonzero(_IS_REFUSED.take(tried.outcome))
        if len(refused):
            with_cookie = tried.with_cookie[refused]
            # the client asked for a cookie and sent data, which the server takes only with a cookie
            case.say(tried.rows[refused[~with_cookie]], Cause.COOKIE_REQUIRED, Confidence.LIKELY)
            if with_cookie.any():
                self._judge(case, tried, refused[with_cookie], seen)
        if not len(seen.at):
            return
        accepted = seen.at[: seen.accepted]
        order = np.argsort(seen.at, kind="stable") if 0 < seen.accepted < len(seen.at) else slice(None)
        self._known.add(seen.cookies[order], seen.syn_ns[order])
        self._known_here.add(seen.here)
        if len(accepted):
            syn_ns = seen.syn_ns[: seen.accepted]
            self._accepted.add(seen.cookies[: seen.accepted])
            self._accepting.add(tried.pairs[accepted], syn_ns)
            self._clients.add(tried.clients[accepted], tried.pairs[accepted], syn_ns)
        if len(seen.given):
            given = seen.at[seen.accepted :]
            self._owners.add(seen.given, _owners(tried, given))
            self._given.add(tried.pairs[given])

    def _note_interfaces(self, tried: Attempts) -> None:
        indexes = tried.events["ifindex"][tried.rows]
        if not len(indexes) or self._interface == indexes.min() == indexes.max():
            return
        self._interface = int(indexes[-1])
        for ifindex in distinct(indexes).tolist():
            first = tried.syn_ns[np.argmax(indexes == ifindex)]
            self._translated.note_interface(ifindex, int(first))

    def _judge(self, case: Case, tried: Attempts, refused: Indexes, seen: _Seen) -> None:
        pairs, clients, rows = tried.pairs[refused], tried.clients[refused], tried.rows[refused]
        events = pick(tried.events, rows)
        hosts, cookies = pairs - clients, tried.cookies()[refused]
        accepted, given = seen.at[: seen.accepted], seen.at[seen.accepted :]
        good, good_ns = seen.cookies[: seen.accepted], seen.syn_ns[: seen.accepted]

        known, (known_ns,) = _before(self._known, seen.cookies, seen.at, (seen.syn_ns,), cookies, refused)
        here, _ = _before(self._known_here, seen.here, seen.at, (), cookies + tried.ports()[refused], refused)
        was_good, _ = _before(self._accepted, good, accepted, (), cookies, refused)
        by_server = hosts + tried.hash.cookies(tried.events, rows)
        owned, (owner,) = _before(self._owners, seen.given, given, (_owners(tried, given),), by_server, refused)
        of_another = owned & ~known & (owner != _owners(tried, refused))
        met, _ = _before(self._given, tried.pairs[given], given, (), pairs, refused)
        last = (tried.pairs[accepted], good_ns)
        _, (last_pair, last_ns) = _before(self._clients, tried.clients[accepted], accepted, last, clients, refused)

        others = [pair for client in set(clients.tolist()) for pair in self._refusals.refusers(client)]
        wanted = np.concatenate((pairs, np.array(others, np.uint64)))
        accepting = Earlier(tried.pairs[accepted], accepted, wanted)
        met |= self._accepting.past(accepting, (good_ns,), pairs, refused)[0]

        def accepted_ns(wanted: list[int], at: int) -> list[int]:
            keys = np.array(wanted, np.uint64)
            _, (when,) = self._accepting.past(accepting, (good_ns,), keys, np.full(len(keys), at))
            times: list[int] = when.tolist()
            return times

        # who only forwards the port neither sees the client as the server does, nor knows its keys
        own = HOPS[events["synack"]["ttl"]] == 0
        vantage = np.where(own, tried.vantage[refused], tried.vantage[refused] & ~np.uint8(Vantage.SERVER))
        facts = (
            vantage, case.origins[rows], pairs, clients, hosts, tried.keys.listeners[rows], events["syn_ns"],
            first_answers(events).ns, was_good, met, known_ns, here, of_another, last_pair, last_ns,
        )  # fmt: skip
        texts = byte_rows(events["server"]), cookie_rows(events["syn"]), first_cookie_rows(events)
        sides = events["syn_ns"], events["ifindex"], hosts, known_ns, known | owned
        syns = zip(*(events["syn"][name].tolist() for name in ("seq", "ts_val")), strict=True)
        first, found = self._number, list[Said]()
        for at, syn, side, *one in zip(
            refused.tolist(), syns, zip(*(fact.tolist() for fact in sides), strict=True),
            *texts, *(fact.tolist() for fact in facts), strict=True,
        ):  # fmt: skip
            translated, twin = self._translated.judge(syn, Side(self._number, *side))
            self._number += 1
            refusal = Refusal(*one)
            if twin >= first and found[twin - first][1] != Confidence.CERTAIN:
                found[twin - first] = Cause.COOKIE_PER_ADDRESS, translated
            if translated and refusal.origin != CookieOrigin.EARLIER_KEY:
                found.append((Cause.COOKIE_PER_ADDRESS, translated))
            else:
                found.append(self._refusals.judge(refusal, partial(accepted_ns, at=at)))
        told = np.array(found)
        for cause, confidence in np.unique(told, axis=0).tolist():
            said = (told == (cause, confidence)).all(axis=1)
            case.say(rows[said], Cause(cause), Confidence(confidence))


def _before(
    notes: Notes, noted: U64, at: Indexes, columns: tuple[U64, ...], keys: U64, rows: Indexes
) -> tuple[Bool, list[U64]]:
    return notes.past(Earlier(noted, at, keys), columns, keys, rows)


def _owners(tried: Attempts, at: Indexes) -> U64:
    """Keys of the clients' addresses, wherever they are seen."""
    return tried.keys.addresses[tried.rows[at]]


def _seen(tried: Attempts) -> _Seen:
    accepted = np.flatnonzero(tried.accepted & tried.with_cookie)
    asked = has(tried.events["syn"]["has"][tried.rows], Has.TFO)
    lengths = tried.given_len()
    given = np.flatnonzero(asked & (lengths != 0))
    cookies = tried.cookies()[accepted]
    at = accepted
    by_server = np.zeros(0, np.uint64)
    if len(given):
        part = tried.hash.given_cookies(tried.events, tried.rows[given], lengths[given])
        by_server = tried.pairs[given] - tried.clients[given] + part
        cookies = np.concatenate((cookies, tried.keys.ends[tried.rows[given]] + part))
        at = np.concatenate((accepted, given))
    return _Seen(at, len(accepted), cookies, cookies + tried.ports()[at], by_server, tried.syn_ns[at])
