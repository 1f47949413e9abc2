"""What can be asked without making the kernel load it."""

from __future__ import annotations

import os
from pathlib import Path

from tracer.linux.modules import Modules


def machine(folder: Path, *loaded: str, builtin: str | None = None, modules: bool = True) -> Modules:
    for name in loaded:
        (folder / "sys" / name).mkdir(parents=True)
    (folder / "sys").mkdir(exist_ok=True)
    if modules:
        (folder / "modules").write_text("")
    if builtin is not None:
        place = folder / "lib" / os.uname().release
        place.mkdir(parents=True)
        (place / "modules.builtin").write_text(f"kernel/net/ipv4/{builtin}.ko\n")
    return Modules(str(folder / "sys"), str(folder / "modules"), str(folder / "lib"))


def test_loaded_later(tmp_path: Path) -> None:
    found = machine(tmp_path)
    assert not found.present("tcp_diag")
    (tmp_path / "sys" / "tcp_diag").mkdir()
    assert found.present("tcp_diag")
    assert not found.present("inet_diag")


def test_built_in(tmp_path: Path) -> None:
    found = machine(tmp_path, builtin="tcp-diag")
    assert found.present("tcp_diag")
    assert not found.present("udp_diag")


def test_a_kernel_without_modules_loads_none(tmp_path: Path) -> None:
    assert machine(tmp_path, modules=False).present("tcp_diag")


def test_where_sys_is_not_there_nothing_is_known(tmp_path: Path) -> None:
    assert not Modules(*(str(tmp_path / "none") for _ in range(3))).present("tcp_diag")
