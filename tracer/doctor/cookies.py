"""The client's side: the servers whose Fast Open cookies this host has.

The kernel keeps cookies in tcp_metrics, per network namespace. They are bearer tokens and never leave this file.
Source: net/ipv4/tcp_metrics.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tracer.doctor.model import CachedServer, Finding, Level, Topic, finding, some
from tracer.doctor.settings import CLIENT
from tracer.linux import tcp_metrics
from tracer.vocabulary.printable import plural

_finding = partial(finding, Topic.COOKIES)


def parse(entry: Mapping[str, Any]) -> CachedServer | None:
    """Parse one entry; None if it says nothing about Fast Open."""
    server = entry.get("ADDR_IPV4") or entry.get("ADDR_IPV6")
    cookie, mss, drops = entry.get("FOPEN_COOKIE", b""), entry.get("FOPEN_MSS"), entry.get("FOPEN_SYN_DROPS")
    if server is None or not (cookie or mss or drops):
        return None
    age_ms = entry.get("AGE")
    return CachedServer(
        server_ip=server,
        client_ip=entry.get("SADDR_IPV4") or entry.get("SADDR_IPV6"),
        cookie_len=len(cookie),
        mss=mss or None,
        syn_drops=drops or 0,
        age_us=None if age_ms is None else age_ms * 1000.0,
    )


def look() -> list[CachedServer] | None:
    """The Fast Open entries in this network namespace's cache; None if it cannot be read."""
    try:
        entries = map(parse, tcp_metrics.entries())
    except OSError:
        return None
    return sorted((item for item in entries if item is not None), key=lambda item: item.server_ip)


def findings(found: list[CachedServer] | None, bits: int | None, prefix: str) -> Iterator[Finding]:
    """`found` is None if the cache could not be read."""
    if found is None:
        yield _finding("not_asked", Level.UNKNOWN, "the kernel's cache of cookies (tcp_metrics) cannot be read")
        return
    with_cookie = [item for item in found if item.cookie_len]
    if with_cookie:
        servers = some(dict.fromkeys(item.server_ip for item in with_cookie))
        kept = f"this host has cookies of {len(with_cookie)} {plural(len(with_cookie), 'server')}"
        text = f"{kept}: {servers}; its next SYN to them can carry data"
        if bits is not None and not bits & CLIENT:
            text += ", once Fast Open is on for clients again"
        yield _finding("kept", Level.OK, text, f"{prefix}ip tcp_metrics flush  # forgets them")
    else:
        text = "this host has no cookies: no program here used Fast Open, no server granted a cookie, or they aged out"
        yield _finding("none", Level.INFO, text)
    dropped = [item for item in found if item.syn_drops]
    if dropped:
        most = max(item.syn_drops for item in dropped)
        servers = some(dict.fromkeys(item.server_ip for item in dropped))
        text = f"SYNs with Fast Open went unanswered (up to {most} in a row): {servers}"
        command = f"{prefix}ip tcp_metrics show  # fo_syn_drops"
        yield _finding("syn_drops", Level.WARNING, text, command, "path_drops_syn_data")
