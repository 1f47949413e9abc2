"""The servers of a stretch of steps (history.py), kept up to date: from one snapshot to the next few steps change."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

Place = tuple[int, bytes, int]  # the cell of tally.py that counts the reason, the server's address, its port
ByReason = dict[int, Counter[tuple[bytes, int]]]

_STRETCHES = 4  # a window, its newest fifth, and what broke
_NEAR_S = 4  # a stretch that is longer by so little has nearly the same steps


class PlaceSums:
    """Sums of a few stretches; any thread may ask. The steps' own counts must never change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stretches: list[_Stretch] = []

    def of(self, span_s: int, numbers: Sequence[int], places: Sequence[Mapping[Place, int]]) -> ByReason:
        """What the steps with these numbers add up to, by reason; `span_s`: how long they are together."""
        with self._lock:
            near = min(self._stretches, key=lambda one: abs(one.span_s - span_s), default=None)
            if near is None or (abs(near.span_s - span_s) > _NEAR_S and len(self._stretches) < _STRETCHES):
                near = _Stretch()
                self._stretches.append(near)
            near.span_s = span_s
            near.move(dict(zip(numbers, places, strict=True)))
            return {reason: Counter(found) for reason, found in near.sums.items()}


class _Stretch:
    """Steps and their sum."""

    def __init__(self) -> None:
        self.span_s = 0
        self.sums: dict[int, dict[tuple[bytes, int], int]] = {}
        self._steps: dict[int, Mapping[Place, int]] = {}

    def move(self, steps: dict[int, Mapping[Place, int]]) -> None:
        """Take out what is not among these steps any more, and add what is new."""
        before, self._steps = self._steps, steps
        for number, places in before.items():
            if steps.get(number) is not places:
                self._add(places, -1)
        for number, places in steps.items():
            if before.get(number) is not places:
                self._add(places, 1)

    def _add(self, places: Mapping[Place, int], sign: int) -> None:
        for (reason, ip, port), times in places.items():
            found = self.sums.setdefault(reason, {})
            left = found.get((ip, port), 0) + sign * times
            if left:
                found[ip, port] = left
                continue
            del found[ip, port]
            if not found:
                del self.sums[reason]
