"""`tfotrace compare` as a command: what it refuses, each in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.lines import as_lines, handshakes, run_records
from tests.support.tracing import run


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("{a}",), "compare needs two places: name two recordings or captures, that at the clients' side first"),
        (("{a}", "{a}"), "a file is named twice: name each place once"),
        (("{a}", "{none}"), "cannot read {none}: No such file or directory"),
        (("{a}", "{empty}"), "{empty} is empty: there is nothing to replay"),
        (("{a}", "{text}"), "{text} holds no record of tfotrace: give a file of -w or --json, or a capture"),
        (("{a}", "{b}:eth7"), "{b} has no handshake at eth7: it has demo-client"),
    ],
    ids=["one", "twice", "missing", "empty", "text", "interface"],
)
def test_what_is_refused(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    paths = {name: str(tmp_path / name) for name in ("a", "b", "none", "empty", "text")}
    for name in ("a", "b"):
        Path(paths[name]).write_bytes(as_lines(run_records()))
    Path(paths["empty"]).touch()
    Path(paths["text"]).write_text("hello\n")
    done = run("compare", *(word.format(**paths) for word in words))
    assert done.code == 2
    assert done.out == b""
    assert done.said[-1] == f"tfotrace: {says.format(**paths)}"


def test_two_recordings_of_the_same(tmp_path: Path) -> None:
    """Whoever compares a recording with its copy is told that nothing changed."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(as_lines(run_records()))
    done = run("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert (done.code, done.said) == (0, [])
    assert b"arrived unchanged" in done.out
    assert f"{tmp_path}/b's clock is the same as {tmp_path}/a's" in done.out.decode()


def test_one_handshake(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(as_lines(handshakes()[:1]))
    done = run("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert done.code == 0
    assert b": the handshake arrived unchanged." in done.out


def _cut(lines: list[bytes]) -> list[bytes]:
    return lines[: len(lines) // 2]


def _damaged(lines: list[bytes]) -> list[bytes]:
    return [line[: len(line) // 2] + b"\n" if number % 7 == 3 else line for number, line in enumerate(lines)]


def _two_runs(lines: list[bytes]) -> list[bytes]:
    return [*lines[:100], lines[-1], lines[0], *lines[200:]]


@pytest.mark.parametrize("spoil", [_cut, _damaged, _two_runs], ids=lambda one: one.__name__)
def test_what_a_recording_lacks_is_not_told(tmp_path: Path, spoil: Callable[[list[bytes]], list[bytes]]) -> None:
    """It says nothing of the path, even if no handshake of some server is left."""
    lines = as_lines(run_records()).splitlines(keepends=True)
    for name, some in (("a", lines), ("b", spoil(lines))):
        (tmp_path / name).write_bytes(b"".join(some))
    done = run("compare", "--json", str(tmp_path / "a"), str(tmp_path / "b"))
    (between,) = json.loads(done.out)["between"]
    assert between["both"] < between["near_handshakes"]
    assert (between["findings"], between["missing"]) == ([], 0)
    assert "not every handshake" in between["notes"][0]
