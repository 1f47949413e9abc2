"""argparse as tfotrace uses it: options in groups, help of 80 columns with examples, wrong usage in one sentence."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from tracer.errors import UsageError
from tracer.vocabulary.near import did_you_mean

WIDTH = 80

# what an option is about, in the order of the help
TRACED, STOP, RECORDS, OUTPUT = "what to trace", "when to stop", "which records", "output"
EVIDENCE, UNATTENDED, SELDOM, HELP = "evidence and privacy", "running unattended", "seldom needed", "help"
GROUPS = (TRACED, STOP, RECORDS, OUTPUT, EVIDENCE, UNATTENDED, SELDOM, HELP)

Example = tuple[str, str]  # a command line, and what it does


class Parser(argparse.ArgumentParser):
    """`groups` holds a group for each of GROUPS; help shows those that have options.

    `synopsis` is what may follow the command's name, one line for each way to call it; `notes` ends the help.
    """

    def __init__(
        self,
        *,
        prog: str = "",
        synopsis: Sequence[str] = (),
        description: str = "",
        examples: Sequence[Example] = (),
        notes: str = "",
        add_help: bool = True,
        **others: Any,
    ) -> None:
        super().__init__(
            prog=prog,
            usage="\n       ".join(f"{prog} {line}".strip() for line in synopsis) or None,
            description="\n\n".join(map(_filled, description.split("\n\n"))),
            epilog="\n\n".join(filter(None, (_shown(examples), notes))),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=WIDTH),
            add_help=False,
            **others,
        )
        self.synopsis = synopsis
        self.examples = examples
        self.groups = {title: self.add_argument_group(title) for title in GROUPS}
        if add_help:
            self.groups[HELP].add_argument("-h", "--help", action="help", help="show this help")

    def error(self, message: str) -> NoReturn:
        """Raises UsageError: argparse's message as a sentence that says what to do."""
        raise UsageError(f"{self._sentence(message)} (see {self.prog} --help)")

    def _sentence(self, message: str) -> str:
        unknown = re.fullmatch(r"unrecognized arguments: (\S*).*", message, re.DOTALL)
        if unknown and unknown[1].startswith("-"):
            word = unknown[1].partition("=")[0]
            return f"unknown option {word}{did_you_mean(word, self._option_string_actions)}"
        if unknown:
            return f'"{unknown[1]}" is a word too many for {self.prog}'
        both = re.fullmatch(r"argument (\S+): not allowed with argument (\S+)", message)
        if both:
            return f"{both[2]} and {both[1]} exclude each other: give one of them"
        lacks = re.fullmatch(r"argument ([^\s/]+)\S*: expected one argument", message)
        if lacks:
            return f"{lacks[1]} needs a value: {lacks[1]} {self._option_string_actions[lacks[1]].metavar}"
        missing = re.fullmatch(r"the following arguments are required: (.*)", message)
        if missing:
            line = self.synopsis[0] if self.synopsis else missing[1]
            return f"{self.prog} needs {missing[1]}: {self.prog} {line}"
        return message.removeprefix("argument ")

    def _print_message(self, message: str, file: Any = None) -> None:
        with suppress(OSError):  # flushing the stream fails again, and that is reported
            super()._print_message(message, file)


def _filled(text: str) -> str:
    """A paragraph in lines; a list, whose lines begin with blanks, stays as it is."""
    return text if text.startswith("  ") or "\n  " in text else textwrap.fill(text, WIDTH)


def _shown(examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    return "examples:\n" + "\n".join(f"  {command}\n      {says}" for command, says in examples)
