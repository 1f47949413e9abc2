"""Refused cookies one by one: does the server have several keys, or the client several addresses?

Facts come in the order of settling. Times are CLOCK_MONOTONIC in nanoseconds; keys are hashes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from tracer.causes.notes import recall
from tracer.causes.peer_history import REMEMBER_NS
from tracer.vocabulary.addresses import IPV4_MAPPED
from tracer.vocabulary.vocabulary import Cause, Confidence, CookieOrigin, Vantage

TROUBLED = 1 << 14  # pairs, clients and servers that are remembered
COOKIES_KEPT = 8  # of a pair
REFUSERS_OF_A_CLIENT, NETWORKS_OF_THEIRS = 3, 2  # so many unrelated servers do not fail alike
REFUSERS_KEPT = 8
_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share

Said = tuple[Cause, Confidence]
AcceptedAt = Callable[[list[int]], list[int]]  # when each pair last had a cookie accepted, 0 = never


@dataclass(slots=True)
class Refusal:
    """One refused cookie, and what was known before it."""

    address: bytes  # the server's
    old: bytes
    new: bytes
    vantage: int
    origin: int  # CookieOrigin
    pair: int  # client and server at an interface
    client: int  # at an interface
    host: int  # the server's address
    server: int  # and port
    syn_ns: int
    given_ns: int  # when the new cookie came
    accepted: bool  # the old cookie, from this pair, before
    met: bool  # the pair was given a cookie before, or had one accepted
    known_ns: int  # when the pair last got or used the old cookie, 0 = never
    known_here: bool  # at this port
    of_another: bool  # the old cookie was given to another client address, and never to this one
    last_pair: int  # of this client's last accepted cookie, of any server
    last_ns: int  # when that was, 0 = never


@dataclass(slots=True)
class _Pair:
    given: bytes = b""  # the cookie that came with the last refusal
    given_ns: int = 0
    seen: list[bytes] = field(default_factory=list)  # cookies before `given`, sent or given; at most COOKIES_KEPT
    crossed: bool = False  # a listener refused the cookie of another one


@dataclass(slots=True)
class _Client:
    refusers: OrderedDict[int, tuple[int, bytes]] = field(default_factory=OrderedDict)  # pair: when, network
    witness: int = 0  # a pair whose cookies are accepted and not refused
    witness_ns: int = 0


class Refusals:
    """The memory of pairs, clients and servers with refused cookies."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[int, _Pair] = OrderedDict()
        self._clients: OrderedDict[int, _Client] = OrderedDict()
        self._pools: OrderedDict[int, int] = OrderedDict()  # servers that do not share their keys
        self._rotated: OrderedDict[int, list[int]] = OrderedDict()  # servers that refused a cookie where they gave it

    def refusers(self, client: int) -> list[int]:
        """The pairs of this client that had cookies refused."""
        found = self._clients.get(client)
        return list(found.refusers) if found is not None else []

    def judge(self, one: Refusal, accepted_ns: AcceptedAt) -> Said:
        """Note a refusal; what does it show?"""
        # a cookie of another port says nothing of this one's key, nor of the client
        other_port = bool(one.known_ns) and not one.known_here and one.syn_ns < one.known_ns + REMEMBER_NS
        pair = recall(self._pairs, one.pair, _Pair, TROUBLED)
        several = not other_port and _several(pair, one)
        pool_ns = self._pools.get(one.server, -REMEMBER_NS)
        known_pool = one.syn_ns < pool_ns + REMEMBER_NS
        if one.vantage & _AT_SERVER:
            said = self._at_its_server(pair, one, other_port=other_port)
        else:
            said = self._elsewhere(one, accepted_ns, other_port=other_port, several=several, known_pool=known_pool)
            if said is None and (several or known_pool):
                said = Cause.KEY_NOT_SHARED, Confidence.LIKELY
                if several:
                    self._note_pool(one.server, max(one.syn_ns, pool_ns))
        # the first refusal of all: a pool without a shared key begins like this too
        return said or (Cause.COOKIE_STALE, Confidence.LIKELY if one.accepted else Confidence.POSSIBLE)

    def _note_pool(self, server: int, when_ns: int) -> None:
        self._pools[server] = when_ns
        self._pools.move_to_end(server)
        if len(self._pools) > TROUBLED:
            self._pools.popitem(last=False)

    def _at_its_server(self, pair: _Pair, one: Refusal, *, other_port: bool) -> Said | None:
        """The server sees the client's address as it is, and knows its keys."""
        rotated = recall(self._rotated, one.host, lambda: [0], TROUBLED)
        if one.known_here:
            rotated[0] = one.syn_ns
        if one.origin == CookieOrigin.EARLIER_KEY:
            return Cause.COOKIE_STALE, Confidence.CERTAIN
        if one.origin == CookieOrigin.OTHER_SOCKET:
            return Cause.LISTENER_KEY_DIFFERS, Confidence.LIKELY
        # a listener that gave or took the cookie before had that key, even if the root part did not look in time
        if one.origin == CookieOrigin.OTHER_LISTENER and not one.known_here:
            return Cause.LISTENER_KEY_DIFFERS, Confidence.LIKELY
        if one.origin == CookieOrigin.OTHER_ADDRESS and not one.known_here:
            return Cause.COOKIE_PER_ADDRESS, Confidence.LIKELY
        if one.of_another:
            return Cause.CLIENT_ADDRESS_CHANGES, Confidence.LIKELY
        if one.origin == CookieOrigin.NOT_OURS and one.met and not one.accepted:
            # or they share the key, and a balancer translates the address, which a cookie covers
            return Cause.KEY_NOT_SHARED, Confidence.POSSIBLE
        if one.origin == CookieOrigin.UNKNOWN and other_port:
            # a listener that since refused its own cookie shows that keys were changed
            if rotated[0] > one.known_ns:
                return Cause.COOKIE_STALE, Confidence.POSSIBLE
            again, pair.crossed = pair.crossed, True
            return Cause.LISTENER_KEY_DIFFERS, Confidence.LIKELY if again else Confidence.POSSIBLE
        return None

    def _elsewhere(
        self, one: Refusal, accepted_ns: AcceptedAt, *, other_port: bool, several: bool, known_pool: bool
    ) -> Said | None:
        """The server may see another address of the client than we do."""
        client = recall(self._clients, one.client, _Client, TROUBLED)
        _note_refuser(client, one, counts=not other_port)
        since = max(one.syn_ns - REMEMBER_NS, 0)
        accepts = one.last_ns > since
        if accepts and one.last_pair not in client.refusers:
            client.witness, client.witness_ns = one.last_pair, one.last_ns
        if one.of_another:  # or both are behind one address that is translated
            return Cause.CLIENT_ADDRESS_CHANGES, Confidence.POSSIBLE
        refusers = list(client.refusers)
        unsteady = client.witness_ns <= since and _are_many(client, refusers)
        if unsteady:
            if accepts:
                times = accepted_ns(refusers)
                refusers = [pair for pair, when in zip(refusers, times, strict=True) if when <= since]
            if _are_many(client, refusers) and (other_port or one.pair in refusers):
                return Cause.CLIENT_ADDRESS_CHANGES, Confidence.LIKELY
        if known_pool:
            return None
        if other_port:
            return Cause.LISTENER_KEY_DIFFERS, Confidence.POSSIBLE
        if several and (unsteady or not accepts):
            return Cause.KEY_NOT_SHARED, Confidence.POSSIBLE
        return None


def _several(pair: _Pair, one: Refusal) -> bool:
    """Note the cookie that was given; does the address have more than one key?

    It does if it refuses the cookie that it gave last time and never accepted, or gives one again that it had replaced.
    A key that is rotated, however often, gives cookies that are accepted for a while and never come back. At one of
    several servers, which knows its own cookies, this is never seen.
    """
    # SYNs already on the way when the client learned the new cookie still carry the old one
    learned = pair.given_ns != 0 and pair.given_ns < one.syn_ns < pair.given_ns + REMEMBER_NS
    own = learned and one.old == pair.given and one.new != one.old
    shown = own and (not one.accepted or one.new in pair.seen)
    for cookie in (one.old, pair.given):
        if cookie and cookie not in pair.seen and cookie != one.new:
            pair.seen = [*pair.seen, cookie][-COOKIES_KEPT:]
    if one.given_ns >= pair.given_ns:
        pair.given, pair.given_ns = one.new, one.given_ns
    return shown


def _note_refuser(client: _Client, one: Refusal, *, counts: bool) -> None:
    while client.refusers and one.syn_ns - client.refusers[next(iter(client.refusers))][0] >= REMEMBER_NS:
        client.refusers.popitem(last=False)
    if not counts:
        return
    network = one.address[:15] if one.address.startswith(IPV4_MAPPED) else one.address[:8]
    client.refusers[one.pair] = one.syn_ns, network
    client.refusers.move_to_end(one.pair)
    if len(client.refusers) > REFUSERS_KEPT:
        client.refusers.popitem(last=False)
    if client.witness == one.pair:
        client.witness_ns = 0


def _are_many(client: _Client, pairs: list[int]) -> bool:
    """Are these servers too many, and in too many networks, to be at fault each on its own?"""
    networks = {client.refusers[pair][1] for pair in pairs}
    return len(pairs) >= REFUSERS_OF_A_CLIENT and len(networks) >= NETWORKS_OF_THEIRS
