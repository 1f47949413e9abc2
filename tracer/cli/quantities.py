"""Sizes and times as people write them on a command line: 100M, 90s, 1h."""

from __future__ import annotations

import argparse
import re

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"([0-9]{1,12})([KMGT]?)", re.ASCII | re.IGNORECASE)
_TIME = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)


def size(text: str) -> int:
    """Bytes; K, M, G and T are powers of 1,024. Raises argparse.ArgumentTypeError."""
    match = _SIZE.fullmatch(text)
    value = int(match[1]) * _SIZES[match[2].upper()] if match else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a size: give bytes above 0, or like 100M, 2G')
    return value


def seconds(text: str) -> int:
    """Seconds; m, h and d are minutes, hours and days. Raises argparse.ArgumentTypeError."""
    match = _TIME.fullmatch(text)
    value = int(match[1]) * _SECONDS[match[2]] if match else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a time: give seconds above 0, or like 30m, 1h, 1d')
    return value
