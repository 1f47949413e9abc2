"""Addresses as people write them, and as 16 bytes."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache

IPV4_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 2.5.5.2


def sixteen_bytes(address: bytes) -> bytes:
    """An address of 4 or 16 bytes as 16."""
    return address if len(address) == 16 else IPV4_MAPPED + address


@lru_cache(maxsize=8192)
def ip_text(address: bytes) -> str:
    """The text of an address of 16 bytes; a mapped one is shown as IPv4."""
    if address.startswith(IPV4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return str(ipaddress.IPv6Address(address))


def endpoint_text(ip: str, port: int) -> str:
    """Address and port, an IPv6 address in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
