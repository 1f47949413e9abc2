"""Is Fast Open on? The sysctls of this network namespace, bit by bit. Keys are counted, never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from tracer.doctor.model import Finding, Level, Topic, finding
from tracer.linux.hoststate import SYSCTL
from tracer.vocabulary.own_command import tfotrace

# bits of net.ipv4.tcp_fastopen (Documentation/networking/ip-sysctl.rst)
CLIENT, SERVER, CLIENT_NO_COOKIE, SERVER_NO_COOKIE, EVERY_LISTENER = 0x1, 0x2, 0x4, 0x200, 0x400
_NAME = "net.ipv4.tcp_fastopen"
_finding = partial(finding, Topic.SETTINGS)


def bits(sysctls: Mapping[str, str]) -> int | None:
    """net.ipv4.tcp_fastopen as a number; None if it is missing or not a number."""
    text = sysctls.get("tcp_fastopen", "")
    return int(text) if text.isascii() and text.isdigit() else None


def switch_on(prefix: str, value: int) -> str:
    """The command that switches Fast Open on, for clients and servers: the same one, whichever finding it answers.

    All bits that are set stay. Some may be unwise, but they were set on purpose, and what clears one may break the
    other end: that is said in words.
    """
    return f"{prefix}sysctl -w {_NAME}={value | CLIENT | SERVER}"


def findings(sysctls: Mapping[str, str], prefix: str, folder: Path = SYSCTL) -> Iterator[Finding]:
    """`prefix` goes in front of commands, for root and for another network namespace."""
    value = bits(sysctls)
    if value is None:
        text = f"{_NAME} cannot be read: this kernel has no Fast Open, or /proc is not the kernel's"
        yield _finding("tcp_fastopen", Level.UNKNOWN, text)
        return
    yield from switches(value, prefix)
    if value & CLIENT_NO_COOKIE:
        send = "send" if value & CLIENT else "would send"
        text = (
            f"clients here {send} data without a cookie (bit 0x4), which only servers with bit 0x200 take: clear "
            "bit 0x4 unless yours have it"
        )
        yield _finding("client_no_cookie", Level.WARNING, text)
    if value & SERVER_NO_COOKIE:
        yield _server_no_cookie(value)
    if value & EVERY_LISTENER:
        on = "has it" if value & SERVER else "would have it if bit 0x2 were set"
        text = f"every listener opened since bit 0x400 was set {on}, whether its program asks for it or not"
        yield _finding("every_listener", Level.INFO, text)
    yield key(value, prefix, folder)
    # where Fast Open is off these two do not matter yet, but would as soon as the advice to switch it on is followed
    found = blackhole(sysctls, prefix)
    if value & CLIENT or found.level is Level.WARNING:
        yield found
    if sysctls.get("tcp_syncookies") == "2":
        yield _syn_cookies(value, prefix)


def switches(value: int, prefix: str) -> Iterator[Finding]:
    """Is it on for clients, and for servers?"""
    yield _client(value, prefix)
    yield _server(value, prefix)


def _client(value: int, prefix: str) -> Finding:
    if value & CLIENT:
        text = f"on for clients ({_NAME}={value}, bit 0x1): programs that ask for it use it, others do not"
        return _finding("client", Level.OK, text)
    text = f"off for clients ({_NAME}={value} lacks bit 0x1): no program here can use it as a client"
    return _finding("client", Level.WARNING, text, switch_on(prefix, value))


def _server(value: int, prefix: str) -> Finding:
    if value & SERVER:
        text = f"on for servers ({_NAME}={value}, bit 0x2): listeners with TCP_FASTOPEN grant cookies and take data"
        return _finding("server", Level.OK, text)
    text = f"off for servers ({_NAME}={value} lacks bit 0x2), even if listeners ask for it"
    return _finding("server", Level.WARNING, text, switch_on(prefix, value), "server_disabled")


def _server_no_cookie(value: int) -> Finding:
    if value & SERVER:
        text = "servers here take data without a cookie (bit 0x200), so they answer requests from forged addresses"
        return _finding("server_no_cookie", Level.WARNING, text, cause="cookie_not_required")
    text = (
        "once on, servers here would take data without a cookie (bit 0x200), even from forged addresses: clear bit "
        "0x200 unless your clients need it"
    )
    return _finding("server_no_cookie", Level.WARNING, text)


def _syn_cookies(value: int, prefix: str) -> Finding:
    text = "SYN cookies are always sent (net.ipv4.tcp_syncookies=2): no server here can take a SYN's data"
    command = f"{prefix}sysctl -w net.ipv4.tcp_syncookies=1"
    if value & SERVER:
        return _finding("syn_cookies", Level.PROBLEM, text, command, "syn_cookies")
    return _finding("syn_cookies", Level.WARNING, text, command)


def key(value: int, prefix: str, folder: Path) -> Finding:
    """Is there a key, and a backup? Without a backup, a rotation invalidates all cookies handed out."""
    try:
        keys = (folder / "tcp_fastopen_key").read_text().strip().split(",")
    except PermissionError:
        text = "only root can see whether a cookie key is set"
        return _finding("key", Level.UNKNOWN, text, tfotrace("doctor"))
    except OSError as error:
        return _finding("key", Level.UNKNOWN, f"the cookie key cannot be read: {error.strerror}")
    if not any(character not in "0-" for character in keys[0]):
        text = "no cookie key yet: the kernel makes a random one when the first listener asks for Fast Open"
        return _finding("key", Level.INFO, text)
    if len(keys) > 1:
        return _finding("key", Level.OK, "a cookie key and a backup key are set: cookies of both are valid")
    text = (
        "a cookie key is set, but no backup key: replacing it costs each client one attempt; servers behind one "
        "address must share the key"
    )
    change = f"{prefix}sysctl -w {_NAME}_key=NEW,OLD  # rotates, keeping the old key as backup (4 words of hex each)"
    return _finding("key", Level.OK if value & SERVER else Level.INFO, text, change)


def blackhole(sysctls: Mapping[str, str], prefix: str) -> Finding:
    """How long clients go without Fast Open after a blackhole."""
    name = "tcp_fastopen_blackhole_timeout_sec"
    seconds = sysctls.get(name)
    if seconds is None:
        return _finding("blackhole", Level.UNKNOWN, f"net.ipv4.{name} cannot be read")
    if seconds == "0":
        return _finding("blackhole", Level.OK, f"clients never switch it off for all servers (net.ipv4.{name}=0)")
    text = (
        f"after one connection that looks like a blackhole, no client here uses it with any server for {seconds} s, "
        f"the next time for twice as long, and so on (net.ipv4.{name})"
    )
    return _finding("blackhole", Level.WARNING, text, f"{prefix}sysctl -w net.ipv4.{name}=0")
