"""What the names after -w ask for: format and compression by suffix, checked before anything is loaded or opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tracer.errors import UsageError


class Compression(str, Enum):
    """Given by the last suffix of the name."""

    NONE = ""
    GZIP = ".gz"
    ZSTD = ".zst"


class Form(str, Enum):
    """Given by the suffix before that."""

    JSON_LINES = "jsonl"
    PCAPNG = "pcapng"


@dataclass(frozen=True, slots=True)
class Rotation:
    """When to start the next file, in bytes and seconds; `keep` finished files stay (None: all)."""

    size: int | None = None
    seconds: int | None = None
    keep: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One -w."""

    path: Path
    form: Form
    compression: Compression
    stem: str  # stem + suffix is the name
    suffix: str  # such as ".jsonl.zst"


def target(path: Path) -> Target:
    """What this name asks for. Raises UsageError."""
    name = path.name
    compression = next((one for one in (Compression.GZIP, Compression.ZSTD) if name.endswith(one.value)), None)
    inner = name[: -len(compression.value)] if compression else name
    stem, suffix = os.path.splitext(inner)
    form = Form.PCAPNG if suffix == ".pcapng" else Form.JSON_LINES
    if suffix in (".pcap", ".cap"):
        raise UsageError(f"{path}: tfotrace writes captures as pcapng: name it {stem}.pcapng")
    return Target(path, form, compression or Compression.NONE, stem, name[len(stem) :])


def targets(paths: Sequence[Path]) -> list[Target]:
    """All targets in order. Raises UsageError, also for a file named twice."""
    seen: set[str] = set()
    for path in paths:
        if str(path) == "-":
            raise UsageError("-w takes a file name: use --json for JSON lines on standard output")
        if os.path.isdir(path):
            raise UsageError(f"{path} is a folder: name a file in it, such as {path / 'events.jsonl'}")
        real = os.path.realpath(path)
        if real in seen and (os.path.isfile(real) or not os.path.exists(real)):
            raise UsageError(f"{path} is named twice after -w: name each file once")
        seen.add(real)
    return [target(path) for path in paths]


def rotation(size: int | None, seconds: int | None, keep: int | None) -> Rotation | None:
    """Combine the three options; None if files never end. Raises UsageError."""
    if size is None and seconds is None:
        if keep is not None:
            raise UsageError("--rotate-keep limits the finished files: it needs --rotate-size or --rotate-time")
        return None
    return Rotation(size, seconds, keep)
