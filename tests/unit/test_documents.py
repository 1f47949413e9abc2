"""The documents agree with the program: options, commands, words, files."""

from __future__ import annotations

import re
from argparse import SUPPRESS
from pathlib import Path

import pytest

from tracer.cli import arguments
from tracer.errors import ExitCode
from tracer.filters.filter import parse
from tracer.vocabulary.vocabulary import GROUP_OF, Cause, Outcome, word

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def options(command: str) -> set[str]:
    """The options of a command as people write them."""
    actions = arguments.PARSERS[command]()._actions
    shown = [action.option_strings[-1] for action in actions if action.option_strings and action.help != SUPPRESS]
    return set(shown)


def table(head: str) -> list[list[str]]:
    """Rows of the table of README.md that begins like this, without the head."""
    start = README.index(f"\n{head}") + 1
    rows = README[start : README.index("\n\n", start)].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def option_rows() -> list[tuple[set[str], str]]:
    """Options of each row, and where else they can be used."""
    return [(set(re.findall(r"`(--?[a-z-]+)", row[0])), row[2]) for row in table("| option |")]


def where(cell: str, option: str) -> str:
    """What the last column says about one option of its row; "`--a`: X" is about that option only."""
    said = []
    for part in cell.split("; "):
        named = re.match(r"`(--?[a-z-]+)`: (.*)", part)
        if named is None or named[1] == option:
            said.append(named[2] if named else part)
    return "; ".join(said)


def test_every_option_is_in_the_reference() -> None:
    told = [option for found, _ in option_rows() for option in found]
    assert len(told) == len(set(told))
    assert set(told) == set().union(*(options(command) for command in arguments.PARSERS))


def test_the_reference_says_which_command_has_an_option() -> None:
    for found, cell in option_rows():
        for option in found:
            told = where(cell, option)
            has = {command for command in arguments.PARSERS if option in options(command)}
            if told == "all":
                assert has == arguments.PARSERS.keys(), option
                continue
            assert ("" in has) != ("only" in told), option
            assert ("demo" in has) == ("not demo" not in told and "only" not in told and option != "--version"), option
            assert ("replay" in has) == ("replay" in told), option
            assert ("doctor" in has) == ("doctor" in told), option


def test_every_command_is_in_the_reference() -> None:
    start = README.index("```\nsudo tfotrace INTERFACE")
    block = README[start : README.index("```", start + 3)]
    assert {match[1] for match in re.finditer(r"^(?:sudo )?tfotrace ([a-z]+)\b", block, re.MULTILINE)} == set(
        arguments.COMMANDS
    )


def test_every_exit_status_outcome_and_cause_is_in_the_reference() -> None:
    assert [int(row[0]) for row in table("| exit status |")] == sorted(ExitCode)
    told = {name: row[1] for row in table("| outcome | group |") for name in row[0].split(", ")}
    assert told == {word(one): GROUP_OF[one].word for one in Outcome if one is not Outcome.UNKNOWN}
    causes = [name for row in table("| cause |") for name in row[0].split(", ")]
    assert sorted(causes) == sorted(word(one) for one in Cause if one)


def test_filters_in_the_documents_are_filters() -> None:
    found = re.findall(r"--filter-record '([^']+)'|`/ ([^`]+)`", README)
    assert len(found) >= 4
    for quoted, typed in found:
        parse(quoted or typed)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


def test_the_architecture_says_of_each_folder_what_it_is_for() -> None:
    named = set(re.findall(r"^- \*\*(\w+)/\*\*", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE))
    assert named == {path.name for path in (ROOT / "tracer").iterdir() if path.is_dir()} - {"__pycache__"} | {"tui"}


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = set(re.findall(r"`([\w/*.-]+(?:\.py|\.h|\.md|\.c|/))`", text))
    assert len(names) > 20
    roots = [ROOT, ROOT / "tracer", *(path for path in (ROOT / "tracer").iterdir() if path.is_dir())]
    assert not {name for name in names if not any(any(root.glob(name)) for root in roots)}
