"""Refused cookies: whose fault they show, and whose they do not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.support import longer
from tests.support.judged import MS, Shake, batch, causes, host, judge_at_once, judge_one_by_one
from tracer.causes import cookies, slot_table
from tracer.causes.judge import CauseJudge
from tracer.causes.peer_history import REMEMBER_NS
from tracer.ipc.messages import HostAnswer, HostQuestion
from tracer.vocabulary.vocabulary import CookieCheck, CookieOrigin, Vantage

A, B, C, D = (bytes([number]) * 8 for number in (0xA0, 0xB0, 0xC0, 0xD0))
AWAY, HERE = (Vantage.CLIENT, Vantage.TRANSIT), (Vantage.SERVER, Vantage.LOCAL)
WAYS = (judge_one_by_one, judge_at_once)
STALE, MAYBE_SHARED, NOT_SHARED = "cookie_stale possible", "key_not_shared possible", "key_not_shared likely"
CHANGES, LISTENER = "client_address_changes likely", "listener_key_differs likely"
HOUR_MS = REMEMBER_NS / MS

Way = Callable[..., list[str]]


def refused(sent: bytes, given: bytes, at_ms: float = 1000, **more: int) -> Shake:
    return replace(Shake(at_ms, cookie=sent, data=100, back=given), **more)


def taken(cookie: bytes, at_ms: float, **more: int) -> Shake:
    return replace(Shake(at_ms, cookie=cookie, data=100, acked=100), **more)


def asked(given: bytes, at_ms: float, **more: int) -> Shake:
    return replace(Shake(at_ms, cookie=b"", back=given), **more)


def refusals(*servers: tuple[int, int], rounds: int = 2, vantage: Vantage = Vantage.CLIENT) -> list[Shake]:
    """Each server (number, network) in turn refuses the cookie that it gave and gives another, each time."""
    made = []
    for number in range(rounds):
        for place, (server, network) in enumerate(servers):
            old, new = (bytes([server, network, number + more]) * 3 for more in (0, 1))
            at_ms = 1000 * (number * len(servers) + place + 1)
            made.append(refused(old, new, at_ms, server=server, network=network, vantage=vantage))
    return made


# --- the client's address changes ---


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", AWAY)
def test_three_unrelated_servers_do_not_fail_alike(judge: Way, vantage: Vantage) -> None:
    seen = refusals((1, 1), (2, 1), (3, 2), vantage=vantage)
    assert judge(CauseJudge(), *seen) == [STALE] * 2 + [CHANGES] * 4


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize(
    "servers", [((1, 1), (2, 1), (3, 1)), ((1, 1), (2, 2)), ((1, 1),)], ids=["one network", "two servers", "one server"]
)
def test_fewer_accuse_nobody(judge: Way, servers: tuple[tuple[int, int], ...]) -> None:
    count = len(servers)
    assert judge(CauseJudge(), *refusals(*servers)) == [STALE] * count + [MAYBE_SHARED] * count


@pytest.mark.parametrize("judge", WAYS)
def test_a_server_that_takes_cookies_shows_that_the_client_stays(judge: Way) -> None:
    seen = refusals((1, 1), (2, 1), (3, 2))
    first = taken(A, 500, server=9)
    assert judge(CauseJudge(), first, *seen) == ["", *[STALE] * 3, *[NOT_SHARED] * 3]
    # another client's, one at another place and one of long ago say nothing of this client now
    for other in (replace(first, client=2), replace(first, ifindex=3), replace(first, at_ms=500 - HOUR_MS)):
        later = [replace(one, at_ms=one.at_ms + HOUR_MS) for one in (other, *seen)]
        assert judge(CauseJudge(), *later) == ["", *[STALE] * 2, *[CHANGES] * 4]


@pytest.mark.parametrize("judge", WAYS)
def test_a_server_that_has_taken_one_is_none_of_the_three(judge: Way) -> None:
    seen = refusals((1, 1), (2, 1), (3, 2))
    lucky = taken(bytes([1, 1, 1]) * 3, 1500, server=1, network=1)
    said = judge(CauseJudge(), seen[0], lucky, *seen[1:])
    # the lucky one may have seen the same address twice: three that refuse cookies and none that only takes them
    assert said == [STALE, "", STALE, STALE, "cookie_stale likely", MAYBE_SHARED, MAYBE_SHARED]


@pytest.mark.parametrize("judge", WAYS)
def test_what_they_refused_long_ago_does_not_count(judge: Way) -> None:
    late = [replace(one, at_ms=1 + number * HOUR_MS / 2) for number, one in enumerate(refusals((1, 1), (2, 1), (3, 2)))]
    assert CHANGES not in judge(CauseJudge(), *late)


@pytest.mark.parametrize("judge", WAYS)
def test_three_pools_of_a_client_that_is_served_elsewhere(judge: Way) -> None:
    served = [taken(A, 900 + 1000 * number, server=9) for number in range(6)]
    mixed = [one for pair in zip(served, refusals((1, 1), (2, 1), (3, 2)), strict=True) for one in pair]
    assert [one for one in judge(CauseJudge(), *mixed) if one] == [STALE] * 3 + [NOT_SHARED] * 3


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", Vantage)
def test_a_cookie_that_another_address_got_names_the_client(judge: Way, vantage: Vantage) -> None:
    seen = [asked(A, 1000), refused(A, B, 2000, client=2), refused(B, A, 3000)]
    # elsewhere both clients may be behind one address, which is all that the server sees
    said = CHANGES if vantage in HERE else "client_address_changes possible"
    assert judge(CauseJudge(), *(replace(one, vantage=vantage) for one in seen)) == ["", said, said]
    # one that this address got, too, is no such
    both = [asked(A, 1000), asked(A, 1500, client=2), refused(A, B, 2000)]
    assert said not in judge(CauseJudge(), *(replace(one, vantage=vantage) for one in both))


# --- listeners with keys of their own ---


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", Vantage)
def test_a_cookie_of_another_port(judge: Way, vantage: Vantage) -> None:
    seen = [
        asked(A, 1000), refused(A, B, 2000, port=444), refused(B, A, 3000), refused(A, B, 4000, port=444),
        taken(B, 5000, port=444), refused(B, A, 6000), taken(D, 6500, server=9), refused(A, B, 7000, port=444),
    ]  # fmt: skip
    said = judge(CauseJudge(), *(replace(one, vantage=vantage) for one in seen))
    # one refusal may be a rotation's; elsewhere two servers may have a port each
    once = "listener_key_differs possible"
    listener = LISTENER if vantage in HERE else once
    assert said == ["", once, listener, listener, "", listener, "", listener]


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", HERE)
def test_a_host_that_only_forwards_the_port_does_not_know_the_servers_keys(judge: Way, vantage: Vantage) -> None:
    turns = [
        taken(A, 500, server=9), taken(A, 1000), refused(A, B, 2000), taken(B, 3000), refused(B, A, 4000),
        taken(A, 5000), refused(A, B, 6000),
    ]  # fmt: skip
    for ttl, cause in ((63, NOT_SHARED), (64, "cookie_stale likely")):
        said = judge(CauseJudge(), *(replace(one, vantage=vantage, ttl=ttl) for one in turns))
        assert said[-1] == cause


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", Vantage)
def test_other_listeners_are_not_blamed_for_a_new_key(judge: Way, vantage: Vantage) -> None:
    def said(*shakes: Shake) -> list[str]:
        return judge(CauseJudge(), *(replace(one, vantage=vantage) for one in shakes))

    # the cookie was good at both ports
    both = (asked(A, 1000), taken(A, 2000, port=444))
    assert said(*both, refused(A, B, 3000), taken(B, 4000, port=444)) == ["", "", "cookie_stale likely", ""]
    assert said(*both, refused(A, B, 3000, port=444), taken(B, 4000)) == ["", "", "cookie_stale likely", ""]
    # it was refused where it was given
    assert said(asked(A, 1000), refused(A, B, 2000), taken(B, 3000, port=444)) == ["", STALE, ""]
    # another address or client
    for other in ({"server": 2}, {"network": 2}):
        assert said(asked(A, 1000, **other), refused(A, B, 2000, port=444))[1] == STALE
    # long ago
    assert said(asked(A, 1000), refused(A, B, 2000 + HOUR_MS, port=444)) == ["", STALE]


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", HERE)
def test_a_listener_that_refused_its_own_cookie_since_shows_a_new_key(judge: Way, vantage: Vantage) -> None:
    seen = [asked(A, 1000), asked(C, 1500, client=2), refused(C, D, 2000, client=2), refused(A, B, 3000, port=444)]
    assert judge(CauseJudge(), *(replace(one, vantage=vantage) for one in seen)) == ["", "", STALE, STALE]


# --- at the server's host, which knows its keys ---


class Keys:
    """A root part that says of each cookie in turn whose it is."""

    def __init__(self, *origins: CookieOrigin) -> None:
        self.origins = list(origins)

    def __call__(self, question: HostQuestion) -> HostAnswer:
        count = len(question.cookies)
        told, self.origins = self.origins[:count], self.origins[count:]
        return HostAnswer(0, host(10_000_000), [int(CookieCheck.INVALID)] * count, [int(one) for one in told])


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", HERE)
@pytest.mark.parametrize(
    ("origin", "cause"),
    [
        (CookieOrigin.EARLIER_KEY, "cookie_stale certain"),
        (CookieOrigin.OTHER_LISTENER, LISTENER),
        (CookieOrigin.OTHER_ADDRESS, "cookie_per_address likely"),
        (CookieOrigin.UNKNOWN, STALE),
    ],
)
def test_the_host_knows_whose_cookie_it_refused(judge: Way, vantage: Vantage, origin: CookieOrigin, cause: str) -> None:
    seen = [refused(A, B, vantage=vantage), refused(A, B, 2000, client=2, vantage=vantage)]
    assert judge(CauseJudge(Keys(origin, origin)), *seen) == [cause] * 2


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", HERE)
@pytest.mark.parametrize("origin", [CookieOrigin.OTHER_LISTENER, CookieOrigin.OTHER_ADDRESS])
def test_a_cookie_that_this_listener_took_is_its_own(judge: Way, vantage: Vantage, origin: CookieOrigin) -> None:
    seen = [replace(one, vantage=vantage) for one in (taken(A, 1000), refused(A, B, 2000))]
    assert judge(CauseJudge(Keys(CookieOrigin.UNKNOWN, origin)), *seen) == ["", "cookie_stale likely"]
    given = [replace(one, vantage=vantage) for one in (asked(A, 1000), refused(A, B, 2000))]
    assert judge(CauseJudge(Keys(origin)), *given) == ["", STALE]


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", HERE)
def test_cookies_that_the_host_never_gave_point_to_a_pool(judge: Way, vantage: Vantage) -> None:
    foreign = [bytes([number]) * 8 for number in range(1, 6)]
    seen = [refused(one, B, 1000 * number, vantage=vantage) for number, one in enumerate(foreign, 1)]
    # no more than possible: they may share a key, and a balancer translate the address, which a cookie covers
    assert judge(CauseJudge(Keys(*[CookieOrigin.NOT_OURS] * 5)), *seen) == [STALE, *[MAYBE_SHARED] * 4]


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", HERE)
def test_a_cookie_of_unknown_origin_from_a_new_client_is_just_old(judge: Way, vantage: Vantage) -> None:
    seen = [refused(A, B, 1000, client=number, vantage=vantage) for number in range(1, 6)]
    assert judge(CauseJudge(Keys(*[CookieOrigin.NOT_OURS] * 5)), *seen) == [STALE] * 5


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", HERE)
def test_a_server_that_knows_its_keys_is_no_pool(judge: Way, vantage: Vantage) -> None:
    seen = [refused(A, B, 1000), refused(B, C, 2000), refused(C, D, 3000), refused(D, A, 4000)]
    here = [replace(one, vantage=vantage) for one in seen]
    assert judge(CauseJudge(), *here) == [STALE] * 4
    earlier = Keys(*[CookieOrigin.EARLIER_KEY] * 4)
    assert judge(CauseJudge(earlier), *here) == ["cookie_stale certain"] * 4


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", Vantage)
def test_a_key_that_is_rotated_ever_again_is_no_pool(judge: Way, vantage: Vantage) -> None:
    seen = []
    for number in range(8):
        old, new = (bytes([number + more]) * 8 for more in (0, 1))
        seen += [taken(old, 1000 + number * 10_000), refused(old, new, 5000 + number * 10_000)]
    said = judge(CauseJudge(), *(replace(one, vantage=vantage) for one in seen))
    assert said == ["", "cookie_stale likely"] * 8


# --- a router that is traced on both sides ---

FRONT, BEHIND = 2, 3  # interfaces
VIP, FIRST, SECOND = 100, 101, 102  # servers


def both(one: Shake, server: int, *, client: int = 1, vip: int = VIP, behind_first: bool = True) -> list[Shake]:
    """Its records at both interfaces, as they are settled; `client` is its address behind the router."""
    one = replace(one, seq=int(one.at_ms) + 1, vantage=Vantage.TRANSIT)
    front = replace(one, server=vip, ifindex=FRONT)
    behind = replace(one, server=server, ifindex=BEHIND, client=client, at_ms=one.at_ms + 0.1)
    return [behind, front] if behind_first else [front, behind]


PER_ADDRESS = "cookie_per_address likely"


@pytest.mark.parametrize("behind_first", [True, False])
def test_a_cookie_of_another_server_behind_the_address(*, behind_first: bool) -> None:
    way = [
        (asked(A, 1000), FIRST), (refused(A, B, 2000), SECOND), (refused(B, A, 3000), FIRST),
        (taken(A, 4000), FIRST), (refused(A, B, 5000), SECOND),
    ]  # fmt: skip
    seen = [record for one, server in way for record in both(one, server, behind_first=behind_first)]
    assert judge_at_once(CauseJudge(), *seen) == [*[""] * 2, *[PER_ADDRESS] * 4, *[""] * 2, *[PER_ADDRESS] * 2]
    # the record that was settled first in a batch of its own does not know the other yet
    said = judge_one_by_one(CauseJudge(), *seen)
    assert said[3::2] == [PER_ADDRESS, PER_ADDRESS, "", PER_ADDRESS]
    assert set(said[2::2]) <= {STALE, "", "cookie_per_address possible"}


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("behind_first", [True, False])
def test_a_translated_address_is_no_fault_by_itself(judge: Way, *, behind_first: bool) -> None:
    def said(*way: tuple[Shake, int, int]) -> set[str]:
        records = [
            record
            for one, server, client in way
            for record in both(one, server, client=client, behind_first=behind_first)
        ]
        return set(judge(CauseJudge(), *records))

    # one server whose key is rotated
    rotated = [asked(A, 1000), taken(A, 2000), refused(A, B, 3000), taken(B, 4000), refused(B, C, 5000)]
    assert said(*((one, FIRST, 1) for one in rotated)) == {"", "cookie_stale likely"}
    # the client's address is translated as well, and is another one each time
    clients = [(asked(A, 1000), FIRST, 51), (refused(A, B, 2000), FIRST, 52), (refused(B, C, 3000), FIRST, 53)]
    assert "cookie_per_address" not in " ".join(said(*clients))
    # a cookie from before we looked
    assert said((refused(A, B, 1000), FIRST, 1)) == {STALE}
    # two servers that share a key by which cookies are good at both
    assert said((asked(A, 1000), FIRST, 1), (taken(A, 2000), SECOND, 1)) == {""}


def test_the_hosts_own_keys_know_better_than_what_the_router_shows() -> None:
    seen = [*both(asked(A, 1000), FIRST), *both(refused(A, B, 2000), SECOND)]
    at_router = [replace(one, vantage=Vantage.SERVER) if one.server == VIP else one for one in seen]
    for records in (at_router, [*at_router[:2], *reversed(at_router[2:])]):
        said = judge_at_once(CauseJudge(Keys(CookieOrigin.EARLIER_KEY)), *records)
        assert sorted(said[2:]) == sorted([PER_ADDRESS, "cookie_stale certain"])


@pytest.mark.parametrize("judge", WAYS)
def test_the_same_numbers_elsewhere_are_another_handshake(judge: Way) -> None:
    first = both(asked(A, 1000), FIRST)
    behind, front = both(refused(A, B, 2000), SECOND)
    for change in ({"ifindex": FRONT}, {"at_ms": 3500}, {"seq": 7}, {"server": VIP}):
        assert PER_ADDRESS not in judge(CauseJudge(), *first, replace(behind, **change), front)


# --- however they come ---


@pytest.mark.parametrize("seed", range(longer.either(3, 8)))
def test_batches_make_no_difference(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    known = random.Random(seed)  # with secrets of the run, two keys sometimes share a place
    monkeypatch.setattr(slot_table.secrets, "token_bytes", known.randbytes)
    monkeypatch.setattr(slot_table.secrets, "randbits", known.getrandbits)
    for name in ("PAIRS", "CLIENTS", "COOKIES"):
        monkeypatch.setattr(cookies, name, 1 << 20)
    rng = random.Random(seed)
    choice = [bytes([number]) * 8 for number in range(5)]
    seen = []
    for number in range(400):
        kind = rng.choice((refused, refused, taken, asked))
        one = refused(*rng.sample(choice, 2)) if kind is refused else kind(rng.choice(choice), 0)
        where = Shake(
            number * rng.choice((10, 100_000)), client=rng.randrange(3), server=rng.randrange(4),
            network=rng.randrange(3), port=rng.choice((443, 444)), ifindex=rng.choice((2, 2, 3)),
            vantage=rng.choice(list(Vantage)),
        )  # fmt: skip
        seen.append(replace(where, cookie=one.cookie, data=one.data, back=one.back, acked=one.acked))
    one_by_one = judge_one_by_one(CauseJudge(), *seen)
    assert judge_at_once(CauseJudge(), *seen) == one_by_one
    cuts = sorted({0, len(seen), *(rng.randrange(len(seen)) for _ in range(20))})
    judge = CauseJudge()
    parts = [causes(judge.judge(batch(*seen[start:stop]))) for start, stop in pairwise(cuts)]
    assert [said for part in parts for said in part] == one_by_one
    assert len(set(one_by_one)) > 5
