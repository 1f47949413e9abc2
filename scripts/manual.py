"""Write the man pages, one a command, from the one definition of the command line: manual.py FOLDER.

tfotrace.8 is the page of tracing itself, tfotrace-COMMAND.8 one for each command. The date is SOURCE_DATE_EPOCH's
where that is set, so that packages can be built twice alike.
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
ended as asked, also by SIGINT, SIGTERM and a closed standard output
.TP
.B 2
wrong usage; one line says what and what to do
.TP
.B 3
cannot trace here (not root, the kernel too old, lockdown)
.TP
.B 4
tracing ended early (the last interface went away, disk full)
.TP
.B 5
doctor found a problem that does not keep from tracing"""

EXAMPLES = """.TP
.B tfotrace eth0
the dashboard; ? explains each screen
.TP
.B tfotrace any \\-\\-text \\-\\-filter\\-record 'result != established'
which handshakes fail, a line each
.TP
.B tfotrace eth0 \\-\\-filter 'dst port 443' \\-\\-json | jq 'select(.tfo).tfo.outcome'
only first SYNs to port 443 are looked at
.TP
.B tfotrace any \\-\\-quiet \\-w /var/log/tfotrace/events.jsonl.zst \\-\\-rotate\\-size 100M \\-\\-rotate\\-keep 20
record for good
.TP
.B tfotrace replay events.jsonl.zst
look at it again, without root"""

RECORD_FILTERS = """\\-\\-filter\\-record and the dashboard's / take comparisons
.RB ( == ", " != ", " < ", " <= ", " > ", " >= )
of fields with numbers, durations (50ms), words, addresses and networks,
.BR ~ " and " !~
(contains, or not, whatever the case),
.B =~
(regular expression),
.BR in\\ (a,\\ b) ,
joined by
.BR and ", " or ", " not
and parentheses. Fields are those of the JSON records by their dotted names, or short ones such as outcome, cause, rtt,
sni, ip, port, process. A bare word is looked for in addresses and names. What is not known fits no comparison but
.BR "== null" ."""

SIGNALS = """.TP
.BR SIGINT ", " SIGTERM
end the run: what is pending is settled as it stands, and the balance is told
.TP
.B SIGHUP
closes the files of \\-w and opens them again by name; without such files, and with the dashboard, it ends the run"""

FILES = """.TP
.I /run/tfotrace
root's alone: one file for each running instance, and compiled programs for the next start"""


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
    """Write every page into the folder of the command line, made if it is not there."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for command in arguments.PARSERS:
        name = f"tfotrace-{command}" if command else "tfotrace"
        (folder / f"{name}.{SECTION}").write_text(page(command), encoding="utf-8")


if __name__ == "__main__":
    main()
