"""Who besides root may change the program that root runs: of a checkout usually its owner."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from tracer.vocabulary.own_command import STARTED_AS
from tracer.vocabulary.printable import printable

TREE = Path(__file__).resolve().parents[2]


def warning() -> str | None:
    """A sentence if the start script ran as root what somebody else may change; None else."""
    if os.geteuid() != 0 or STARTED_AS not in os.environ:
        return None
    found = changeable(TREE)
    if found is None:
        return None
    path, who = found
    return printable(
        f"root runs here what {who} may change ({path}): `sudo make install` makes a copy that only root may change"
    )


def changeable(tree: Path) -> tuple[Path, str] | None:
    """The first file or folder of the program, or folder above it, that another user may write, and who that is."""
    for path in _run_by_root(tree):
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_uid != 0:
            return path, _name(status.st_uid)
        # where a folder has the sticky bit others may not replace what is root's; inside the tree a new file is enough
        if status.st_mode & stat.S_ISVTX and path in tree.parents:
            continue
        if status.st_mode & stat.S_IWOTH:
            return path, "everybody"
        if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
            return path, f"group {status.st_gid}"
    return None


def _run_by_root(tree: Path) -> Iterator[Path]:
    # of modules the folders only, for the sake of the start: in one that is root's alone, files are root's
    yield from (*reversed(tree.parents), tree, tree / "tfotrace", tree / "scripts", tree / "scripts" / "setup.sh")
    yield from (tree / ".venv", tree / ".venv" / "bin", *tree.glob(".venv/lib/python3*/site-packages"))
    for package in ("tracer", "tui"):
        yield from (Path(folder) for folder, _, _ in os.walk(tree / package))


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
