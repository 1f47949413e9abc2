"""Local addresses and networks, tested in batches, agree with the standard library."""

from __future__ import annotations

import ipaddress

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracer.handshake.vantage import LocalSet


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
