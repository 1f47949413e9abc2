"""Community ID v1: the flow hash of Zeek, Suricata, Wireshark and others, to join their records with ours.

Source: the Community ID specification, version 1 (corelight/community-id-spec). Seed 0, protocol TCP.
"""

from __future__ import annotations

from binascii import b2a_base64
from hashlib import sha1

import numpy as np
from numpy.typing import NDArray

from tracer.vocabulary.addresses import IPV4_MAPPED

SEED = bytes(2)
PROTOCOL_TCP_AND_PAD = b"\x06\x00"

_MAPPED = np.frombuffer(IPV4_MAPPED, np.uint8)
_PROTOCOL_BITS = np.uint64(int.from_bytes(PROTOCOL_TCP_AND_PAD, "big") << 32)


def community_ids(
    client_ip: NDArray[np.uint8], server_ip: NDArray[np.uint8], client_port: NDArray[np.uint16],
    server_port: NDArray[np.uint16],
) -> list[str]:  # fmt: skip
    """The Community IDs of TCP flows, the same for both directions; only the hash is made one by one.

    Addresses are [n, 16] bytes in network order, IPv4 as ::ffff:a.b.c.d; ports in host byte order.
    """
    short = _is_mapped(client_ip) & _is_mapped(server_ip)
    if short.all():
        return _short_texts(client_ip, server_ip, client_port, server_port)
    found = np.empty(len(short), object)
    for rows, make in ((short, _short_texts), (~short, _long_texts)):
        found[rows] = make(client_ip[rows], server_ip[rows], client_port[rows], server_port[rows])
    texts: list[str] = found.tolist()
    return texts


def _is_mapped(address: NDArray[np.uint8]) -> NDArray[np.bool_]:
    mapped: NDArray[np.bool_] = (address[:, :12] == _MAPPED).all(axis=1)
    return mapped


def _short_texts(
    client_ip: NDArray[np.uint8], server_ip: NDArray[np.uint8], client_port: NDArray[np.uint16],
    server_port: NDArray[np.uint16],
) -> list[str]:  # fmt: skip
    """IPv4: an endpoint is one number, and the 16 bytes to hash are two."""
    client, server = (
        np.ascontiguousarray(address[:, 12:]).view(">u4").reshape(-1).astype(np.uint64) << np.uint64(16) | port
        for address, port in ((client_ip, client_port), (server_ip, server_port))
    )
    low, high = np.minimum(client, server), np.maximum(client, server)
    sixteen, word = np.uint64(16), np.uint64(0xFFFF)
    messages = np.empty((len(low), 2), ">u8")  # seed, addresses; rest of the latter, protocol, ports
    messages[:, 0] = (low >> sixteen) << sixteen | high >> np.uint64(32)
    messages[:, 1] = (high >> sixteen & word) << np.uint64(48) | _PROTOCOL_BITS | (low & word) << sixteen | high & word
    return _texts(messages.view(np.uint8))


def _long_texts(
    client_ip: NDArray[np.uint8], server_ip: NDArray[np.uint8], client_port: NDArray[np.uint16],
    server_port: NDArray[np.uint16],
) -> list[str]:  # fmt: skip
    client, server = _ends(client_ip, client_port), _ends(server_ip, server_port)
    swapped = client.view(f"S{client.shape[1]}") > server.view(f"S{server.shape[1]}")
    low, high = np.where(swapped, server, client), np.where(swapped, client, server)
    seed, tcp = (np.tile(np.frombuffer(part, np.uint8), (len(low), 1)) for part in (SEED, PROTOCOL_TCP_AND_PAD))
    return _texts(np.hstack([seed, low[:, :16], high[:, :16], tcp, low[:, 16:], high[:, 16:]]))


def _texts(messages: NDArray[np.uint8]) -> list[str]:
    return [
        "1:" + b2a_base64(sha1(message, usedforsecurity=False).digest(), newline=False).decode("ascii")
        for message in messages.view(f"V{messages.shape[1]}").reshape(-1).tolist()
    ]


def _ends(address: NDArray[np.uint8], port: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """[n, 18]: address and port in network order."""
    return np.hstack([address, port.astype(">u2").view(np.uint8).reshape(-1, 2)])
