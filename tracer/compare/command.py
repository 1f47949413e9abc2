"""`tfotrace compare`: reads the places and tells what happened between them."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tracer.compare.compare import compare
from tracer.compare.model import Comparison
from tracer.compare.place import Layouts, Place
from tracer.errors import EndedEarlyError, ExitCode, TfotraceError, UsageError
from tracer.linux import privileges
from tracer.replay.columns import BatchBuilder, RecordedComposer
from tracer.replay.input import Input, open_input
from tracer.replay.records import RecordReplay
from tracer.replay.replay import is_capture, open_as
from tracer.run.fanout import Fanout
from tracer.run.stop import StopRequest

Narrate = Callable[[str], None]


def compared(options: Namespace, narrate: Narrate) -> list[Comparison]:
    """Compare each place with the next one.

    Raises:
        UsageError: a file cannot be read, or holds no records.
        TfotraceError: a capture cannot be replayed here.
    """
    names = [str(one) for one in options.files]
    if len(names) < 2:
        raise UsageError("compare needs two places: name two recordings or captures, that at the clients' side first")
    if len(set(names)) < len(names):
        raise UsageError("a file is named twice: name each place once")
    is_root = os.geteuid() == 0
    if options.user is not None and not is_root:
        raise UsageError("only root can run as another user: leave --user out, or use sudo")
    user = privileges.target_user(options.user) if is_root else None
    stop = StopRequest()
    stop.install()
    layouts = Layouts()
    with ExitStack() as opened:
        parts = [_split(name) for name in names]
        sources = [opened.enter_context(_records(path, user)) for path, _ in parts]
        privileges.drop(user)
        places = []
        for name, (_, interface), source in zip(names, parts, sources, strict=True):
            places.append(_read(name, interface, source, layouts, stop, narrate))
            if stop.reason is not None:
                raise EndedEarlyError("stopped before all files were read: nothing is compared")
    return [compare(one, other) for one, other in pairwise(places)]


def _split(name: str) -> tuple[Path, str | None]:
    """FILE, or FILE:INTERFACE where no file has that name."""
    path, colon, interface = name.rpartition(":")
    if colon and path and interface and not os.path.exists(name):
        return Path(path), interface
    return Path(name), None


@contextmanager
def _records(path: Path, user: privileges.User | None) -> Iterator[Input]:
    """A recording; of a capture what a replay of it says."""
    source = open_as(user, path)
    try:
        if not is_capture(source):
            yield source
            return
    finally:
        source.close()
    words = [sys.executable, "-m", "tracer", "replay", str(path), "--json"]
    if user is not None:
        words += ["--user", user.name]
    with TemporaryFile("w+") as said, subprocess.Popen(
        words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=said
    ) as replay:  # fmt: skip
        assert replay.stdout is not None
        source = open_input(Path(f"/dev/fd/{replay.stdout.fileno()}"))
        source.name = str(path)
        try:
            if not source.head:
                raise _failed(replay.wait(), said)
            yield source
        finally:
            source.close()
            replay.terminate()


def _failed(status: int, said: IO[str]) -> TfotraceError:
    """What the replay of a capture complained of."""
    said.seek(0)
    text = said.readline().strip().removeprefix("tfotrace: ")
    error = TfotraceError(text or f"the replay of a capture ended with status {status}")
    error.exit_code = ExitCode(status) if status in list(ExitCode) else ExitCode.CANNOT_TRACE
    return error


def _read(
    name: str, interface: str | None, source: Input, layouts: Layouts, stop: StopRequest, narrate: Narrate
) -> Place:
    place = Place(name, layouts, interface)
    source.end_when(lambda: stop.reason is not None)
    rows = BatchBuilder()
    composer = RecordedComposer(rows.interfaces, 0)
    replay = RecordReplay((source,), composer, rows, Fanout([place], narrate), (), stop, summarizes=False)
    replay.run()
    place.is_complete = replay.is_whole
    place.interfaces = {index: one.name for index, one in rows.interfaces.by_index.items()}
    if interface is not None and interface not in place.interfaces.values():
        known = ", ".join(sorted(set(place.interfaces.values())))
        raise UsageError(f"{source.name} has no handshake at {interface}: it has {known}")
    return place
