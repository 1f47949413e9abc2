"""Handshakes as text that leaves the dashboard: JSON lines, JSON for the clipboard, the ladder as plain text."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tracer.records.record import Handshake
from tracer.words.ladder import LADDER_MAX, ladder_lines
from tui.explain import fact_lines, verdict_lines
from tui.lines import EMPTY

TEXT_CELLS = 80
_FLUSH = 1000


def export_path(folder: Path, now: time.struct_time, suffix: str = ".jsonl") -> Path:
    """tfotrace-YYYYmmdd-HHMMSS and the suffix, with a number added if that exists."""
    stem = time.strftime("tfotrace-%Y%m%d-%H%M%S", now)
    path = folder / f"{stem}{suffix}"
    number = 2
    while path.exists():
        path = folder / f"{stem}-{number}{suffix}"
        number += 1
    return path


def write_export(path: Path, records: Iterable[Handshake]) -> int:
    """Write one record per line; returns how many. Never overwrites a file.

    Raises:
        OSError: the file cannot be created or written.
    """
    encoder = msgspec.json.Encoder()
    written = 0
    with open(path, "xb", opener=_private) as file:
        buffer = bytearray()
        for record in records:
            buffer += encoder.encode(record) + b"\n"
            written += 1
            if written % _FLUSH == 0:
                file.write(buffer)
                buffer.clear()
        file.write(buffer)
    return written


def _private(path: str, flags: int) -> int:
    """Open for the owner alone: records and ladder may have cookies."""
    return os.open(path, flags, 0o600)


def json_text(record: object) -> str:
    """A record as indented JSON, all in ASCII, since people may paste it into a terminal."""
    return json.dumps(msgspec.to_builtins(record), indent=2)


def ladder_text(record: Handshake) -> str:
    """Verdict, ladder and facts of a handshake as on the screen, without colours, at most TEXT_CELLS wide."""
    lines = [
        *verdict_lines(record, TEXT_CELLS), EMPTY, *ladder_lines(record, LADDER_MAX), EMPTY,
        *fact_lines(record, TEXT_CELLS),
    ]  # fmt: skip
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def write_ladder(path: Path, record: Handshake) -> None:
    """Write the ladder as text. Never overwrites a file.

    Raises:
        OSError: the file cannot be created or written.
    """
    with open(path, "x", encoding="utf-8", opener=_private) as file:
        file.write(ladder_text(record))
