"""The command line (DESIGN.md section 2): one definition for parsing, help, man page and completions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tracer.cli import quantities
from tracer.errors import UsageError
from tracer.sinks.address import Address, parse_address
from tracer.version import __version__
from tracer.vocabulary.addresses import sixteen_bytes
from tracer.vocabulary.vocabulary import HookChoice, Transport

if TYPE_CHECKING:
    from tracer.filters.filter import Filter
    from tracer.loader.packet_filter import PacketFilter

COMMANDS = {
    "demo": "trace a private two-host lab live, with Fast Open traffic of every outcome",
    "detach": "remove what a killed run left behind, and nothing else",
    "doctor": "can I trace here, is Fast Open on, which listeners use it, what do the counters say",
    "replay": "show recorded events or a capture in the dashboard or any other output",
    "schema": "print the JSON Schema of the records",
}

TABLE_SIZE_MAX = 1 << 24


class Parser(argparse.ArgumentParser):
    """argparse that reports wrong usage in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        with suppress(OSError):  # flushing the stream fails again, and that is reported
            super()._print_message(message, file)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds above 0')
    return value


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number above 0')
    return int(text)


def _table_size(text: str) -> int:
    value = _positive(text)
    if value > TABLE_SIZE_MAX:
        raise argparse.ArgumentTypeError(f"{value} is more than {TABLE_SIZE_MAX} entries")
    return value


def _hook(text: str) -> HookChoice:
    try:
        return HookChoice(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'unknown hook "{text}": auto, tc, xdp, xdp-native or xdp-generic') from None


def _transport(text: str) -> Transport:
    try:
        return Transport(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'unknown transport "{text}": ring or perf') from None


def _packet_filter(text: str) -> PacketFilter:
    from tracer.loader.packet_filter import parse

    return parse(text)


def _record_filter(text: str) -> Filter:
    from tracer.filters.filter import parse

    try:
        return parse(text)
    except UsageError as error:
        wrong = UsageError(f"--filter-record: {str(error).removeprefix('filter, ')}")
        wrong.shown = error.shown
        raise wrong from None


class _Fields(argparse.Action):
    """--fields LIST: names of columns; `help` prints them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option: str | None = None,  # noqa: ARG002 - argparse's
    ) -> None:
        from tracer.sinks import text_columns

        if values == "help":
            print("\n".join(text_columns.table()))
            parser.exit()
        setattr(namespace, self.dest, text_columns.parse(str(values)))


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prometheus", type=_address, metavar="[ADDR:]PORT",
        help="serve metrics for Prometheus there (ADDR defaults to 127.0.0.1; port 0 picks a free one)",
    )  # fmt: skip
    parser.add_argument(
        "--prometheus-peers", type=_positive, default=0, metavar="N",
        help="also serve metrics for each of the first N servers seen (default: none)",
    )  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="no dashboard: JSON lines on standard output")
    form.add_argument("--text", action="store_true", help="no dashboard: one readable line per handshake")
    form.add_argument("--quiet", action="store_true", help="no dashboard and nothing on standard output")
    parser.add_argument(
        "-w", dest="write", metavar="FILE", type=Path, action="append", default=[],
        help="also write JSON lines to FILE; FILE.pcapng: the handshakes' packets, with the verdict as a comment; "
        ".gz, .zst: compressed; SIGHUP closes and reopens FILE",
    )  # fmt: skip
    parser.add_argument(
        "--rotate-size", type=quantities.size, metavar="SIZE", help="start a new file after SIZE bytes (100M, 1G)"
    )
    parser.add_argument(
        "--rotate-time", type=quantities.seconds, metavar="TIME", help="start a new file after TIME (30m, 1h, 1d)"
    )
    parser.add_argument("--rotate-keep", type=_positive, metavar="N", help="keep only the newest N finished files")
    parser.add_argument(
        "--keep", type=_positive, default=100_000, metavar="N",
        help="how many of the newest handshakes the dashboard keeps (default 100000, about 500 bytes each)",
    )  # fmt: skip
    parser.add_argument(
        "--filter-record", type=_record_filter, metavar="EXPR",
        help="only handshakes that match, such as 'outcome == data_not_acked and rtt > 50ms'; totals count all",
    )  # fmt: skip
    parser.add_argument(
        "--fields", action=_Fields, metavar="LIST",
        help="--text with these columns: time,server,result, or +vlan,process beside the usual ones; `--fields help` "
        "lists them",
    )  # fmt: skip
    parser.add_argument(
        "--utc", action="store_true", help="show times in UTC (default: local time); JSON always has UTC"
    )
    parser.add_argument("--show-cookies", action="store_true", help="print TFO cookies, which are bearer tokens")


def _add_pending(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--filter", type=_packet_filter, metavar="EXPR",
        help="only handshakes whose first SYN matches a tcpdump expression, such as 'dst port 443 and net 10.0.0.0/8'",
    )  # fmt: skip
    parser.add_argument(
        "--response-timeout", type=_seconds, default=5.0, metavar="S",
        help="settle an established connection after S seconds without server data (default 5)",
    )  # fmt: skip
    parser.add_argument(
        "--table-size", type=_table_size, default=65536, metavar="N",
        help="how many handshakes can be pending at once (default 65536, about 400 bytes of kernel memory each)",
    )  # fmt: skip


def _add_tracing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hook", type=_hook, default=HookChoice.AUTO, metavar="HOOK",
        help="auto (default: tc), tc, xdp, xdp-native, xdp-generic",
    )  # fmt: skip
    parser.add_argument("--duration", type=_seconds, metavar="S", help="stop after S seconds")
    parser.add_argument("--count", type=_positive, metavar="N", help="stop after N handshakes")
    _add_pending(parser)
    parser.add_argument(
        "--transport", type=_transport, metavar="ring|perf",
        help="buffer between kernel and user space (default: ring if the kernel has it)",
    )  # fmt: skip
    parser.add_argument(
        "--no-kernel-reasons", dest="kernel_reasons", action="store_false",
        help="do not hear why the kernel drops segments (Linux 5.17) and sends resets",
    )  # fmt: skip
    parser.add_argument("--user", metavar="NAME", help="run all but the root part as NAME (default: sudo's user)")
    parser.add_argument("--ready-file", type=Path, metavar="PATH", help="create PATH once every program is attached")


def trace_parser() -> Parser:
    """`tfotrace INTERFACE ...`."""
    commands = "\n".join(f"  tfotrace {name:8} {text}" for name, text in COMMANDS.items())
    parser = Parser(
        prog="tfotrace",
        description="Show every TCP handshake on an interface live, and judge what TCP Fast Open did in it.",
        epilog=f"commands:\n{commands}\n\nexit status: 0 ended as asked, 2 wrong usage, 3 cannot trace here, "
        "4 tracing ended early, 5 doctor found a problem that does not prevent tracing",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "interfaces", nargs="*", metavar="INTERFACE",
        help="one or more; any = all that are up; eth0+eth1 = one group, for asymmetric routes",
    )  # fmt: skip
    parser.add_argument(
        "-i", dest="more_interfaces", metavar="NAME", action="append", default=[],
        help="an interface whose name is also a command",
    )  # fmt: skip
    parser.add_argument("--netns", metavar="NAME|PATH|pid:N", help="trace inside this network namespace")
    parser.add_argument("--version", action="version", version=f"tfotrace {__version__}")
    _add_output(parser)
    _add_metrics(parser)
    _add_tracing(parser)
    return parser


def demo_parser() -> Parser:
    """`tfotrace demo`."""
    parser = Parser(prog="tfotrace demo", description=COMMANDS["demo"][0].upper() + COMMANDS["demo"][1:] + ".")
    _add_output(parser)
    _add_metrics(parser)
    _add_tracing(parser)
    return parser


class _Local(argparse.Action):
    """--local ADDR[/PREFIX]: collects addresses and networks for tracer.handshake.vantage.LocalSet."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        try:
            network = ip_network(str(values), strict=False)
        except ValueError:
            parser.error(f'argument {option}: "{values}" is not an address or network like 192.0.2.1 or 2001:db8::/32')
        addresses, networks = getattr(namespace, self.dest)
        whole = sixteen_bytes(network.network_address.packed)
        networks = [*networks, (whole, 128 - network.max_prefixlen + network.prefixlen)]
        setattr(namespace, self.dest, (addresses, networks))


def replay_parser() -> Parser:
    """`tfotrace replay`."""
    parser = Parser(
        prog="tfotrace replay",
        description="Show recorded events again, or run a capture through the same kernel programs (needs root).",
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE",
        help="JSON lines written by -w or --json, or a capture (pcap, pcapng); may be compressed (gzip, zstd); "
        "- = standard input",
    )  # fmt: skip
    _add_output(parser)
    parser.add_argument("--count", type=_positive, metavar="N", help="stop after N handshakes")
    parser.add_argument(
        "--local", action=_Local, default=((), ()), metavar="ADDR[/PREFIX]",
        help="for a capture: addresses of the host that made it, which tell whether it saw the client's or the "
        "server's end (default: none, as if in transit)",
    )  # fmt: skip
    _add_pending(parser)
    parser.add_argument("--user", metavar="NAME", help="run all but the root part as NAME (default: sudo's user)")
    return parser


def detach_parser() -> Parser:
    """`tfotrace detach`."""
    parser = Parser(prog="tfotrace detach", description="Remove what a killed run left behind, and nothing else.")
    parser.add_argument("interface", nargs="?", metavar="INTERFACE", help="only here (default: everywhere)")
    return parser


def doctor_parser() -> Parser:
    """`tfotrace doctor`."""
    parser = Parser(
        prog="tfotrace doctor",
        description="Say whether this host can trace, whether Fast Open is on, which listeners use it and what the "
        "counters mean, and show the commands that would fix each problem. Doctor itself changes nothing.",
        epilog="exit status: 0 no problem, 2 wrong usage, 3 a problem that prevents tracing, 5 another problem",
    )
    parser.add_argument("interfaces", nargs="*", metavar="INTERFACE", help="check these (default: all that are up)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--netns", metavar="NAME|PATH|pid:N", help="check this network namespace")
    return parser


def schema_parser() -> Parser:
    """`tfotrace schema`."""
    return Parser(prog="tfotrace schema", description="Print the JSON Schema of the records.")


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
    "demo": demo_parser,
    "detach": detach_parser,
    "doctor": doctor_parser,
    "replay": replay_parser,
    "schema": schema_parser,
}
