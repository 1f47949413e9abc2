"""How advice spells this program: as it was started, and fit to be pasted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tracer.vocabulary.own_command import NAME, STARTED_AS, sudo, tfotrace

ROOT, USER = 0, 1000


class Start:
    """What this process believes about its start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.by(ROOT)
        self.words("/usr/bin/python3", "-c", "pass")
        monkeypatch.setenv("PATH", "/nowhere")

    def by(self, uid: int, sudo_uid: str | None = None) -> None:
        self._patch.setattr(os, "geteuid", lambda: uid)
        self._patch.delenv("SUDO_UID", raising=False)
        if sudo_uid is not None:
            self._patch.setenv("SUDO_UID", sudo_uid)

    def script(self, name: str) -> None:
        self._patch.setenv(STARTED_AS, name)

    def words(self, *argv: str, program: str = "-c") -> None:
        self._patch.delenv(STARTED_AS, raising=False)
        self._patch.setattr(sys, "orig_argv", list(argv))
        self._patch.setattr(sys, "argv", [program])

    def path(self, folder: Path) -> str:
        self._patch.setenv("PATH", str(folder))
        program = folder / NAME
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        return str(program)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    return Start(monkeypatch)


def test_a_checkout(start: Start) -> None:
    start.script("./tfotrace")
    assert tfotrace("doctor") == "./tfotrace doctor"
    start.script("/opt/x y/tfotrace")
    assert tfotrace("doctor", "--netns", "a b") == "'/opt/x y/tfotrace' doctor --netns 'a b'"


@pytest.mark.parametrize(
    ("uid", "sudo_uid", "before"),
    [(ROOT, None, ""), (ROOT, "0", ""), (ROOT, "1000", "sudo "), (USER, None, "sudo "), (USER, "1000", "sudo ")],
)
def test_sudo_where_the_users_shell_lacks_root(start: Start, uid: int, sudo_uid: str | None, before: str) -> None:
    start.by(uid, sudo_uid)
    start.script("./tfotrace")
    assert sudo() == before
    assert tfotrace("detach") == f"{before}./tfotrace detach"
    assert tfotrace("--help", root=False) == "./tfotrace --help"


def test_the_plain_name_if_the_shell_finds_it(start: Start, tmp_path: Path) -> None:
    program = start.path(tmp_path)
    start.script(program)
    assert tfotrace("any") == "tfotrace any"
    start.script("/elsewhere/tfotrace")
    assert tfotrace("any") == "/elsewhere/tfotrace any"
    start.words("/usr/bin/python3", program, "any", program=program)
    assert tfotrace("any") == "tfotrace any", "a script of pip, or of the Debian package"


def test_sudo_has_a_path_of_its_own(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start.by(USER)
    program = start.path(tmp_path)
    start.script(program)
    assert tfotrace("any") == f"sudo {program} any"
    assert tfotrace("--help", root=False) == "tfotrace --help"
    monkeypatch.setattr("shutil.which", lambda _: "/usr/local/bin/tfotrace")
    start.script("/usr/local/bin/tfotrace")
    assert tfotrace("any") == "sudo tfotrace any"


def test_a_module(start: Start) -> None:
    start.words(".venv/bin/python", "-I", "-m", "tracer", "doctor", program="/x/tracer/__main__.py")
    assert tfotrace("any") == ".venv/bin/python -I -m tracer any"
    start.words("/a b/python", "-m", "tracer", "-m", "tracer")
    assert tfotrace("any") == "'/a b/python' -m tracer any"


def test_anything_else_is_the_plain_name(start: Start) -> None:
    assert tfotrace("any") == "tfotrace any"


def test_hostile_names_are_harmless(start: Start) -> None:
    start.script(os.fsdecode(b"./a\x1b[2J\xff/tfotrace"))
    said = tfotrace("any")
    assert said.isprintable()
    assert said.encode() == b"'./a\\x1b[2J\\udcff/tfotrace' any"
