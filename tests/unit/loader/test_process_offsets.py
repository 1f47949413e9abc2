"""Which compiler flags follow from the running kernel's BTF."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tracer.linux.btf import BtfError
from tracer.loader import process_offsets


class Described:
    """A kernel that describes every member except those of one struct."""

    def __init__(self, without: str) -> None:
        self._without = without

    def offset(self, struct: str, member: str) -> int:
        if struct == self._without:
            raise BtfError(f"struct {struct} has no member {member} in this kernel")
        return 8

    def size(self, struct: str) -> int:
        return 16


def flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without: str = "", machine: str = "x86_64") -> set[str]:
    monkeypatch.setattr(process_offsets, "KERNEL", tmp_path)
    monkeypatch.setattr(process_offsets, "Btf", SimpleNamespace(of_kernel=lambda: Described(without)))
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(machine=machine))
    return {flag.split("=")[0].removeprefix("-DKERNEL_") for flag in process_offsets.offset_flags()}


def test_a_kernel_that_tells_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert flags(monkeypatch, tmp_path) == {*process_offsets._MEMBERS, "REGS_FIRST", "REGS_SIZE"}


def test_registers_kept_elsewhere_leave_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert flags(monkeypatch, tmp_path, without="pt_regs") == set(process_offsets._MEMBERS)


def test_anything_else_that_is_missing_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert flags(monkeypatch, tmp_path, without="task_struct") == set()
    assert flags(monkeypatch, tmp_path, machine="s390x") == set()
