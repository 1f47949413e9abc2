"""Capabilities by their names, and what else keeps root from BPF."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracer.linux import capabilities
from tracer.linux.capabilities import Capability

ALL = (1 << 41) - 1


def bits(*without: Capability) -> int:
    return ALL & ~sum(1 << one for one in without)


def status(folder: Path, effective: int, seccomp: int = 0) -> Path:
    path = folder / "status"
    path.write_text(f"Name:\tx\nCapPrm:\t{ALL:016x}\nCapEff:\t{effective:016x}\nSeccomp:\t{seccomp}\n")
    return path


def test_effective_capabilities_are_read_from_status(tmp_path: Path) -> None:
    assert capabilities.effective(status(tmp_path, 0x1000)) == 1 << Capability.NET_ADMIN
    assert capabilities.effective(tmp_path / "missing") == 0


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ((), []),
        ((Capability.SYS_ADMIN,), []),
        ((Capability.BPF, Capability.PERFMON), []),  # SYS_ADMIN stands in
        ((Capability.BPF, Capability.SYS_ADMIN), ["CAP_BPF"]),
        ((Capability.PERFMON, Capability.SYS_ADMIN), ["CAP_PERFMON"]),
        ((Capability.NET_ADMIN,), ["CAP_NET_ADMIN"]),
        ((Capability.NET_ADMIN, Capability.SYS_ADMIN), ["CAP_NET_ADMIN"]),
    ],
)
def test_what_tracing_needs(without: tuple[Capability, ...], named: list[str]) -> None:
    assert capabilities.lacking_to_trace(bits(*without)) == named


def test_what_it_takes_to_see_the_sockets_of_others() -> None:
    lacking = capabilities.lacking_to_read_descriptors
    assert lacking(bits()) == lacking(bits(Capability.DAC_OVERRIDE)) == lacking(bits(Capability.DAC_READ_SEARCH)) == []
    assert lacking(bits(Capability.SYS_PTRACE)) == ["CAP_SYS_PTRACE"]
    assert lacking(bits(Capability.DAC_OVERRIDE, Capability.DAC_READ_SEARCH)) == ["CAP_DAC_READ_SEARCH"]


def test_what_it_takes_to_leave_root() -> None:
    assert capabilities.lacking_to_change_user(bits(Capability.SETUID)) == ["CAP_SETUID"]
    assert capabilities.lacking_to_change_user(bits()) == []


def test_missing_capabilities_are_told_before_a_filter_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "_bpf_comes_through", lambda: False)
    lacking = bits(Capability.BPF, Capability.SYS_ADMIN)
    assert "lacks CAP_BPF:" in (capabilities.why_no_bpf(status(tmp_path, lacking, seccomp=2)) or "")


@pytest.mark.parametrize(("seccomp", "comes", "told"), [(0, False, False), (2, True, False), (2, False, True)])
def test_a_filter_is_told_only_where_there_is_one_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seccomp: int, comes: bool, told: bool
) -> None:
    monkeypatch.setattr(capabilities, "_bpf_comes_through", lambda: comes)
    monkeypatch.setattr(capabilities, "_in_first_user_namespace", lambda: True)
    assert ("seccomp" in (capabilities.why_no_bpf(status(tmp_path, ALL, seccomp)) or "")) == told


def test_capabilities_of_a_user_namespace_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "_in_first_user_namespace", lambda: False)
    assert "user namespace" in (capabilities.why_no_bpf(status(tmp_path, ALL)) or "")
