"""What a run remembers has bounds."""

from __future__ import annotations

from pathlib import Path

from tracer.gone import GONE_KEPT, forget_gone
from tracer.process_scan import OWNERS_HELD, WANTED_MAX, OwnerFinder


def test_the_root_part_remembers_few_sockets(tmp_path: Path) -> None:
    finder = OwnerFinder(str(tmp_path))  # no process at all
    for number in range(100):
        finder.ask(number, range(number * 1000, number * 1000 + 1000), ())
        if number % 10 == 9:
            assert len(finder._wanted) <= WANTED_MAX
            finder._not_before = 0.0
            finder.advance()
    assert len(finder._nobody) == OWNERS_HELD
    assert not finder._known


def test_interfaces_that_have_gone_are_forgotten() -> None:
    known: dict[int, str] = {}
    for first in range(0, 10_000, 10):
        there = {index: f"veth{index}" for index in (1, *range(first, first + 10))}
        known.update(there)
        forget_gone(known, there)
        assert len(known) <= GONE_KEPT + len(there)
    assert known[1] == "veth1"
    assert 9_700 not in known
    assert 9_980 in known
