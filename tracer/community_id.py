"""Community ID v1: the flow hash that Zeek, Suricata, Wireshark and others print, to join their records with ours.

Source: the Community ID specification, version 1 (corelight/community-id-spec). Seed 0, protocol TCP.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from struct import Struct

V4_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 2.5.5.2
SEED = bytes(2)
PROTOCOL_TCP_AND_PAD = b"\x06\x00"

_PORTS = Struct("!HH")


def community_id(client_ip: bytes, server_ip: bytes, client_port: int, server_port: int) -> str:
    """The Community ID of a TCP flow, the same for both directions.

    Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d. Raises ValueError for another length.
    """
    if len(client_ip) != 16 or len(server_ip) != 16:
        raise ValueError("addresses must be 16 bytes, IPv4 as ::ffff:a.b.c.d")
    # The smaller end point goes first. Equal prefixes do not change the order, so mapped addresses may be compared.
    if (client_ip, client_port) > (server_ip, server_port):
        client_ip, server_ip = server_ip, client_ip
        client_port, server_port = server_port, client_port
    if client_ip.startswith(V4_MAPPED) and server_ip.startswith(V4_MAPPED):
        client_ip = client_ip[12:]
        server_ip = server_ip[12:]
    message = SEED + client_ip + server_ip + PROTOCOL_TCP_AND_PAD + _PORTS.pack(client_port, server_port)
    digest = hashlib.sha1(message, usedforsecurity=False).digest()
    return "1:" + b2a_base64(digest, newline=False).decode("ascii")
