"""Man pages and completions agree with the definition of the command line."""

from __future__ import annotations

import subprocess
import sys
from argparse import SUPPRESS
from pathlib import Path

import pytest

from tracer.cli import arguments

ROOT = Path(__file__).resolve().parents[3]


def _make(script: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-I", ROOT / "scripts" / script, folder], check=True, timeout=60)


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    _make("manual.py", folder)
    return folder


@pytest.fixture(scope="module")
def completions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completions")
    _make("completions.py", folder)
    return folder


def _options(command: str) -> list[str]:
    actions = arguments.PARSERS[command]()._actions
    return [
        text
        for action in actions
        for text in action.option_strings
        if action.help != SUPPRESS and text not in ("-h", "--help")
    ]


def test_every_command_has_a_parser_and_a_page(manual: Path) -> None:
    assert set(arguments.PARSERS) == {"", *arguments.COMMANDS}
    pages = {"tfotrace.8"} | {f"tfotrace-{name}.8" for name in arguments.COMMANDS}
    assert {path.name for path in manual.iterdir()} == pages


@pytest.mark.parametrize("command", arguments.PARSERS)
def test_the_page_names_every_option(command: str, manual: Path) -> None:
    name = f"tfotrace-{command}" if command else "tfotrace"
    text = (manual / f"{name}.8").read_text().replace("\\", "")
    headings = [line.removeprefix(".SH ").strip('"') for line in text.splitlines() if line.startswith(".SH")]
    assert headings[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert {"EXIT STATUS", "FILES", "SEE ALSO"} <= set(headings)
    for option in _options(command):
        assert f"fB{option}" in text, option


def _complete(completions: Path, *words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    script = """
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMPREPLY=()
        _shtab_tfotrace
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    command = ["bash", "-c", script, "bash", str(completions / "tfotrace"), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_offers_commands_and_interfaces(completions: Path) -> None:
    offered = _complete(completions, "tfotrace", "")
    assert {"lo", "any", *arguments.COMMANDS} <= offered


@pytest.mark.parametrize("command", arguments.PARSERS)
def test_bash_offers_every_long_option(command: str, completions: Path) -> None:
    offered = _complete(completions, "tfotrace", command or "lo", "--")
    assert {option for option in _options(command) if option.startswith("--")} <= offered


def test_bash_offers_the_words_that_an_option_takes(completions: Path, tmp_path: Path) -> None:
    assert _complete(completions, "tfotrace", "lo", "--hook", "xdp") == {"xdp", "xdp-native", "xdp-generic"}
    assert _complete(completions, "tfotrace", "demo", "--transport", "") == {"ring", "perf"}
    (tmp_path / "events.jsonl").touch()
    assert _complete(completions, "tfotrace", "lo", "-w", f"{tmp_path}/ev") == {f"{tmp_path}/events.jsonl"}


@pytest.mark.parametrize(
    ("shell_file", "word"), [("_tfotrace", "#compdef tfotrace"), ("tfotrace.fish", "complete -c tfotrace")]
)
def test_zsh_and_fish_have_every_option_too(shell_file: str, word: str, completions: Path) -> None:
    text = (completions / shell_file).read_text()
    assert word in text
    assert "/sys/class/net" in text
    for command in arguments.PARSERS:
        for option in _options(command):
            assert option.lstrip("-") in text, option
