"""Addresses as people write them."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache

_IPV4_PREFIX = bytes(10) + b"\xff\xff"


@lru_cache(maxsize=8192)
def ip_text(address: bytes) -> str:
    """The text of an address of 16 bytes; a mapped one is shown as IPv4."""
    if address.startswith(_IPV4_PREFIX):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return str(ipaddress.IPv6Address(address))


def endpoint_text(ip: str, port: int) -> str:
    """Address and port, an IPv6 address in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
