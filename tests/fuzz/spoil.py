"""Damage for the fuzz tests; TFOTRACE_FUZZ_EXAMPLES in the environment sets the number of examples."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("TFOTRACE_FUZZ_EXAMPLES", "100"))
SEEDS_MAX = 2**64 - 1
_ODD = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    0x0A,
    0x1F,
    0x20,
    0x22,
    0x2C,
    0x40,
    0x5C,
    0x7B,
    0x7D,
    0x7F,
    0x80,
    0xC0,
    0xE2,
    0xF4,
    0xFE,
    0xFF,
)
_WORDS = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\x01\0",
    b"\xff\xff",
    b"\xed\xa0\x80",
)

Test = TypeVar("Test", bound=Callable[..., Any])


def fuzzed(share: float = 1.0) -> Callable[[Test], Test]:
    """The number of examples; only a `share` of them if each takes longer."""
    return settings(
        max_examples=max(1, int(EXAMPLES * share)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def spoiled(seeds: Sequence[bytes], number: int, edits: int = 8) -> bytes:
    """One of the seeds with up to `edits` changes; the same for the same number."""
    pick = random.Random(number)
    data = bytearray(pick.choice(seeds))
    for _ in range(pick.randint(0, edits)):
        at = pick.randrange(len(data) + 1)
        match pick.randrange(8):
            case 0:
                data[at : at + 1] = bytes((pick.choice(_ODD),))
            case 1:
                data[at : at + 1] = bytes((pick.randrange(256),))
            case 2 if at < len(data):
                data[at] ^= 1 << pick.randrange(8)
            case 3:
                data[at : at + 4] = pick.choice(_WORDS)[:: pick.choice((1, -1))]
            case 4:
                del data[at : at + pick.randint(1, 40)]
            case 5:
                data[at:at] = pick.randbytes(pick.randint(1, 12))
            case 6:
                other = pick.choice(seeds)
                begin = pick.randrange(len(other) + 1)
                data[at:at] = other[begin : begin + pick.randint(1, 200)]
            case _ if pick.randrange(8) == 0:
                del data[at:]
    return bytes(data)
