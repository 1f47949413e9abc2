"""The documents agree with the program: options, commands, words, files."""

from __future__ import annotations

import re
from argparse import SUPPRESS
from pathlib import Path

import pytest

from tracer.cli import arguments
from tracer.errors import ExitCode
from tracer.filters.filter import parse
from tracer.vocabulary.vocabulary import HANDSHAKE_CAUSE_WORDS, Cause, Outcome, word

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "REFERENCE.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def options(command: str) -> set[str]:
    """The options of a command as people write them."""
    actions = arguments.PARSERS[command]()._actions
    shown = [action.option_strings[-1] for action in actions if action.option_strings and action.help != SUPPRESS]
    return set(shown)


def section(document: str, heading: str) -> str:
    """What stands below a heading of the second level."""
    _, found, rest = document.partition(f"\n## {heading}\n")
    assert found, heading
    return rest.partition("\n## ")[0]


def anchors(document: str) -> set[str]:
    """The links to headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


def test_every_option_is_two_steps_from_the_readme() -> None:
    """README leads to the table of options, which explains each of every command."""
    assert "](docs/REFERENCE.md#options)" in README
    rows = section(REFERENCE, "Options").splitlines()
    for command in arguments.PARSERS:
        for option in options(command):
            told = [row for row in rows if re.search(rf"^\| `[^`]*(?<![\w-]){option}(?![\w-])[^`]*` \| \S", row)]
            assert told, f"tfotrace {command} {option}"
            assert any((command or "trace") in row or "| all |" in row for row in told), f"{command} {option}"


def test_options_in_the_readme_are_options() -> None:
    known = set().union(*(options(command) for command in arguments.PARSERS))
    lines = re.findall(r"tfotrace (.*)", README)
    found = {option for line in lines for option in re.findall(r"(?<=[ `])--[a-z-]+", line)}
    assert len(found) > 5
    assert not found - known


def test_every_command_is_told_in_the_reference() -> None:
    told = set(re.findall(r"^\| `tfotrace ([a-z]+)", section(REFERENCE, "Commands"), re.MULTILINE))
    assert told == set(arguments.COMMANDS)


def test_every_exit_status_outcome_and_cause_is_in_the_reference() -> None:
    def first_cells(heading: str) -> list[str]:
        return re.findall(r"^\| `?([^`| ]+)`? \|", section(REFERENCE, heading), re.MULTILINE)

    assert {str(int(code)) for code in ExitCode} <= set(first_cells("Exit status"))
    assert {word(one) for one in Outcome if one is not Outcome.UNKNOWN} <= set(first_cells("What Fast Open did"))
    assert {word(one) for one in Cause if one} <= set(first_cells("Why Fast Open failed"))
    assert {name for name in HANDSHAKE_CAUSE_WORDS if name} <= set(first_cells("Why a handshake failed"))


def test_filters_in_the_documents_are_filters() -> None:
    found = re.findall(r"--filter-record '([^']+)'|`/ ([^`]+)`", README + REFERENCE)
    assert len(found) >= 4
    for quoted, typed in found:
        parse(quoted or typed)


def test_the_moving_picture_is_small_enough_for_a_first_look() -> None:
    assert "](docs/tfotrace.gif)" in README
    assert (ROOT / "docs" / "tfotrace.gif").stat().st_size < 2_000_000


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            path = document.parent / target if target else document
            assert path.exists(), target
            assert not anchor or anchor in anchors(path.read_text()), f"{target}#{anchor}"


def test_the_architecture_says_of_each_folder_what_it_is_for() -> None:
    named = set(re.findall(r"^- \*\*(\w+)/\*\*", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE))
    assert named == {path.name for path in (ROOT / "tracer").iterdir() if path.is_dir()} - {"__pycache__"} | {"tui"}


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = set(re.findall(r"`([\w/*.-]+(?:\.py|\.h|\.md|\.c|/))`", text))
    assert len(names) > 20
    roots = [ROOT, ROOT / "tracer", *(path for path in (ROOT / "tracer").iterdir() if path.is_dir())]
    assert not {name for name in names if not any(any(root.glob(name)) for root in roots)}
