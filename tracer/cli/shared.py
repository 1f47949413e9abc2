"""Options that several commands have, and what their values may be."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from enum import Enum
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tracer.cli import quantities
from tracer.cli.parser import EVIDENCE, OUTPUT, RECORDS, SELDOM, STOP, TRACED, UNATTENDED, Parser
from tracer.errors import UsageError
from tracer.sinks.address import Address, parse_address
from tracer.vocabulary.addresses import sixteen_bytes
from tracer.vocabulary.vocabulary import HookChoice, Transport

if TYPE_CHECKING:
    from tracer.filters.filter import Filter
    from tracer.loader.packet_filter import PacketFilter

EnumT = TypeVar("EnumT", bound=Enum)


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


def word_of(words: type[EnumT]) -> Callable[[str], EnumT]:
    """Takes the values of an enum."""

    def parse(text: str) -> EnumT:
        try:
            return words(text)
        except ValueError:
            known = ", ".join(str(one.value) for one in words)
            raise argparse.ArgumentTypeError(f'unknown word "{text}": {known}') from None

    return parse


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


def add_metrics(parser: Parser) -> None:
    group = parser.groups[UNATTENDED]
    group.add_argument(
        "--prometheus", type=_address, metavar="[ADDR:]PORT",
        help="serve metrics for Prometheus there (ADDR defaults to 127.0.0.1; port 0 picks a free one)",
    )  # fmt: skip
    group.add_argument(
        "--prometheus-peers", type=quantities.positive, default=0, metavar="N",
        help="also serve metrics for each of the first N servers seen (default: none)",
    )  # fmt: skip


def add_output(parser: Parser) -> None:
    form = parser.groups[OUTPUT].add_mutually_exclusive_group()
    form.add_argument(
        "--text", action="store_true",
        help="no dashboard: one line per handshake once it has settled, with the time of its first SYN; the default in "
        "a pipe",
    )  # fmt: skip
    form.add_argument("--json", action="store_true", help="no dashboard: JSON lines on standard output")
    form.add_argument("--quiet", action="store_true", help="no dashboard and nothing on standard output")
    parser.groups[OUTPUT].add_argument(
        "-w", dest="write", metavar="FILE", type=Path, action="append", default=[],
        help="also write JSON lines to FILE; FILE.pcapng: the handshakes' packets, with the verdict as a comment; "
        ".gz, .zst: compressed; may be repeated",
    )  # fmt: skip
    parser.groups[OUTPUT].add_argument(
        "--keep", type=quantities.positive, default=100_000, metavar="N",
        help="how many of the newest handshakes the dashboard keeps (default 100000, about 500 bytes each)",
    )  # fmt: skip
    parser.groups[RECORDS].add_argument(
        "--filter-record", type=_record_filter, metavar="EXPR",
        help="only handshakes that match, such as 'outcome == data_not_acked and rtt > 50ms'; totals count all",
    )  # fmt: skip
    parser.groups[OUTPUT].add_argument(
        "--fields", action=_Fields, metavar="LIST",
        help="--text with these columns: time,server,result, or +vlan,process beside the usual ones; `--fields help` "
        "lists them",
    )  # fmt: skip
    add_utc(parser)
    parser.groups[EVIDENCE].add_argument(
        "--show-cookies", action="store_true",
        help="give TFO cookies, which are bearer tokens, instead of a keyed hash of them, in captures too; only the "
        "owner may then read the files of -w",
    )  # fmt: skip
    unattended = parser.groups[UNATTENDED]
    unattended.add_argument(
        "--rotate-size", type=quantities.size, metavar="SIZE",
        help="start a new file after SIZE bytes (100M, 1G); the finished one gets its start time into its name",
    )  # fmt: skip
    unattended.add_argument(
        "--rotate-time", type=quantities.whole_seconds, metavar="TIME", help="start a new file after TIME (30m, 1h, 1d)"
    )
    unattended.add_argument(
        "--rotate-keep", type=quantities.positive, metavar="N", help="keep only the newest N finished files"
    )
    add_user(parser)


def _page(text: str) -> Path:
    if text in ("", "-"):
        raise argparse.ArgumentTypeError("name a file: standard output has the run's own output")
    return Path(text)


def add_report(parser: Parser) -> None:
    parser.groups[OUTPUT].add_argument(
        "--report", type=_page, metavar="FILE.html",
        help="write one page on the run when it ends: verdicts, causes, plots, peers, failed handshakes",
    )  # fmt: skip


def add_utc(parser: Parser) -> None:
    parser.groups[OUTPUT].add_argument(
        "--utc", action="store_true", help="show times in UTC (default: local time); JSON always has UTC"
    )


def add_user(parser: Parser) -> None:
    parser.groups[EVIDENCE].add_argument(
        "--user", metavar="NAME", help="run all but the root part as NAME (default: sudo's user)"
    )


def add_count(parser: Parser) -> None:
    parser.groups[STOP].add_argument("--count", type=quantities.positive, metavar="N", help="stop after N handshakes")


def _add_pending(parser: Parser) -> None:
    parser.groups[TRACED].add_argument(
        "--filter", type=_packet_filter, metavar="EXPR",
        help="only handshakes whose first SYN matches a tcpdump expression, such as 'dst port 443 and net 10.0.0.0/8'",
    )  # fmt: skip
    parser.groups[SELDOM].add_argument(
        "--response-timeout", type=quantities.seconds, default=5.0, metavar="TIME",
        help="settle an established connection after TIME without server data (default 5s)",
    )  # fmt: skip
    parser.groups[SELDOM].add_argument(
        "--table-size", type=quantities.table_size, default=65536, metavar="N",
        help="how many handshakes can be pending at once (default 65536, about 400 bytes of kernel memory each)",
    )  # fmt: skip


def add_tracing(parser: Parser) -> None:
    parser.groups[STOP].add_argument(
        "--duration", type=quantities.seconds, metavar="TIME", help="stop after TIME (30s, 5m, 1.5h)"
    )
    add_count(parser)
    _add_pending(parser)
    parser.groups[EVIDENCE].add_argument(
        "--no-kernel-reasons", dest="kernel_reasons", action="store_false",
        help="do not hear why this host's kernel drops segments (Linux 5.17) and sends resets (6.11)",
    )  # fmt: skip
    parser.groups[UNATTENDED].add_argument(
        "--ready-file", type=Path, metavar="PATH", help="create PATH once every program is attached"
    )
    parser.groups[SELDOM].add_argument(
        "--hook", type=_hook, default=HookChoice.AUTO, metavar="HOOK",
        help="where packets are read: auto (default: tc), tc, xdp, xdp-native, xdp-generic; the start record says "
        "which one was used and why",
    )  # fmt: skip
    parser.groups[SELDOM].add_argument(
        "--transport", type=_transport, metavar="ring|perf",
        help="buffer between kernel and user space (default: ring if the kernel has it)",
    )  # fmt: skip


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


def add_capture(parser: Parser) -> None:
    """How a capture is judged."""
    parser.groups[TRACED].add_argument(
        "--local", action=_Local, default=((), ()), metavar="ADDR[/PREFIX]",
        help="for a capture: addresses of the host that made it, which tell whether it saw the client's or the "
        "server's end (default: none, as if in transit); may be repeated",
    )  # fmt: skip
    _add_pending(parser)
