"""Can Fast Open be tried from this host? The probe changes no setting, so some must be right before."""

from __future__ import annotations

from collections.abc import Mapping

from tracer.doctor.settings import CLIENT, bits
from tracer.errors import CannotTraceError
from tracer.linux.hoststate import read_sysctls
from tracer.linux.privileges import require_root
from tracer.vocabulary.own_command import sudo


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
