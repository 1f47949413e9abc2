"""An address to listen on, as a command line writes it."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0: one that the kernel chooses."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """`[ADDR:]PORT`, an IPv6 address in brackets. Raises ValueError with a sentence."""
    host, separator, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f'"{text}" ends in no port: write 9435, 0.0.0.0:9435 or [::1]:9435')
    if not separator:
        return Address(DEFAULT_HOST, int(port))
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{text}": an IPv6 address stands in brackets: [::1]:{port}')
    if not host:
        raise ValueError(f'"{text}": name the address as well, 0.0.0.0:{port} for all of them')
    return Address(host, int(port))
