"""Tests with a short form for every run and a long one for `make test-reliability`; and the seed of random ones."""

from __future__ import annotations

import os
import random
from typing import TypeVar

T = TypeVar("T")

LONG = os.environ.get("TFOTRACE_LONG", "") not in ("", "0")
SEED = int(os.environ.get("TFOTRACE_SEED") or random.SystemRandom().randrange(1 << 32))


def either(short: T, long: T) -> T:
    """What this run asks for."""
    return long if LONG else short


def number(name: str, short: int, long: int) -> int:
    """The same, unless an environment variable of that name says how many."""
    return int(os.environ.get(name) or either(short, long))
