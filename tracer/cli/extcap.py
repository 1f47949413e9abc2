"""`tfotrace extcap`: Wireshark's extcap interface, by which it lists interfaces and captures from another program.

Wireshark Developer's Guide, section "Adding Capture Interfaces And Log Sources Using Extcap"; doc/extcap_example.py of
its sources. What is captured are the handshakes' segments, each record's verdict as a comment (-w FILE.pcapng).
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from tracer.errors import UsageError
from tracer.linux import interfaces
from tracer.version import __version__

PREFIX = "tfotrace-"  # of the names that Wireshark shows: eth0 alone would be an interface of its own
_ETHERNET = 1  # LINKTYPE_ETHERNET; a pcapng says of each interface what it is


def answer(options: Namespace) -> list[str] | None:
    """The lines that Wireshark reads; None where it asks to capture. Raises UsageError."""
    if options.extcap_interfaces:
        return list(_interfaces())
    if options.extcap_interface is None:
        raise UsageError("extcap is for Wireshark: it is called with --extcap-interfaces, or with --extcap-interface")
    if options.extcap_dlts:
        return [f"dlt {{number={_ETHERNET}}}{{name=EN10MB}}{{display=Ethernet}}"]
    if options.extcap_config:
        return list(_settings())
    if options.capture:
        return None
    raise UsageError("extcap is for Wireshark: say --capture, --extcap-dlts or --extcap-config")


def _interfaces() -> Iterator[str]:
    yield f"extcap {{version={__version__}}}{{help=https://www.rfc-editor.org/rfc/rfc7413}}"
    for name in ("any", *(one.name for one in interfaces.all_up())):
        where = "all interfaces" if name == "any" else name
        yield f"interface {{value={PREFIX}{name}}}{{display=TCP handshakes of {where}, with verdicts}}"


def _settings() -> Iterator[str]:
    """What the dialog of an interface offers."""
    for number, (option, shown, says) in enumerate((
        ("--filter-record", "Only handshakes that match", "such as result != established"),
        ("--netns", "Network namespace", "a name, a path, or pid:N"),
    )):  # fmt: skip
        yield f"arg {{number={number}}}{{call={option}}}{{display={shown}}}{{type=string}}{{tooltip={says}}}"


def capture_words(options: Namespace, folder: str) -> Sequence[str]:
    """The command line that captures into Wireshark's pipe. Raises UsageError.

    The form of -w follows from its name, so the pipe gets another one in `folder`.
    """
    if options.fifo is None:
        raise UsageError("extcap --capture needs --fifo PATH, the pipe that Wireshark reads")
    pipe = Path(folder) / "handshakes.pcapng"
    os.symlink(os.path.abspath(options.fifo), pipe)
    # the pipe is for who started Wireshark, whoever is behind sudo
    words = ["-i", options.extcap_interface.removeprefix(PREFIX), "--quiet", "-w", str(pipe), "--user", "root"]
    for name, value in (
        ("--filter", options.extcap_capture_filter), ("--filter-record", options.filter_record),
        ("--netns", options.netns),
    ):  # fmt: skip
        if value:
            words += [name, value]
    return words
