"""An address to listen on, as the command line takes it."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; with port 0 the kernel chooses one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse `[ADDR:]PORT`, with an IPv6 address in brackets. Raises ValueError with a sentence."""
    host, separator, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f'"{text}" does not end in a port: write 9435, 0.0.0.0:9435 or [::1]:9435')
    if not separator:
        return Address(DEFAULT_HOST, int(port))
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{text}": put an IPv6 address in brackets: [::1]:{port}')
    if not host:
        raise ValueError(f'"{text}": give an address too, such as 0.0.0.0:{port} for all')
    return Address(host, int(port))
