"""Who may change what root runs is told, and only then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tracer.linux import own_tree
from tracer.vocabulary.own_command import STARTED_AS

pytestmark = pytest.mark.root  # it changes owners


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("tfotrace", "tracer/cli/main.py", "tui/app.py", "scripts/setup.sh", "README.md"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o644)
    return tmp_path / "tree"


def test_what_is_roots_alone_is_no_news(tree: Path) -> None:
    assert own_tree.changeable(tree) is None
    os.chown(tree / "README.md", 65534, -1)  # root does not run it
    assert own_tree.changeable(tree) is None


@pytest.mark.parametrize("name", [".", "..", "tfotrace", "tracer/cli", "tui", "scripts"])
def test_another_owner(tree: Path, name: str) -> None:
    os.chown(tree / name, 65534, -1)
    found = own_tree.changeable(tree)
    assert found is not None
    assert (found[0].resolve(), found[1]) == ((tree / name).resolve(), "user nobody")


def test_modes(tree: Path) -> None:
    (tree / "tracer").chmod(0o757)
    assert own_tree.changeable(tree) == (tree / "tracer", "everybody")
    (tree / "tracer").chmod(0o1777)  # Python would take a new errors.cpython-313-x86_64-linux-gnu.so before errors.py
    assert own_tree.changeable(tree) == (tree / "tracer", "everybody")
    tree.parent.chmod(0o1777)
    (tree / "tracer").chmod(0o755)
    assert own_tree.changeable(tree) is None
    (tree / "tracer").chmod(0o775)
    assert own_tree.changeable(tree) is None  # of root's group
    os.chown(tree / "tracer", -1, 4711)
    assert own_tree.changeable(tree) == (tree / "tracer", "group 4711")


def test_one_sentence_where_the_start_script_was_run(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(tree, 65534, -1)
    monkeypatch.setattr(own_tree, "TREE", tree)
    monkeypatch.delenv(STARTED_AS, raising=False)
    assert own_tree.warning() is None
    monkeypatch.setenv(STARTED_AS, "./tfotrace")
    said = own_tree.warning()
    assert said is not None
    assert "user nobody may change" in said
    assert "sudo make install" in said
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert own_tree.warning() is None
