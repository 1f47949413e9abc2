"""Community ID against its reference implementation."""

from __future__ import annotations

import ipaddress

import communityid
import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.support.rows import addresses
from tracer.handshake.community_id import community_ids
from tracer.vocabulary.addresses import IPV4_MAPPED

PORT = st.integers(0, 65535)
V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)


def sixteen(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    return IPV4_MAPPED + address.packed if address.version == 4 else address.packed


def community_id(client: bytes, server: bytes, client_port: int, server_port: int) -> str:
    ends = (np.frombuffer(one, np.uint8).reshape(1, 16) for one in (client, server))
    return community_ids(*ends, *np.array([[client_port], [server_port]], np.uint16))[0]


def reference(client: str, server: str, client_port: int, server_port: int) -> str:
    flow = communityid.FlowTuple.make_tcp(client, server, client_port, server_port)
    return str(communityid.CommunityID().calc(flow))


@given(st.one_of(st.tuples(V4, V4), st.tuples(V6, V6)), PORT, PORT)
@example((ipaddress.IPv4Address("10.0.0.1"), ipaddress.IPv4Address("10.0.0.1")), 2, 1)
@example((ipaddress.IPv4Address("128.232.110.120"), ipaddress.IPv4Address("66.35.250.204")), 34855, 80)
@example((ipaddress.IPv6Address("::fffe:a00:1"), ipaddress.IPv6Address("::ffff:a00:1")), 1, 2)
def test_reference_agrees(
    addresses: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...], client_port: int, server_port: int
) -> None:
    client, server = addresses
    both = all(address.version == 6 and sixteen(address).startswith(IPV4_MAPPED) for address in addresses)
    assume(not both)  # those mean IPv4 here
    ours = community_id(sixteen(client), sixteen(server), client_port, server_port)
    assert ours == reference(str(client), str(server), client_port, server_port)
    assert ours == community_id(sixteen(server), sixteen(client), server_port, client_port)


def test_example_of_the_specification() -> None:
    client = IPV4_MAPPED + bytes((128, 232, 110, 120))
    server = IPV4_MAPPED + bytes((66, 35, 250, 204))
    assert community_id(client, server, 34855, 80) == "1:LQU9qZlK+B5F3KDmev6m5PMibrg="


def test_many_at_once_are_each_by_itself() -> None:
    rng = np.random.default_rng(1)
    some = addresses(rng, 20)
    ends = some[rng.integers(0, 20, 4000)]
    client, server = ends[:2000], ends[2000:]
    # the last octet alone decides, or the port does
    server[:500] = client[:500]
    server[:200, 15] ^= 1
    ports = rng.choice(np.array([0, 1, 255, 256, 443, 65535], np.uint16), (2, 2000))
    found = community_ids(client, server, *ports)
    assert found == [
        community_id(one.tobytes(), other.tobytes(), int(first), int(second))
        for one, other, first, second in zip(client, server, *ports, strict=True)
    ]
    assert community_ids(client[:0], server[:0], *ports[:, :0]) == []
