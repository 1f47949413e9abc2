"""The command line (DESIGN.md section 2): one definition for parsing, help, man page and completions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tracer.cli import quantities, shared
from tracer.cli.examples import EXAMPLES, EXIT_STATUS
from tracer.cli.parser import EVIDENCE, HELP, OUTPUT, RECORDS, SELDOM, STOP, TRACED, Parser
from tracer.errors import UsageError
from tracer.version import __version__

if TYPE_CHECKING:
    pass

EnumT = TypeVar("EnumT", bound=Enum)

COMMANDS = {
    "compare": "what the path between two traced places did to handshakes",
    "demo": "trace a private lab live, with Fast Open traffic of every outcome",
    "detach": "remove what a killed run left behind, and nothing else",
    "doctor": "can I trace here, is Fast Open on, which listeners use it",
    "extcap": "let Wireshark choose an interface and show handshakes with verdicts",
    "probe": "ask servers whether Fast Open works from here to there",
    "replay": "show recorded events, or judge a capture, in any output",
    "report": "make one page of a recording or a capture, to share",
    "schema": "print the JSON Schema of the records",
    "help": "explain a command and its options",
    "version": "print the version",
}

VERSION = f"tfotrace {__version__}"


def trace_parser() -> Parser:
    """`tfotrace INTERFACE ...`."""
    commands = "\n".join(f"  {name:8} {text}" for name, text in COMMANDS.items())
    parser = Parser(
        prog="tfotrace",
        synopsis=("INTERFACE [INTERFACE ...] [OPTION ...]", "COMMAND [...]"),
        description="Show every TCP handshake on an interface live, and judge what TCP Fast Open did in it. On a "
        f"terminal this opens the dashboard.\n\ncommands (tfotrace help COMMAND):\n{commands}",
        examples=EXAMPLES[""],
        notes=EXIT_STATUS,
    )
    parser.groups[TRACED].add_argument(
        "interfaces", nargs="*", metavar="INTERFACE",
        help="one or more; any = all that are up, also those that appear later; eth0+eth1 = one group, for "
        "asymmetric routes",
    )  # fmt: skip
    parser.groups[TRACED].add_argument(
        "-i", dest="more_interfaces", metavar="NAME", action="append", default=[],
        help="an interface whose name is also a command",
    )  # fmt: skip
    parser.groups[TRACED].add_argument("--netns", metavar="NAME|PATH|pid:N", help="trace inside this network namespace")
    shared.add_output(parser)
    shared.add_report(parser)
    shared.add_metrics(parser)
    shared.add_tracing(parser)
    parser.groups[HELP].add_argument("--version", action="version", version=VERSION, help="show the version")
    return parser


def trace_options(words: list[str]) -> argparse.Namespace:
    """The options of tracing; interfaces may follow options. Raises UsageError."""
    parser = trace_parser()
    options, rest = parser.parse_known_args(words)
    end = rest.index("--") if "--" in rest else len(rest)  # what follows it is no option
    unknown = [word for word in rest[:end] if word.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {unknown[0]}")
    options.interfaces += rest[:end] + rest[end + 1 :]
    return options


def demo_parser() -> Parser:
    """`tfotrace demo`."""
    parser = Parser(
        prog="tfotrace demo",
        synopsis=("[OPTION ...]",),
        description=f"{_sentence('demo')} Nothing outside of the lab is touched, and it vanishes at the end.",
        examples=EXAMPLES["demo"],
    )
    shared.add_output(parser)
    shared.add_report(parser)
    shared.add_metrics(parser)
    shared.add_tracing(parser)
    return parser


def replay_parser() -> Parser:
    """`tfotrace replay`."""
    parser = Parser(
        prog="tfotrace replay",
        synopsis=("FILE [OPTION ...]",),
        description="Show recorded events again, or run a capture through the same kernel programs (needs root).",
        examples=EXAMPLES["replay"],
    )
    parser.groups[TRACED].add_argument(
        "files", nargs=1, type=Path, metavar="FILE",
        help="JSON lines written by -w or --json, or a capture (pcap, pcapng); may be compressed (gzip, zstd); "
        "- = standard input",
    )  # fmt: skip
    shared.add_output(parser)
    shared.add_report(parser)
    shared.add_count(parser)
    shared.add_capture(parser)
    return parser


def report_parser() -> Parser:
    """`tfotrace report`: what it does not name has the value of a replay that writes nothing else."""
    parser = Parser(
        prog="tfotrace report",
        synopsis=("FILE [FILE ...] -o PAGE.html [OPTION ...]",),
        description="Make one self-contained page of recorded events or of a capture: verdicts, causes and what to do, "
        "plots over time, peers, failed handshakes. It needs no network and no script to be read.",
        examples=EXAMPLES["report"],
    )
    parser.groups[TRACED].add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="JSON lines written by -w or --json (several: one page on all), or a capture (pcap, pcapng; needs root); "
        "may be compressed (gzip, zstd); - = standard input",
    )  # fmt: skip
    parser.groups[OUTPUT].add_argument(
        "-o", dest="report", type=Path, required=True, metavar="PAGE.html",
        help="write the page there, in place of one that is there; - = standard output",
    )  # fmt: skip
    shared.add_utc(parser)
    shared.add_count(parser)
    shared.add_capture(parser)
    shared.add_user(parser)
    parser.set_defaults(
        json=False, text=False, quiet=True, fields=None, write=[], rotate_size=None, rotate_time=None, rotate_keep=None,
        keep=1, filter_record=None, show_cookies=False,
    )  # fmt: skip
    return parser


def compare_parser() -> Parser:
    """`tfotrace compare`."""
    parser = Parser(
        prog="tfotrace compare",
        synopsis=("FILE FILE [FILE ...] [OPTION ...]",),
        description="Join what two or more places of a path saw of the same handshakes, and say what happened in "
        "between: options, data and addresses that were changed, segments that were lost, answers that came from "
        "something else than the server, and how the round trip divides. Clocks need not agree. Recordings need no "
        "root; captures, which are replayed on the way, do.",
        examples=EXAMPLES["compare"],
        notes="exit status: 0 compared, 2 wrong usage, 3 a capture cannot be replayed here",
    )
    parser.groups[TRACED].add_argument(
        "files", type=Path, nargs="+", metavar="FILE",
        help="recordings (JSON lines written by -w or --json) or captures, in the order of the path; "
        "FILE:INTERFACE for one interface of a recording",
    )  # fmt: skip
    parser.groups[OUTPUT].add_argument("--json", action="store_true", help="print one JSON object")
    parser.groups[EVIDENCE].add_argument("--user", metavar="NAME", help="read the files as NAME (default: sudo's user)")
    return parser


def probe_parser() -> Parser:
    """`tfotrace probe`."""
    from tracer.probe.model import Payload

    parser = Parser(
        prog="tfotrace probe",
        synopsis=("HOST[:PORT] [HOST[:PORT] ...] [OPTION ...]",),
        description="Ask servers with connections of its own, without Fast Open and with it in turn, and trace just "
        "these: is a cookie granted, is data in the SYN taken, what does the path do with it, and what does it save. "
        "It changes no setting of this host; a cookie that the kernel knows already is used, and said.",
        examples=EXAMPLES["probe"],
        notes="exit status: 0 Fast Open works with all, 2 wrong usage or an unknown name,\n3 it cannot be tried here, "
        "4 the trace ended early, 5 it does not work with all",
    )
    parser.groups[TRACED].add_argument(
        "targets", nargs="*", metavar="HOST[:PORT]", help="a name or an address; port 443 unless named"
    )
    parser.groups[TRACED].add_argument(
        "--hosts", type=Path, metavar="FILE",
        help="a file with one HOST[:PORT] a line; with --json and >> FILE those that FILE has are not asked again",
    )  # fmt: skip
    version = parser.groups[TRACED].add_mutually_exclusive_group()
    version.add_argument("-4", dest="version", action="store_const", const=4, help="only IPv4 addresses")
    version.add_argument("-6", dest="version", action="store_const", const=6, help="only IPv6 addresses")
    parser.groups[TRACED].add_argument("--interface", metavar="NAME", help="connect by this interface")
    parser.groups[TRACED].add_argument(
        "--payload", type=shared.word_of(Payload), default=Payload.TLS, metavar="tls|http|none",
        help="what is sent: a TLS ClientHello (default), an HTTP HEAD request, or nothing: then only the cookie is "
        "asked for",
    )  # fmt: skip
    parser.groups[STOP].add_argument(
        "--count", type=quantities.up_to(1000), default=5, metavar="N",
        help="connections of each kind to each address (default 5, at most 1000)",
    )  # fmt: skip
    parser.groups[STOP].add_argument(
        "--rate", type=quantities.rate, default=5.0, metavar="N", help="connections a second at most (default 5)"
    )
    parser.groups[STOP].add_argument(
        "--timeout", type=quantities.seconds, default=5.0, metavar="TIME",
        help="how long to wait for a connection, and for its answer (default 5s)",
    )  # fmt: skip
    parser.groups[OUTPUT].add_argument("--json", action="store_true", help="print one JSON object a server")
    parser.groups[OUTPUT].add_argument(
        "-v", dest="verbose", action="store_true", help="show the best and the worst handshake too"
    )
    parser.groups[SELDOM].add_argument(
        "--force", action="store_true",
        help="probe even where one broken path turns Fast Open off for every server "
        "(net.ipv4.tcp_fastopen_blackhole_timeout_sec above 0)",
    )  # fmt: skip
    return parser


def detach_parser() -> Parser:
    """`tfotrace detach`."""
    parser = Parser(
        prog="tfotrace detach",
        synopsis=("[INTERFACE]",),
        description=_sentence("detach"),
        examples=EXAMPLES["detach"],
    )
    parser.groups[TRACED].add_argument(
        "interface", nargs="?", metavar="INTERFACE", help="only here (default: everywhere)"
    )
    return parser


def doctor_parser() -> Parser:
    """`tfotrace doctor`."""
    parser = Parser(
        prog="tfotrace doctor",
        synopsis=("[INTERFACE ...] [OPTION ...]",),
        description="Say whether this host can trace, whether Fast Open is on, which listeners use it and what the "
        "counters mean, and show the commands that would fix each problem. Doctor itself changes nothing.",
        examples=EXAMPLES["doctor"],
        notes="exit status: 0 no problem, 2 wrong usage, 3 a problem that prevents\ntracing, 5 another problem",
    )
    parser.groups[TRACED].add_argument(
        "interfaces", nargs="*", metavar="INTERFACE", help="check these (default: all that are up)"
    )
    parser.groups[TRACED].add_argument("--netns", metavar="NAME|PATH|pid:N", help="check this network namespace")
    parser.groups[OUTPUT].add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def extcap_parser() -> Parser:
    """`tfotrace extcap`."""
    parser = Parser(
        prog="tfotrace extcap",
        synopsis=("--extcap-interfaces", "--extcap-interface NAME --capture --fifo PATH [...]"),
        description="What Wireshark calls to list interfaces and to capture from them: the segments of handshakes, "
        "with each one's verdict as a comment of its packets. `make install` and the Debian package put it where "
        "Wireshark looks. Capturing needs root.",
        examples=EXAMPLES["extcap"],
    )
    traced, output = parser.groups[TRACED], parser.groups[OUTPUT]
    output.add_argument("--extcap-interfaces", action="store_true", help="list the interfaces")
    output.add_argument("--extcap-dlts", action="store_true", help="list the link types of an interface")
    output.add_argument("--extcap-config", action="store_true", help="list the settings of an interface")
    output.add_argument("--capture", action="store_true", help="capture into the pipe")
    output.add_argument("--fifo", metavar="PATH", help="the pipe that Wireshark reads")
    output.add_argument("--extcap-version", nargs="?", metavar="VERSION", help="of Wireshark, which does not matter")
    traced.add_argument("--extcap-interface", metavar="NAME", help="one of those listed")
    traced.add_argument("--extcap-capture-filter", metavar="EXPR", help="as --filter: a tcpdump expression")
    traced.add_argument("--netns", metavar="NAME|PATH|pid:N", help="trace inside this network namespace")
    parser.groups[RECORDS].add_argument("--filter-record", metavar="EXPR", help="only handshakes that match")
    return parser


def schema_parser() -> Parser:
    """`tfotrace schema`."""
    return Parser(
        prog="tfotrace schema",
        synopsis=("",),
        description=_sentence("schema"),
        examples=EXAMPLES["schema"],
    )


def help_parser() -> Parser:
    """`tfotrace help`."""
    parser = Parser(
        prog="tfotrace help", synopsis=("[COMMAND]",), description=_sentence("help"), examples=EXAMPLES["help"]
    )
    parser.groups[HELP].add_argument("command", nargs="?", default="", metavar="COMMAND", help=", ".join(COMMANDS))
    return parser


def version_parser() -> Parser:
    """`tfotrace version`."""
    return Parser(prog="tfotrace version", synopsis=("",), description=_sentence("version"))


def _sentence(command: str) -> str:
    says = COMMANDS[command]
    return f"{says[0].upper()}{says[1:]}."


def fitting(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options and what they imply. Raises UsageError for one that does nothing without another."""
    if options.fields is not None:
        if options.json or options.quiet:
            form = "--json" if options.json else "--quiet"
            raise UsageError(
                f"--fields chooses the columns of --text: use it without {form}; JSON lines have every field"
            )
        options.text = True
    if (options.rotate_size is not None or options.rotate_time is not None) and not options.write:
        raise UsageError("--rotate-size and --rotate-time apply to files written with -w: add -w FILE")
    if getattr(options, "prometheus_peers", 0) and options.prometheus is None:
        raise UsageError("--prometheus-peers needs --prometheus: add --prometheus PORT")
    return options


# help, man pages and completions are made from these; "" is tracing itself
PARSERS: dict[str, Callable[[], Parser]] = {
    "": trace_parser,
    "compare": compare_parser,
    "demo": demo_parser,
    "detach": detach_parser,
    "doctor": doctor_parser,
    "extcap": extcap_parser,
    "probe": probe_parser,
    "replay": replay_parser,
    "report": report_parser,
    "schema": schema_parser,
    "help": help_parser,
    "version": version_parser,
}
