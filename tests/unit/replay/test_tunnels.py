"""Which packets are of one tunnel."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.packets import address
from tracer.replay import tunnels as module
from tracer.replay.tunnels import KEY, Kind, Tunnels

A, B, C = "198.51.100.1", "198.51.100.2", "2001:db8::3"


def key(kind: Kind, src: str = "", dst: str = "", id_: int = -1, around: int = 0) -> bytes:
    one = np.zeros(1, KEY)
    one["around"], one["kind"], one["id"] = around, kind, id_
    for name, text in (("src", src), ("dst", dst)):
        one[name] = np.frombuffer(address(text) if text else bytes(16), np.uint8)
    return one.tobytes()


def groups(*keys: bytes) -> list[int]:
    """Of packets one by one, as they come."""
    tunnels = Tunnels()
    return [tunnels.numbers([one])[0] for one in keys]


@pytest.mark.parametrize("kind", [Kind.VXLAN, Kind.GENEVE])
def test_a_network_is_known_by_its_number(kind: Kind) -> None:
    assert groups(key(kind, id_=1), key(kind, id_=2), key(kind, id_=1)) == [1, 2, 1]


def test_kinds_are_told_apart() -> None:
    assert groups(*(key(kind, id_=0) for kind in (Kind.VXLAN, Kind.GENEVE))) == [1, 2]
    assert groups(key(Kind.GRE, A, B), key(Kind.IPIP, A, B), key(Kind.IPIP, B, A), key(Kind.GRE, B, A)) == [1, 2, 2, 1]


def test_ends_of_both_directions_are_one_tunnel() -> None:
    assert groups(key(Kind.IPIP, A, B), key(Kind.IPIP, A, C), key(Kind.IPIP, B, A), key(Kind.IPIP, C, A)) == [
        1,
        2,
        1,
        2,
    ]
    assert groups(key(Kind.IPIP, A, A), key(Kind.IPIP, A, A)) == [1, 1]


def test_equal_keys_are_one_tunnel_between_two_ends() -> None:
    there = [key(Kind.GRE, A, B, number) for number in (1, 2)]
    back = [key(Kind.GRE, B, A, number) for number in (1, 2)]
    assert groups(*there, *back) == [1, 2, 1, 2]
    assert groups(*there, *reversed(back)) == [1, 2, 2, 1]
    assert groups(key(Kind.GRE, A, B, 1), key(Kind.GRE, A, C, 1)) == [1, 2]


def test_keys_that_differ_by_direction_are_one_tunnel() -> None:
    assert groups(key(Kind.GRE, A, B, 1), key(Kind.GRE, B, A, 2), key(Kind.GRE, A, B, 1)) == [1, 1, 1]
    assert groups(key(Kind.GRE, A, B, 1), key(Kind.GRE, B, A)) == [1, 1]  # only one direction has a key
    # a second pair of keys between the same ends
    assert groups(
        key(Kind.GRE, A, B, 1), key(Kind.GRE, B, A, 2), key(Kind.GRE, A, B, 3), key(Kind.GRE, B, A, 4)
    ) == [1, 1, 2, 2]  # fmt: skip
    assert groups(key(Kind.GRE, A, B, 1), key(Kind.GRE, C, A, 2)) == [1, 2]


def test_where_keys_are_several_nothing_is_guessed() -> None:
    assert groups(key(Kind.GRE, A, B, 1), key(Kind.GRE, A, B, 2), key(Kind.GRE, B, A, 3)) == [1, 2, 3]


def test_a_guess_is_taken_back() -> None:
    """Two tunnels with keys of their own, of which the first packets went in different directions."""
    first, second = key(Kind.GRE, A, B, 1), key(Kind.GRE, B, A, 2)
    found = groups(first, second, key(Kind.GRE, A, B, 2), second, key(Kind.GRE, B, A, 1), first)
    assert found == [1, 1, 2, 2, 1, 1]
    found = groups(first, second, key(Kind.GRE, B, A, 1), first, key(Kind.GRE, A, B, 2), second)
    assert found[:3] == [1, 1, 2]
    assert found[2] == found[3]
    assert found[4] == found[5] != found[3]


def test_what_is_around_counts() -> None:
    tunnels = Tunnels()
    one, other = tunnels.numbers([key(Kind.VXLAN, id_=1), key(Kind.VXLAN, id_=2)])
    inner = [key(Kind.IPIP, A, B, around=one), key(Kind.IPIP, A, B, around=other), key(Kind.IPIP, B, A, around=one)]
    assert tunnels.numbers(inner) == [3, 4, 3]
    assert tunnels.through == [(), ("vxlan",), ("vxlan",), ("vxlan", "ipip"), ("vxlan", "ipip")]


def test_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TUNNELS_MAX", 3)
    keys = [key(Kind.VXLAN, id_=number) for number in range(5)]
    tunnels = Tunnels()
    assert tunnels.numbers(keys) == [1, 2, 3, 0, 0]
    assert tunnels.numbers(keys) == [1, 2, 3, 0, 0]
    assert len(tunnels.through) == 4
