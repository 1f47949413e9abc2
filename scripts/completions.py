"""Write completions for bash, zsh and fish from the definition of the command line: completions.py FOLDER.

shtab does the work. It knows commands only as subparsers, but tfotrace takes interfaces in the same place, so we add
the host's interfaces to the first positional.
"""

from __future__ import annotations

import sys
from argparse import SUPPRESS
from pathlib import Path

import shtab

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tracer.cli import arguments  # noqa: E402 - the checkout's own
from tracer.vocabulary.vocabulary import HookChoice, Transport  # noqa: E402

FILE_NAMES = {"bash": "tfotrace", "zsh": "_tfotrace", "fish": "tfotrace.fish"}
INTERFACES = "command ls /sys/class/net 2>/dev/null; echo any"

BASH_FIRST = f"""
_tfotrace_first() {{
  compgen -W "$({INTERFACES})" -- "$1"
}}
_shtab_tfotrace_pos_0_COMPGEN=_tfotrace_first
"""
FISH_FIRST = f"complete -c tfotrace -n _shtab_tfotrace_using -a '({INTERFACES})' -d interface\n"

ZSH_COMMANDS = "  _describe 'tfotrace commands' _commands\n"
ZSH_INTERFACES = f"""  local -a _interfaces
  _interfaces=(${{(f)"$({INTERFACES})"}})
  compadd -X 'interfaces' -a _interfaces
"""
ZSH_CASES = "      case $line[1] in\n"
ZSH_LAST_CASE = "      esac\n"
# after an interface: the options of tracing, without the positional that shtab adds to them
ZSH_AFTER_INTERFACE = """        *)
          _arguments -s ${_shtab_tfotrace_options:#(: :*|*:::*)} '*:interface:_net_interfaces' ;;
"""


def _describe(parser: arguments.Parser) -> arguments.Parser:
    """Tell shtab which options take a file or one of a few words."""
    words = {
        "command": list(arguments.COMMANDS),
        "hook": [choice.value for choice in HookChoice],
        "transport": [item.value for item in Transport],
    }
    for action in parser._actions:
        if action.type is Path or action.dest == "file":
            action.complete = shtab.FILE  # type: ignore[attr-defined] # shtab's way
        if action.dest in words:
            action.choices = words[action.dest]
    return parser


def tree() -> arguments.Parser:
    """One parser with every command below it, for shtab only: it parses nothing."""
    parser = _describe(arguments.trace_parser())
    for shown in (parser._actions, *(group._group_actions for group in parser._action_groups)):
        shown[:] = [action for action in shown if action.dest != "interfaces"]
    commands = parser.add_subparsers(title=SUPPRESS)
    for name, make in arguments.PARSERS.items():
        if name:
            commands.add_parser(name, help=arguments.COMMANDS[name], parents=[_describe(make())], add_help=False)
    return parser


def completion(shell: str) -> str:
    """The completion script for bash, zsh or fish."""
    text: str = shtab.complete(tree(), shell)
    if shell == "bash":
        return text + BASH_FIRST
    if shell == "fish":
        return text + FISH_FIRST
    for part in (ZSH_COMMANDS, ZSH_CASES, ZSH_LAST_CASE):
        if text.count(part) != 1:
            raise SystemExit("completions.py: shtab's text for zsh has changed: adapt ZSH_*")
    text = text.replace(ZSH_COMMANDS, ZSH_COMMANDS + ZSH_INTERFACES)
    return text.replace(ZSH_LAST_CASE, ZSH_AFTER_INTERFACE + ZSH_LAST_CASE)


def main() -> None:
    """Write each shell's file into the folder given on the command line; create the folder if needed."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for shell, name in FILE_NAMES.items():
        (folder / name).write_text(completion(shell), encoding="utf-8")


if __name__ == "__main__":
    main()
