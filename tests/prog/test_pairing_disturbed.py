"""Whatever a mirror port or a forger adds to a handshake, its record stays the same (DESIGN.md sections 3 and 4).

Each sentence of test_pairing.py is told twice: as it is, and with segments strewn in.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.prog.test_pairing import SENTENCES
from tests.support.decoder import ACK, FIN, RST, SYN
from tests.support.pairing_mirrored import MIRRORED
from tests.support.pairing_tagged import ON_A_STICK
from tests.support.sentences import (
    AT_END,
    C6,
    ISN,
    SERVER_ISN,
    START_NS,
    C,
    Interface,
    Packet,
    Sentence,
    Step,
    Sweep,
    at,
)
from tests.support.testrun import LOOPBACK, Programs, Road

FAR = 1 << 24  # bytes: no window is as large without scaling
COPY_MS = 0.003
ROUNDS = 2
BEGINNINGS = itertools.count(START_NS, 1_000_000_000_000)  # no telling knows of the one before
# what copies and forged segments may change
OPEN_TO_CHANGE = ("copies", "misfit_rsts", "misfit_synacks", "misfit_icmps", "pad")

# with copies of their own, or so many segments that a count is at its limit
PLAIN = [
    one
    for one in SENTENCES
    if one not in MIRRORED and "saturate" not in one.says and not any(isinstance(step, Interface) for step in one.steps)
]


def told(programs: Programs, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The records of these steps, times counted from the beginning."""
    begin_ns = next(BEGINNINGS)
    programs.drain()
    last = 0.0
    for step in steps:
        last = max(last, step.at) if isinstance(step, Packet | Sweep) else last
        now_ns = at(last) - START_NS + begin_ns
        if isinstance(step, Sweep):
            programs.sweep(now_ns=now_ns)
        elif isinstance(step, Packet):
            road = Road.TC_EGRESS if step.egress else Road.TC_INGRESS
            programs.run(road, step.frame, at_ns=at(step.at) - START_NS + begin_ns)
    programs.sweep(now_ns=at(last) - START_NS + begin_ns, flush=True)
    programs.interface(LOOPBACK)
    found = [_facts(event, begin_ns) for event in programs.events()]
    return sorted(found, key=lambda one: (one["syn.seq"], one["reason"], str(one["vlan"]), one["syn_ns"]))


def _facts(event: Any, begin_ns: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    _flatten("", event, found)
    for name, value in found.items():
        if name.endswith(("_ns", ".ns")) and value:
            found[name] = value - begin_ns
    if found["reason"] == AT_END:
        del found["settled_ns"]
    return found


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    for name in value.dtype.names:
        if name in OPEN_TO_CHANGE:
            continue
        if value[name].dtype.names:
            _flatten(f"{prefix}{name}.", value[name], into)
        else:
            into[prefix + name] = value[name].tolist()


def with_copies(steps: Sequence[Step]) -> list[Step]:
    """Every packet twice."""
    found: list[Step] = []
    for step in steps:
        found.append(step)
        if isinstance(step, Packet):
            found.append(Packet(step.at + COPY_MS, step.frame, step.egress))
    return found


def with_forged(steps: Sequence[Step], rng: random.Random, *, ipv6: bool) -> list[Step]:
    """Segments in between whose numbers are far from any that can be in use."""
    there = C6 if ipv6 else C
    back = there.back
    makers: list[Callable[[], bytes]] = [
        lambda: back.frame(RST | ACK, SERVER_ISN + FAR + rng.randrange(FAR), ISN + FAR),
        lambda: back.frame(RST, SERVER_ISN - FAR),
        lambda: there.frame(RST, ISN + 2 * FAR + rng.randrange(FAR)),
        lambda: there.frame(RST | ACK, ISN - FAR, SERVER_ISN + FAR),
        lambda: there.frame(FIN | ACK, ISN - FAR, SERVER_ISN + FAR),
        lambda: there.frame(FIN | ACK, ISN + 2 * FAR, SERVER_ISN + FAR),
        lambda: back.frame(FIN | ACK, SERVER_ISN + FAR, ISN + FAR),
        lambda: back.frame(SYN | ACK, rng.getrandbits(32), ISN + FAR + rng.randrange(FAR)),
        lambda: back.frame(ACK, SERVER_ISN + FAR, ISN + FAR, payload=bytes(9)),
        lambda: there.frame(ACK, ISN - FAR, SERVER_ISN - FAR, payload=bytes(9)),
    ]
    found: list[Step] = []
    for step in steps:
        found.append(step)
        if isinstance(step, Packet):
            found += [Packet(step.at, rng.choice(makers)()) for _ in range(rng.choice((0, 0, 1, 2)))]
    return found


# what settles the record of one tag, and then comes again, is taken for the other tag's: a copy earlier than it comes
TWICE = [one for one in PLAIN if one not in ON_A_STICK]


@pytest.mark.parametrize("sentence", TWICE, ids=str)
def test_every_segment_twice(timed: Programs, sentence: Sentence) -> None:
    assert told(timed, with_copies(sentence.steps)) == told(timed, sentence.steps)


@pytest.mark.parametrize("sentence", PLAIN, ids=str)
def test_forged_segments_in_between(timed: Programs, sentence: Sentence) -> None:
    expected = told(timed, sentence.steps)
    rng = random.Random(sentence.says)
    for _ in range(ROUNDS):
        steps = with_forged(sentence.steps, rng, ipv6="IPv6" in sentence.says)
        assert told(timed, steps) == expected
