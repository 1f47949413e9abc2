"""Write the man pages, one per command, from the definition of the command line: manual.py FOLDER.

tfotrace.8 is the page for tracing, tfotrace-COMMAND.8 one for each command. If SOURCE_DATE_EPOCH is set, it gives the
date, so that packages are reproducible.
"""

from __future__ import annotations

import sys
from pathlib import Path

from argparse_manpage.manpage import Manpage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tracer.cli import arguments  # noqa: E402 - the checkout's own
from tracer.version import __version__  # noqa: E402

SECTION = 8  # system administration commands: most of it needs root
SHORT = "show every TCP handshake on an interface and judge what TCP Fast Open did in it"

EXIT_STATUS = """.TP
.B 0
ended as asked, including SIGINT, SIGTERM and a closed standard output
.TP
.B 2
wrong usage; one line says what is wrong and what to do
.TP
.B 3
cannot trace here (not root, the kernel too old, lockdown)
.TP
.B 4
tracing ended early (the last interface went away, disk full)
.TP
.B 5
doctor found a problem that does not prevent tracing"""

EXAMPLES = """.TP
.B tfotrace eth0
open the dashboard; ? explains each screen
.TP
.B tfotrace any \\-\\-text \\-\\-filter\\-record 'result != established'
show handshakes that fail, one line each
.TP
.B tfotrace eth0 \\-\\-filter 'dst port 443' \\-\\-json | jq 'select(.tfo).tfo.outcome'
trace only handshakes to port 443
.TP
.B tfotrace any \\-\\-quiet \\-w /var/log/tfotrace/events.jsonl.zst \\-\\-rotate\\-size 100M \\-\\-rotate\\-keep 20
record permanently
.TP
.B tfotrace replay events.jsonl.zst
show recorded events again, without root"""

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


def page(command: str) -> str:
    """The man page of a command ("" for tracing) in troff."""
    parser = arguments.PARSERS[command]()
    parser.prog = f"tfotrace-{command}" if command else "tfotrace"
    usage = parser.format_usage().removeprefix("usage: ").replace(parser.prog, "", 1)
    name = f"tfotrace {command}".strip()
    parser.epilog = None  # commands and exit status have sections of their own
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
    manpage.add_section("synopsis", "=", f".B {name}\n" + " ".join(usage.split()).replace("-", r"\-"))
    if not command:
        rows = [f".TP\n.BR tfotrace\\-{key} (8)\n{text}" for key, text in arguments.COMMANDS.items()]
        manpage.add_section("commands", "=", "\n".join(rows))
        manpage.add_section("examples", "=", EXAMPLES)
        manpage.add_section("record filters", "=", RECORD_FILTERS)
        manpage.add_section("signals", "=", SIGNALS)
    manpage.add_section("exit status", "=", EXIT_STATUS)
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
