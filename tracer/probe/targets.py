"""Which servers are asked: HOST[:PORT] on the command line or in a file, and their addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv6Address
from pathlib import Path

from tracer.errors import UsageError
from tracer.linux import privileges
from tracer.probe.connection import Address
from tracer.probe.model import Target

PORT = 443
_NAME_MAX = 255  # bytes of a name (RFC 1035)


def target(text: str) -> Target:
    """HOST, HOST:PORT, [ADDRESS]:PORT or a bare IPv6 address. Raises UsageError."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f'"{text}" is no server: write [ADDRESS]:PORT')
        port = rest[1:] if rest else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    elif ":" in text and not _is_ipv6(text):
        raise UsageError(f'"{text}" is no server: write HOST:PORT or [ADDRESS]:PORT')
    if not host or len(host) > _NAME_MAX or any(character.isspace() or character == "/" for character in host):
        raise UsageError(f'"{text}" is no server: write HOST or HOST:PORT, such as example.org:443')
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise UsageError(f'"{text}" has no port from 1 to 65535')
    if text.endswith(":") and not port and not _is_ipv6(text):
        raise UsageError(f'"{text}" has no port behind its colon')
    return Target(host, int(port) if port else PORT)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def each_once(found: Iterable[Target]) -> list[Target]:
    """In their order."""
    return list(dict.fromkeys(found))


def read(path: Path, user: privileges.User | None) -> list[Target]:
    """One a line; empty lines and those that begin with # count for nothing. Raises UsageError."""
    try:
        with privileges.acting_as(user):
            text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text: one HOST[:PORT] a line") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if word and not word.startswith("#"):
            try:
                found.append(target(word))
            except UsageError as error:
                raise UsageError(f"{path}, line {number}: {error}") from None
    if not found:
        raise UsageError(f"{path} names no server: one HOST[:PORT] a line")
    return found


def addresses(one: Target, family: int) -> tuple[list[Address], str]:
    """The addresses of a target, each once, and why there are none. `family` as in the socket module, 0 for any."""
    try:
        found = socket.getaddrinfo(one.host, one.port, family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except socket.gaierror as error:
        return [], f"its name has no address ({error.strerror})"
    except (UnicodeError, ValueError):
        return [], "this is no name that can be looked up"
    unique: dict[str, Address] = {}
    for _, _, _, _, address in found:
        unique.setdefault(str(address[0]), address)  # type: ignore[arg-type]
    return list(unique.values()), ""
