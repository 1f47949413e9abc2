"""`tfotrace replay`: what a file is, and who replays it."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import UsageError
from tracer.linux import privileges
from tracer.linux.allocator import give_back_early
from tracer.replay.input import PCAPNG, Input, open_input
from tracer.sinks import targets

if TYPE_CHECKING:
    from tracer.run.fanout import Narrate

_PCAP = tuple(bytes.fromhex(text) for text in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "a1b2cd34", "34cdb2a1"))


def replay(options: Namespace, judging: Sequence[str], argv: tuple[str, ...], narrate: Narrate) -> int:
    """Replay `options.file` as the command line says; returns the exit status.

    `judging`: those of the options given that only a capture can be asked, since records are judged already.

    Raises:
        TfotraceError: it cannot begin.
    """
    targets.targets(options.write)  # a wrong name is told at once
    targets.rotation(options.rotate_size, options.rotate_time, options.rotate_keep)
    if any(one.form is targets.Form.PCAPNG for one in targets.targets(options.write)):
        raise UsageError("a replay writes records, not packets: name a file for JSON lines after -w")
    for path in options.write:
        if os.path.realpath(path) == os.path.realpath(options.file):
            raise UsageError(f"{path} is what is read: name another file after -w")
    give_back_early()
    # `sudo -u somebody` sets the same variables, and there is nothing to give up then
    is_root = os.geteuid() == 0
    if options.user is not None and not is_root:
        raise UsageError("--user needs root, which alone can become somebody else: leave it out, or use sudo")
    user = privileges.target_user(options.user) if is_root else None
    source = _open_as(user, options.file)
    try:
        if not source.head:
            raise UsageError(f"{source.name} is empty" + (f": {source.broken}" if source.broken else ""))
        if source.head.startswith((PCAPNG, *_PCAP)):
            from tracer.replay.capture import replay_capture

            return replay_capture(source, options, argv, user, narrate)
        if not _may_be_lines(source.head):
            raise UsageError(f"{source.name} is neither recorded events (JSON lines) nor a capture (pcap, pcapng)")
        _refuse_what_is_for_captures(source.name, options, judging)
        from tracer.replay.records import replay_records

        return replay_records(source, options, argv, user, narrate)
    finally:
        source.close()


def _open_as(user: privileges.User | None, path: Path) -> Input:
    try:
        with privileges.acting_as(user):
            return open_input(path)
    except UsageError as error:
        if user is None or not os.access(path, os.R_OK):
            raise
        raise UsageError(f"{error}, as user {user.name}: let them read it, or say --user root") from None


def _may_be_lines(head: bytes) -> bool:
    """Text, whatever it says: control characters are in no line of JSON."""
    return all(byte >= 0x20 or byte in b"\t\n\r" for byte in head)


def _refuse_what_is_for_captures(name: str, options: Namespace, judging: Sequence[str]) -> None:
    if options.filter is not None:
        raise UsageError(f"{name} holds no packets to ask --filter of: for records there is --filter-record")
    for option in judging:
        raise UsageError(f"{name} holds records, which were judged when they were made: leave {option} out")
