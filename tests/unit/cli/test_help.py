"""Help fits 80 columns, has every option in a group, and examples that parse."""

from __future__ import annotations

import shlex

import pytest

from tracer.cli import arguments
from tracer.cli import main as cli
from tracer.cli.parser import GROUPS, WIDTH


@pytest.mark.parametrize("command", arguments.PARSERS)
def test_help_fits_a_terminal(command: str) -> None:
    lines = arguments.PARSERS[command]().format_help().splitlines()
    assert lines[0].startswith("usage: tfotrace")
    assert not [line for line in lines if len(line) > WIDTH]


@pytest.mark.parametrize("command", arguments.PARSERS)
def test_every_option_is_in_a_group_and_explained(command: str) -> None:
    parser = arguments.PARSERS[command]()
    grouped = [action for title in GROUPS for action in parser.groups[title]._group_actions]
    assert {id(action) for action in grouped} == {id(action) for action in parser._actions}
    assert all(action.help for action in grouped)
    assert all(action.metavar for action in grouped if action.nargs != 0), "sentences name what a value is"


@pytest.mark.parametrize(
    ("command", "example"),
    [(command, example) for command, make in arguments.PARSERS.items() for example, _ in make().examples],
)
def test_examples_parse(command: str, example: str) -> None:
    words = shlex.split(example.partition(" | ")[0])
    words = words[words.index("tfotrace") + 1 :]
    assert (words.pop(0) if command else "") == command
    arguments.PARSERS[command]().parse_args(words)


@pytest.mark.parametrize("command", arguments.COMMANDS)
def test_the_command_help_says_what_the_option_help_says(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", command]) == 0
    by_command = capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert capsys.readouterr().out == by_command


def test_the_command_version_says_what_the_option_version_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    by_command = capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == by_command
