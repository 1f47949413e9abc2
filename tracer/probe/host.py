"""Can Fast Open be tried from this host? The probe changes no setting, so some must be right before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tracer.doctor.settings import CLIENT, bits
from tracer.errors import CannotTraceError
from tracer.linux.hoststate import read_sysctls
from tracer.linux.privileges import require_root
from tracer.vocabulary.own_command import sudo

_MPTCP = Path("/proc/sys/net/mptcp")
MPTCP_S = 1.5  # a SYN at 0 and at 1 s: what follows could be without MPTCP


def may_try_mptcp(settings: Path = _MPTCP) -> bool:
    """May MPTCP be asked for? Since Linux 6.12 one path that drops it turns MPTCP off for every server, for an hour.

    That takes a SYN without MPTCP that is answered after some with it were not: after two, unless a setting says less.
    A connection that is given up after MPTCP_S sends none (mptcp_active_detect_blackhole() in net/mptcp/ctrl.c).
    """
    try:
        if not _number(settings / "enabled"):
            return False
        if not _number(settings / "blackhole_timeout", absent=0):
            return True
        return _number(settings / "syn_retrans_before_tcp_fallback", absent=2) >= 2
    except (OSError, ValueError):
        return False


def _number(path: Path, absent: int | None = None) -> int:
    """Raises OSError, ValueError."""
    try:
        return int(path.read_text())
    except FileNotFoundError:
        if absent is None:
            raise
        return absent


def require(force: bool) -> None:
    """Raises CannotTraceError where it cannot be tried here."""
    require_root()
    check(read_sysctls(), force)


def check(sysctls: Mapping[str, str], force: bool) -> None:
    """Raises CannotTraceError where these settings are in the way."""
    value = bits(sysctls)
    if value is None:
        raise CannotTraceError("net.ipv4.tcp_fastopen cannot be read: this kernel has no Fast Open")
    if not value & CLIENT:
        raise CannotTraceError(
            f"Fast Open is off for clients here (net.ipv4.tcp_fastopen={value} lacks bit 0x1), and the probe "
            f"changes no setting: {sudo()}sysctl -w net.ipv4.tcp_fastopen={value | CLIENT}"
        )
    blackhole = sysctls.get("tcp_fastopen_blackhole_timeout_sec", "0")
    if blackhole != "0" and not force:
        raise CannotTraceError(
            f"one broken path would turn Fast Open off for every server for {blackhole} s "
            "(net.ipv4.tcp_fastopen_blackhole_timeout_sec): probe with --force all the same, or first "
            f"{sudo()}sysctl -w net.ipv4.tcp_fastopen_blackhole_timeout_sec=0"
        )
