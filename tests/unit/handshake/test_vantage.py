"""Local addresses and networks, tested in batches, agree with the standard library."""

from __future__ import annotations

import ipaddress

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import blank
from tracer.handshake.vantage import (
    CHANGED_ADDRESSES,
    CHANGES_KEPT_NS,
    CHANGES_PER_ADDRESS,
    LocalHistory,
    LocalSet,
)
from tracer.vocabulary.vocabulary import Vantage


def sixteen(address: str) -> bytes:
    ip = ipaddress.ip_address(address)
    return bytes(10) + b"\xff\xff" + ip.packed if ip.version == 4 else ip.packed


def contains(local: LocalSet, addresses: list[bytes]) -> list[bool]:
    return local.contains(np.frombuffer(b"".join(addresses), np.uint8).reshape(-1, 16)).tolist()


def test_addresses_and_networks() -> None:
    local = LocalSet([sixteen("10.0.0.1"), sixteen("fd00::1")], [(sixteen("127.0.0.0"), 104)])
    asked = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "127.0.0.1", "127.255.1.2", "128.0.0.1", "::1"]
    assert contains(local, [sixteen(one) for one in asked]) == [True, False, True, False, True, True, False, False]


def test_nothing_is_local_to_an_empty_set() -> None:
    assert contains(LocalSet(), [sixteen("127.0.0.1")]) == [False]


@given(
    st.lists(st.binary(min_size=16, max_size=16), max_size=5),
    st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 128)), max_size=3),
    st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=8),
)
def test_agrees_with_ipaddress(addresses: list[bytes], networks: list[tuple[bytes, int]], asked: list[bytes]) -> None:
    asked = asked + addresses
    nets = [ipaddress.IPv6Network((network, prefix), strict=False) for network, prefix in networks]
    expected = [one in addresses or any(ipaddress.IPv6Address(one) in net for net in nets) for one in asked]
    assert contains(LocalSet(addresses, networks), asked) == expected


HERE, GONE, ELSEWHERE = (sixteen(one) for one in ("10.0.0.1", "10.0.0.2", "192.0.2.1"))


def vantages(history: LocalHistory, *rows: tuple[bytes, bytes, int]) -> list[Vantage]:
    """Vantages of handshakes of a client, a server and a SYN's time."""
    events = blank(len(rows))
    for event, (client, server, syn_ns) in zip(events, rows, strict=True):
        event["client"], event["server"] = np.frombuffer(client, np.uint8), np.frombuffer(server, np.uint8)
        event["syn_ns"] = syn_ns
    return [Vantage(number) for number in history.vantage(events).tolist()]


def test_an_address_counts_as_it_was_when_the_syn_came() -> None:
    history = LocalHistory()
    history.update([HERE, GONE], [], 100)
    history.update([HERE], [], 200)
    seen = [
        (ELSEWHERE, GONE, 199),
        (ELSEWHERE, GONE, 200),
        (GONE, ELSEWHERE, 150),
        (GONE, HERE, 150),
        (GONE, HERE, 250),
    ]
    was = [Vantage.SERVER, Vantage.TRANSIT, Vantage.CLIENT, Vantage.LOCAL, Vantage.SERVER]
    assert vantages(history, *seen) == was
    history.update([HERE, GONE], [], 300)
    back = [(ELSEWHERE, GONE, when) for when in (50, 199, 200, 299, 300)]
    assert vantages(history, *back) == [
        Vantage.SERVER, Vantage.SERVER, Vantage.TRANSIT, Vantage.TRANSIT, Vantage.SERVER
    ]  # fmt: skip
    # nothing new changes nothing
    history.update([GONE, HERE], [], 400)
    assert vantages(history, *seen) == was


def test_an_address_of_a_local_network_stays_local() -> None:
    history = LocalHistory()
    loopback = (sixteen("127.0.0.0"), 104)
    history.update([HERE], [loopback], 100)
    history.update([HERE, sixteen("127.0.0.5")], [loopback], 200)
    assert vantages(history, (ELSEWHERE, sixteen("127.0.0.5"), 150)) == [Vantage.SERVER]


def test_what_changed_long_ago_or_too_often_is_forgotten() -> None:
    history = LocalHistory()
    history.update([HERE, GONE], [], 100)
    history.update([HERE], [], 200)
    history.update([], [], 200 + CHANGES_KEPT_NS + 1)
    assert vantages(history, (ELSEWHERE, GONE, 150)) == [Vantage.TRANSIT]
    many = [bytes(8) + number.to_bytes(8, "big") for number in range(CHANGED_ADDRESSES + 10)]
    history.update(many, [], 300 + CHANGES_KEPT_NS)
    for turn in range(3 * CHANGES_PER_ADDRESS):
        history.update(many if turn % 2 else [], [], 400 + CHANGES_KEPT_NS + turn)
    assert len(history._changes) == CHANGED_ADDRESSES
    assert max(map(len, history._changes.values())) == CHANGES_PER_ADDRESS
