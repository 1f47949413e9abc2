"""Export handshakes to a JSON lines file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tracer.records.record import Handshake

_FLUSH = 1000


def export_path(folder: Path, now: time.struct_time) -> Path:
    """tfotrace-YYYYmmdd-HHMMSS.jsonl, with a number added if that exists."""
    stem = time.strftime("tfotrace-%Y%m%d-%H%M%S", now)
    path = folder / f"{stem}.jsonl"
    number = 2
    while path.exists():
        path = folder / f"{stem}-{number}.jsonl"
        number += 1
    return path


def write_export(path: Path, records: Iterable[Handshake]) -> int:
    """Write one record per line; returns how many. Never overwrites a file.

    Raises:
        OSError: the file cannot be created or written.
    """
    encoder = msgspec.json.Encoder()
    written = 0
    with path.open("xb") as file:
        buffer = bytearray()
        for record in records:
            buffer += encoder.encode(record) + b"\n"
            written += 1
            if written % _FLUSH == 0:
                file.write(buffer)
                buffer.clear()
        file.write(buffer)
    return written


def json_text(record: object) -> str:
    """A record as indented JSON, all in ASCII, since people may paste it into a terminal."""
    return json.dumps(msgspec.to_builtins(record), indent=2)
