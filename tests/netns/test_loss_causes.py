"""Random loss: a third of all first SYNs, or of all first SYN-ACKs, gets lost at the router, whatever they carry.

That is nobody's fault: no middlebox that drops SYNs with data, none that strips an option, no host that drops what it
never got. What was not lost has nothing to explain. Which ones get lost is drawn beforehand, from a fixed seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count

import pytest

from tests.support.netbox import wait_until
from tests.support.routed import TO_CLIENT, Routed, service_address, source_address
from tests.support.trials import (
    NO_FATE,
    NOTHING,
    Crowd,
    Fate,
    Places,
    Said,
    Trial,
    fate,
    routed_places,
    said,
    trying,
)

pytestmark = [pytest.mark.root, pytest.mark.slow]

EACH = 21  # connections of a kind, of which a third loses something
SEED = 17
BEFORE, BEHIND = ("client", "near"), ("far", "server")  # the loss
LOST: Said = ("packet_loss", "possible")
ONE_OF_BOTH: Fate = ("syn_or_synack_lost", "possible", None)
NO_ECN: Fate = ("packet_loss", "possible", None)  # others with ECN had passed
PERHAPS_ECN: Fate = ("ecn_blocked", "possible", None)  # the first one of all
SYNACK: Fate = ("synack_lost", "likely", None)
KINDS = tuple((kind, ecn) for ecn in (False, True) for kind in ("plain", "asking", "data"))
_numbers = count(1)


@dataclass
class Kind:
    """Connections of a kind: client's ports, and which of them lose their first SYN or SYN-ACK."""

    trial: Trial
    crowd: Crowd
    kind: str
    ecn: bool
    ports: list[int] = field(default_factory=list)
    unlucky: list[int] = field(default_factory=list)

    @property
    def lucky(self) -> list[int]:
        return [port for port in self.ports if port not in self.unlucky]

    def send(self, index: int) -> None:
        # who asks for a cookie needs an address of its own, or it has that of the one before
        source = source_address(index) if self.kind == "asking" else ""
        self.crowd.send(self.kind != "plain", source, self.ports[index])


@contextmanager
def losing(hosts: Routed, of_servers: bool, kinds: Sequence[Kind]) -> Iterator[Callable[[], None]]:
    """The router drops the first SYN of each unlucky one, or its first SYN-ACK; yields what waits for the next ones."""
    ends = "ip saddr . tcp dport" if of_servers else "ip daddr . tcp sport"
    flags = "tcp flags & (syn|ack) == syn|ack" if of_servers else f"iifname {TO_CLIENT} tcp flags & (syn|ack) == syn"
    unlucky = [f"{one.crowd.target[0]} . {port}" for one in kinds for port in one.unlucky]
    first = f"{flags} {ends} @unlucky {ends} != @lost add @lost {{ {ends} }} drop"
    again = f"{flags} {ends} @unlucky add @again {{ {ends} }}"
    dynamic = "{ type ipv4_addr . inet_service; flags dynamic; size 4096; }"
    hosts.router.run(
        "nft",
        "table ip loss {"
        f" set unlucky {{ type ipv4_addr . inet_service; elements = {{ {', '.join(unlucky)} }}; }};"
        f" set lost {dynamic}; set again {dynamic};"
        f" chain c {{ type filter hook forward priority 0; {first}; {again}; }}; }}",
    )

    def have(name: str) -> int:
        listed = hosts.router.json("nft", "-j", "list", "set", "ip", "loss", name)["nftables"]
        (found,) = (one["set"] for one in listed if "set" in one)
        return len(found.get("elem", ()))

    try:
        yield lambda: wait_until(lambda: have("again") == len(unlucky), "what is sent again")
        assert have("lost") == len(unlucky)
    finally:
        hosts.router.run("nft", "delete", "table", "ip", "loss")


@pytest.fixture(scope="module")
def hosts_and_places() -> Iterator[tuple[Routed, Places]]:
    with routed_places() as made:
        yield made


Kinds = dict[tuple[str, bool], Kind]


def play(hosts: Routed, places: Places, opened: ExitStack, of_servers: bool) -> Kinds:
    """All kinds at once; what gets lost is of the clients or of the servers."""
    draw = random.Random(SEED)
    kinds = {}
    for kind, ecn in KINDS:
        number = next(_numbers)
        trial = opened.enter_context(trying(places))
        listener = trial.enter_context(hosts.listen(hosts.first, service_address(number), trial.port))
        one = Kind(trial, Crowd(hosts.client, listener, source_address(40)), kind, ecn)
        one.ports = [21000 + 100 * number + index for index in range(EACH)]
        one.unlucky = draw.sample(one.ports, EACH // 3)
        kinds[kind, ecn] = one
        if kind == "data":  # the path is known to pass data in SYNs
            trial.nothing_said((*BEFORE, *BEHIND), *(one.crowd.exchange() for _ in range(3)))
    with losing(hosts, of_servers, list(kinds.values())) as wait_for_the_next:
        for ecn in (False, True):
            with hosts.sysctl(hosts.client, tcp_ecn="1" if ecn else "2"):
                for index in range(EACH):
                    for kind in ("plain", "asking", "data"):
                        kinds[kind, ecn].send(index)
        wait_for_the_next()
        for one in kinds.values():
            one.crowd.finish()
    return kinds


@pytest.fixture(scope="module")
def syns(hosts_and_places: tuple[Routed, Places]) -> Iterator[Kinds]:
    with ExitStack() as opened:
        yield play(*hosts_and_places, opened, of_servers=False)


@pytest.fixture(scope="module")
def synacks(hosts_and_places: tuple[Routed, Places]) -> Iterator[Kinds]:
    with ExitStack() as opened:
        yield play(*hosts_and_places, opened, of_servers=True)


_EACH_KIND = pytest.mark.parametrize(
    ("kind", "ecn"), KINDS, ids=[f"{one} {'with ECN' if ecn else ''}" for one, ecn in KINDS]
)
_OUTCOME = {"plain": "not_attempted", "asking": "cookie_granted", "data": "data_acked"}


def assert_all_was_well(one: Kind) -> None:
    one.trial.nothing_said((*BEFORE, *BEHIND), *one.lucky)
    for port in one.lucky:
        for place in (*BEFORE, *BEHIND):
            record = one.trial.at(place, port)
            assert record.tfo.outcome == _OUTCOME[one.kind]
            assert (record.syn.ecn == "ecn") == one.ecn


@_EACH_KIND
def test_a_third_of_all_first_syns(syns: Kinds, kind: str, ecn: bool) -> None:
    one = syns[kind, ecn]
    assert_all_was_well(one)
    for port in one.unlucky:
        for place in BEFORE:
            record = one.trial.at(place, port)
            assert record.handshake.syn_count == 2
            assert fate(record) in ((NO_ECN, PERHAPS_ECN) if ecn and kind == "plain" else (ONE_OF_BOTH,))
            assert record.tfo.outcome == ("not_attempted" if kind == "plain" else "syn_timeout_fallback")
            # SYNs with data passed before and after: this is no middlebox
            assert said(record) == (NOTHING if kind == "plain" else LOST)
        for place in BEHIND:
            # the first SYN never came here, and the second one is an ordinary one
            record = one.trial.at(place, port)
            assert (record.handshake.syn_count, record.tfo.outcome) == (1, "not_attempted")
            assert record.syn.ecn == "none"
        one.trial.nothing_said(BEHIND, port)


@_EACH_KIND
def test_a_third_of_all_first_synacks(synacks: Kinds, kind: str, ecn: bool) -> None:
    one = synacks[kind, ecn]
    assert_all_was_well(one)
    for port in one.unlucky:
        for place in BEHIND:
            # the server's answer has gone out, and again
            record = one.trial.at(place, port)
            assert record.handshake.synack_count is not None
            assert record.handshake.synack_count >= 2
            # unless the server was the first to lose patience
            lost = SYNACK if record.handshake.late_syns else NO_FATE
            assert (record.tfo.outcome, said(record), fate(record)) == (_OUTCOME[kind], NOTHING, lost)
        for place in BEFORE:
            record = one.trial.at(place, port)
            assert fate(record) in (ONE_OF_BOTH, NO_FATE)
            # what the first SYN asked for was given, but its answer came after another SYN
            assert said(record) in (NOTHING, LOST)
