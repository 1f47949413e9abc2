"""Write the man pages, one per command, from the definition of the command line: manual.py FOLDER.

tfotrace.8 is the page for tracing, tfotrace-COMMAND.8 one for each command. If SOURCE_DATE_EPOCH is set, it gives the
date, so that packages are reproducible.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from argparse_manpage.manpage import Manpage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tracer.cli import arguments  # noqa: E402 - the checkout's own
from tracer.cli.examples import EXIT_CODES  # noqa: E402
from tracer.version import __version__  # noqa: E402

SECTION = 8  # system administration commands: most of it needs root
SHORT = "show every TCP handshake on an interface and judge what TCP Fast Open did in it"

RECORD_FILTERS = """\\-\\-filter\\-record and the dashboard's / take comparisons
.RB ( == ", " != ", " < ", " <= ", " > ", " >= )
of fields with numbers, durations (50ms), words, addresses and networks,
.BR ~ " and " !~
(contains, or not, ignoring case),
.B =~
(regular expression),
.BR in\\ (a,\\ b) ,
joined by
.BR and ", " or ", " not
and parentheses. Fields are those of the JSON records by their dotted names, or short ones such as outcome, cause, rtt,
sni, ip, port, process. A bare word matches addresses and names. An unknown value matches no comparison but
.BR "== null" ."""

SIGNALS = """.TP
.BR SIGINT ", " SIGTERM
end the run: pending handshakes are settled now, and the balance is printed
.TP
.B SIGHUP
closes the files of \\-w and opens them again by name; ends the run if there are no such files or with the dashboard"""

FILES = """.TP
.I /run/tfotrace
for root only: one file for each running instance, and compiled programs for the next start"""


def _see_also(command: str) -> str:
    names = ["tfotrace", *(f"tfotrace-{name}" for name in arguments.PARSERS if name)]
    own = f"tfotrace-{command}" if command else "tfotrace"
    pages = [f".BR {name} ({SECTION})" for name in names if name != own]
    return ",\n".join([*pages, ".BR tcpdump (8)", ".BR ss (8)", ".BR nstat (8)"])


def _plain(text: str) -> str:
    """Text as troff prints it unchanged."""
    return text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")


def _listed(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f".TP\n.B {_plain(head)}\n{_plain(says)}" for head, says in rows)


def page(command: str) -> str:
    """The man page of a command ("" for tracing) in troff."""
    parser = arguments.PARSERS[command]()
    parser.prog = f"tfotrace-{command}" if command else "tfotrace"
    name = f"tfotrace {command}".strip()
    parser.epilog = None  # examples and exit status have sections of their own
    parser.description = (parser.description or "").partition("\n\ncommands")[0]
    manpage = Manpage(
        parser,
        {
            "project_name": "tfotrace",
            "version": __version__,
            "manual_title": "System Administration",
            "manual_section": SECTION,
            "description": arguments.COMMANDS[command] if command else SHORT,
        },
    )
    synopsis = "\n.br\n".join(f".B {name}\n{_plain(line)}".strip() for line in parser.synopsis)
    manpage.add_section("synopsis", "=", synopsis)
    if not command:
        rows = [(f"tfotrace-{key}({SECTION})", text) for key, text in arguments.COMMANDS.items()]
        manpage.add_section("commands", "=", _listed(rows))
        manpage.add_section("record filters", "=", RECORD_FILTERS)
        manpage.add_section("signals", "=", SIGNALS)
    if parser.examples:
        manpage.add_section("examples", "=", _listed(parser.examples))
    manpage.add_section("exit status", "=", _listed((str(code), says) for code, says in EXIT_CODES.items()))
    manpage.add_section("files", "=", FILES)
    manpage.add_section("see also", "=", _see_also(command))
    return str(manpage)


def main() -> None:
    """Write every page into the folder given on the command line; create the folder if needed."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for command in arguments.PARSERS:
        name = f"tfotrace-{command}" if command else "tfotrace"
        (folder / f"{name}.{SECTION}").write_text(page(command), encoding="utf-8")


if __name__ == "__main__":
    main()
