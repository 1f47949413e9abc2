"""TcpExt counters (/proc/net/netstat) of the traced namespace, and its sysctls that matter for Fast Open.

A process reads those of its own network namespace, so the root part reads them.
"""

from __future__ import annotations

from pathlib import Path

NETSTAT = Path("/proc/self/net/netstat")
SYSCTL = Path("/proc/sys/net/ipv4")

# TFO.md section 5, and the counters that explain a handshake that failed
COUNTERS = (
    "TCPFastOpenActive",
    "TCPFastOpenActiveFail",
    "TCPFastOpenPassive",
    "TCPFastOpenPassiveFail",
    "TCPFastOpenListenOverflow",
    "TCPFastOpenCookieReqd",
    "TCPFastOpenBlackhole",
    "TCPFastOpenPassiveAltKey",
    "TCPReqQFullDoCookies",
    "TCPReqQFullDrop",
    "TCPDeferAcceptDrop",
    "SyncookiesSent",
    "SyncookiesRecv",
    "SyncookiesFailed",
    "ListenOverflows",
    "ListenDrops",
    "TCPACKSkippedSynRecv",
    "TCPACKSkippedPAWS",
    "TCPACKSkippedSeq",
    "TCPACKSkippedFinWait2",
    "TCPACKSkippedTimeWait",
    "TCPACKSkippedChallenge",
    "TCPSynRetrans",
    "TCPTimeouts",
)
SYSCTLS = (
    "tcp_fastopen",
    "tcp_fastopen_blackhole_timeout_sec",
    "tcp_syncookies",
    "tcp_timestamps",
    "tcp_sack",
    "tcp_window_scaling",
    "tcp_ecn",
    "tcp_syn_retries",
    "tcp_synack_retries",
    "tcp_max_syn_backlog",
)


def read_counters(path: Path = NETSTAT) -> dict[str, int]:
    """COUNTERS of the calling process's namespace, without those that this kernel does not have.

    The file has two lines per group: names, then values (net/ipv4/proc.c, netstat_seq_show).
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        if names.startswith("TcpExt:"):
            found.update(zip(names.split()[1:], map(int, values.split()[1:]), strict=False))
    return {name: found[name] for name in COUNTERS if name in found}


def read_sysctls(folder: Path = SYSCTL) -> dict[str, str]:
    """SYSCTLS as text, without those that this kernel does not have."""
    values: dict[str, str] = {}
    for name in SYSCTLS:
        try:
            values[name] = (folder / name).read_text().strip()
        except OSError:  # noqa: PERF203 - each may be missing by itself
            continue
    return values
