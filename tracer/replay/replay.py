"""`tfotrace replay`: finds out what a file is, and replays it."""

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
    """Replay `options.files` as the command line says; returns the exit status.

    `judging` lists the given options that apply to captures only, since records have been judged.

    Raises:
        TfotraceError: it cannot begin.
    """
    targets.targets(options.write)  # report a wrong name at once
    targets.rotation(options.rotate_size, options.rotate_time, options.rotate_keep)
    if any(one.form is targets.Form.PCAPNG for one in targets.targets(options.write)):
        raise UsageError("a replay writes records, not packets: name a file for JSON lines after -w")
    _refuse_to_overwrite(options)
    give_back_early()
    # `sudo -u somebody` sets the same variables, but there is no privilege to give up
    is_root = os.geteuid() == 0
    if options.user is not None and not is_root:
        raise UsageError("only root can run as another user: leave --user out, or use sudo")
    user = privileges.target_user(options.user) if is_root else None
    sources: list[Input] = []
    try:
        for path in options.files:
            sources.append(open_as(user, path))
            _check(sources[-1], options, judging, alone=len(options.files) == 1)
        if is_capture(sources[0]):
            from tracer.replay.capture import replay_capture

            return replay_capture(sources[0], options, argv, user, narrate)
        from tracer.replay.records import replay_records

        return replay_records(sources, options, argv, user, narrate)
    finally:
        for source in sources:
            source.close()


def _refuse_to_overwrite(options: Namespace) -> None:
    """A file that is read must not be written."""
    read = {os.path.realpath(path) for path in options.files}
    for paths, where in ((options.write, "after -w"), ([options.report] if options.report else [], "for the report")):
        for path in paths:
            if os.path.realpath(path) in read and str(path) != "-":
                raise UsageError(f"{path} is the file being replayed: name another file {where}")


def _check(source: Input, options: Namespace, judging: Sequence[str], *, alone: bool) -> None:
    """Raises UsageError for what cannot be replayed, or not with these options or other files."""
    if not is_capture(source):
        _refuse_what_is_for_captures(source.name, options, judging)
    elif not alone:
        raise UsageError(f"{source.name} is a capture: name it alone, or record it with replay -w first")


def is_capture(source: Input) -> bool:
    """Does it hold packets, rather than records? Raises UsageError if it is empty, or clearly neither."""
    if not source.head:
        raise UsageError(f"{source.name} is empty: {source.broken or 'there is nothing to replay'}")
    if source.head.startswith((PCAPNG, *_PCAP)):
        return True
    if not _may_be_lines(source.head):
        raise UsageError(f"{source.name} is neither recorded events (JSON lines) nor a capture (pcap, pcapng)")
    return False


def open_as(user: privileges.User | None, path: Path) -> Input:
    """Open a file with the rights of `user` (None: with one's own). Raises UsageError."""
    try:
        with privileges.acting_as(user):
            return open_input(path)
    except UsageError as error:
        if user is None or not os.access(path, os.R_OK):
            raise
        raise UsageError(f"{error}, as user {user.name}: let them read it, or say --user root") from None


def _may_be_lines(head: bytes) -> bool:
    """Is this text? No line of JSON contains control characters."""
    return all(byte >= 0x20 or byte in b"\t\n\r" for byte in head)


def _refuse_what_is_for_captures(name: str, options: Namespace, judging: Sequence[str]) -> None:
    if options.filter is not None:
        raise UsageError(f"{name} holds records, and --filter is for packets: use --filter-record")
    for option in judging:
        raise UsageError(f"{name} holds records, which were judged when they were written: leave {option} out")
