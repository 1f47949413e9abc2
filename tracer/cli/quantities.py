"""Numbers, sizes and durations as people write them on a command line: 100M, 90s, 1.5h. For argparse's `type`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

from tracer.vocabulary import spans

TABLE_SIZE_MAX = 1 << 24

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,12})([KMGT]?)", re.ASCII | re.IGNORECASE)


def size(text: str) -> int:
    """Bytes; K, M, G and T are powers of 1,024. Raises argparse.ArgumentTypeError."""
    match = _SIZE.fullmatch(text)
    value = int(match[1]) * _SIZES[match[2].upper()] if match else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a size: give bytes above 0, or like 100M, 2G')
    return value


def seconds(text: str) -> float:
    """A duration above 0 in seconds. Raises argparse.ArgumentTypeError."""
    value = spans.seconds(text)
    if value is None or not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f'"{text}" is not a duration above 0: {spans.HOW}')
    return value


def whole_seconds(text: str) -> int:
    """A duration of at least a second, in whole seconds. Raises argparse.ArgumentTypeError."""
    value = seconds(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is shorter than a second')
    return round(value)


def positive(text: str) -> int:
    """A whole number above 0. Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number above 0')
    return int(text)


def table_size(text: str) -> int:
    """How many entries a table of the kernel has. Raises argparse.ArgumentTypeError."""
    value = positive(text)
    if value > TABLE_SIZE_MAX:
        raise argparse.ArgumentTypeError(f"{value} is more than {TABLE_SIZE_MAX} entries")
    return value


def up_to(greatest: int) -> Callable[[str], int]:
    """Whole numbers above 0 that are at most so great."""

    def parse(text: str) -> int:
        value = positive(text)
        if value > greatest:
            raise argparse.ArgumentTypeError(f"{value} is more than {greatest}")
        return value

    return parse


def rate(text: str) -> float:
    """How often a second, above 0. Raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.001 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f'"{text}" is not a rate: give a number from 0.001 to 10000 a second')
    return value
