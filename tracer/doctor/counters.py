"""What the TcpExt counters say, and how they mislead (TFO.md section 5; net/ipv4/tcp_fastopen.c).

They count from the creation of the network namespace, over all programs and servers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from tracer.doctor.model import Finding, Level, Topic, finding
from tracer.doctor.settings import SERVER
from tracer.vocabulary.printable import plural, times

# If a smaller share of attempts failed, packet loss explains it.
WORTH_A_WARNING = 0.1
ENOUGH = 10

Counters = Mapping[str, int]
_finding = partial(finding, Topic.COUNTERS)


def findings(
    counters: Counters, sysctls: Mapping[str, str], bits: int | None, prefix: str, trace: str
) -> Iterator[Finding]:
    """One finding per side, and one for each counter that moved and means something. `trace` is how to trace here."""
    if not counters:
        yield _finding("not_read", Level.UNKNOWN, "the counters of TCP (/proc/net/netstat) cannot be read")
        return
    yield _client(counters, trace)
    yield _server(counters, trace)
    yield from _cookie_requests(counters, bits)
    yield from _queue(counters, sysctls, prefix)
    yield _blackhole(counters, sysctls)


def _is_much(failed: int, good: int) -> bool:
    return failed >= ENOUGH and failed > WORTH_A_WARNING * (failed + good)


def _client(counters: Counters, trace: str) -> Finding:
    good, failed = counters.get("TCPFastOpenActive", 0), counters.get("TCPFastOpenActiveFail", 0)
    if not good and not failed:
        return _finding("client", Level.INFO, "as client: no SYN with data has been answered yet (TCPFastOpenActive 0)")
    text = (
        f"as client: {times(good)} a server took the SYN's data (TCPFastOpenActive), {times(failed)} it did not or the "
        "SYN timed out (TCPFastOpenActiveFail)"
    )
    if _is_much(failed, good):
        return _finding("client", Level.WARNING, f"{text}; tracing shows which servers", trace)
    return _finding("client", Level.OK if good else Level.INFO, text)


def _server(counters: Counters, trace: str) -> Finding:
    good, failed = counters.get("TCPFastOpenPassive", 0), counters.get("TCPFastOpenPassiveFail", 0)
    spare = counters.get("TCPFastOpenPassiveAltKey", 0)
    if not good and not failed:
        return _finding(
            "server", Level.INFO, "as server: Fast Open has not created a connection yet (TCPFastOpenPassive 0)"
        )
    text = f"as server: Fast Open created {good} {plural(good, 'connection')} (TCPFastOpenPassive)"
    if spare:
        text += f", {spare} of them with the backup key's cookie (TCPFastOpenPassiveAltKey)"
    text += f"; {failed} failed because of a wrong cookie or a lack of memory (TCPFastOpenPassiveFail)"
    if _is_much(failed, good):
        text += "; likely the key was rotated without a backup, or the servers behind one address do not share it"
        return _finding("server", Level.WARNING, text, trace)
    return _finding("server", Level.OK if good else Level.INFO, text)


def _cookie_requests(counters: Counters, bits: int | None) -> Iterator[Finding]:
    asked = counters.get("TCPFastOpenCookieReqd", 0)
    if not asked:
        return
    text = f"clients asked for a cookie {times(asked)} (TCPFastOpenCookieReqd)"
    trap = "the kernel counts requests before it checks whether Fast Open is on, so this says nothing about grants"
    if bits is not None and not bits & SERVER:
        text += f"; none gets one now, since Fast Open is off for servers: {trap}"
        yield _finding("cookie_requests", Level.WARNING, text, None)
    else:
        yield _finding("cookie_requests", Level.INFO, f"{text}; {trap}")


def _queue(counters: Counters, sysctls: Mapping[str, str], prefix: str) -> Iterator[Finding]:
    full = counters.get("TCPFastOpenListenOverflow", 0)
    if full:
        text = f"a listener's Fast Open queue was full {times(full)} (TCPFastOpenListenOverflow)"
        yield _finding("queue_overflow", Level.WARNING, text, cause="queue_overflow")
    crowded = counters.get("TCPReqQFullDoCookies", 0)
    if crowded:
        text = f"SYN cookies were sent {times(crowded)} (TCPReqQFullDoCookies; no TCPFastOpen counter moves then)"
        more = int(sysctls.get("tcp_max_syn_backlog", "0") or 0) * 4
        command = f"{prefix}sysctl -w net.ipv4.tcp_max_syn_backlog={more}" if more else None
        yield _finding("syn_cookies", Level.WARNING, text, command, "syn_cookies")
    dropped = counters.get("ListenOverflows", 0)
    if dropped:
        text = f"a full accept queue dropped a handshake {times(dropped)} (ListenOverflows)"
        command = f"{prefix}sysctl net.core.somaxconn  # the limit of every listener's backlog"
        yield _finding("accept_overflow", Level.WARNING, text, command)


def _blackhole(counters: Counters, sysctls: Mapping[str, str]) -> Finding:
    hit = counters.get("TCPFastOpenBlackhole", 0)
    off = sysctls.get("tcp_fastopen_blackhole_timeout_sec") == "0"
    if hit:
        text = f"clients here switched Fast Open off for all servers {times(hit)} (TCPFastOpenBlackhole)"
        return _finding("blackhole", Level.INFO if off else Level.WARNING, text)
    if off:
        text = "TCPFastOpenBlackhole stays 0 at tcp_fastopen_blackhole_timeout_sec=0: it does not prove a good path"
        return _finding("blackhole", Level.INFO, text)
    return _finding("blackhole", Level.OK, "clients here have met no blackhole (TCPFastOpenBlackhole 0)")
