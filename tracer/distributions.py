"""How durations, sizes and names are distributed: counts in buckets, added a batch at a time, of bounded size."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer import signature
from tracer.events import Events
from tracer.fields import option_keys
from tracer.rows import Part
from tracer.snapshot import Distributions, Histogram
from tracer.tfo import F64, Bool, has
from tracer.vocabulary import Has

# Durations: 24 buckets a decade from 1 us to 1,000 s, so a bucket is 10 % wide.
PER_DECADE = 24
DECADES = 9
BUCKETS = PER_DECADE * DECADES
EDGES: F64 = 10.0 ** (np.arange(BUCKETS + 1) / PER_DECADE)
SHOWN_PER_DECADE = 6

WINDOW_EDGES: F64 = np.concatenate(([0.0], 2.0 ** np.arange(17)))  # bytes: 0, 1, 2, 4 ... 65536

NAMES_HELD = 4096
LAYOUTS_HELD = 4096
NEW_LAYOUTS = 64  # walked at once
SHOWN = 50

_FILLERS = frozenset({"nop", "eol"})


def buckets(durations_us: F64) -> tuple[NDArray[np.intp], Bool]:
    """The bucket of each duration (anything where it is not known), and which are known; the ends catch the rest."""
    known: Bool = ~np.isnan(durations_us)
    clipped = np.clip(np.where(known, durations_us, 1.0), 1.0, EDGES[-1])
    found = (np.log10(clipped) * PER_DECADE).astype(np.intp)
    return np.minimum(found, BUCKETS - 1), known


def quantiles(counts: NDArray[np.integer], share: float) -> F64:
    """The quantile of each row of [n, BUCKETS] counts in microseconds, NaN without samples; right within 10 %."""
    sums = counts.cumsum(axis=1)
    total = sums[:, -1]
    wanted = total * share
    place = np.minimum((sums < wanted[:, None]).sum(axis=1), BUCKETS - 1)
    rows = np.arange(len(counts))
    inside = counts[rows, place]
    before = sums[rows, place] - inside
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.clip((wanted - before) / inside, 0.0, 1.0)
    # an empty row has 0 / 0 in `part`, so it is NaN by itself; buckets are even in the logarithm
    return np.where(total > 0, 10.0 ** ((place + part) / PER_DECADE), np.nan)


@dataclass(frozen=True, slots=True)
class Facts:
    """What peers and distributions both need of some rows, found once."""

    rtt_bucket: NDArray[np.intp]
    rtt_known: Bool
    response_bucket: NDArray[np.intp]
    response_known: Bool
    names: list[tuple[int, str]]  # row and the SNI or HTTP host of its SYN


def facts(part: Part) -> Facts:
    """Facts of some rows."""
    return Facts(*buckets(part.durations.rtt_us), *buckets(part.durations.first_response_us), _names(part))


def _names(part: Part) -> list[tuple[int, str]]:
    rows = np.flatnonzero(part.payload)
    found = []
    for row, place in zip(rows.tolist(), part.payload[rows].tolist(), strict=True):
        payload = part.payloads[place]
        if payload is None:
            continue
        if payload.tls is not None and payload.tls.sni:
            found.append((row, payload.tls.sni))
        elif payload.http is not None and payload.http.host:
            found.append((row, payload.http.host))
    return found


class Recent:
    """How often each text was seen; of too many the quarter that was not seen for longest is forgotten and counted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str, list[int]] = {}  # how often, when last
        self._clock = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, texts: Iterable[str]) -> None:
        """Count each."""
        counts = self._counts
        self._clock += 1
        for text in texts:
            entry = counts.get(text)
            if entry is None:
                if len(counts) >= self._limit:
                    self._forget()
                counts[text] = [1, self._clock]
            else:
                entry[0] += 1
                entry[1] = self._clock

    def _forget(self) -> None:
        oldest = sorted(self._counts, key=lambda text: self._counts[text][1])[: max(1, self._limit // 4)]
        for text in oldest:
            del self._counts[text]
        self.forgotten += len(oldest)

    def top(self, shown: int = SHOWN) -> tuple[tuple[str, int], ...]:
        """The most frequent, the most frequent first."""
        best = heapq.nsmallest(shown, self._counts.items(), key=lambda item: (-item[1][0], item[0]))
        return tuple((text, count) for text, (count, _) in best)


class _Layouts:
    """Option layouts by their bytes, so that each is walked once; counts the options that SYNs carry by name.

    Walking costs 10 to 50 us, so a flood of layouts that never come again is counted in part: `left_out` SYNs are not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers: dict[bytes, int] = {}
        self._options: list[tuple[str, ...]] = []
        self._counts = np.zeros(limit, np.int64)
        self._older: dict[str, int] = {}
        self.left_out = 0

    def add(self, segment: Events) -> None:
        """Count the options of each segment; of new layouts the first NEW_LAYOUTS."""
        new = 0
        numbers = self._numbers
        found: list[int] = []
        for key in option_keys(segment):
            number = numbers.get(key)
            if number is None:
                new += 1
                if new > NEW_LAYOUTS:
                    self.left_out += 1
                    continue
                if len(numbers) >= self._limit:
                    self._count(found)
                    found = []
                    self._fold()
                number = numbers[key] = len(self._options)
                self._options.append(tuple(dict.fromkeys(signature.option_layout(key).names)))
            found.append(number)
        self._count(found)

    def _count(self, found: list[int]) -> None:
        if found:
            self._counts += np.bincount(found, minlength=self._limit)

    def _fold(self) -> None:
        self._older = self._by_name()
        self._counts[:] = 0
        self._numbers.clear()
        self._options.clear()

    def _by_name(self) -> dict[str, int]:
        sums = dict(self._older)
        for names, count in zip(self._options, self._counts.tolist(), strict=False):
            for name in names:
                if name not in _FILLERS:
                    sums[name] = sums.get(name, 0) + count
        return sums

    def top(self) -> tuple[tuple[str, int], ...]:
        """Options by how many SYNs carry them (padding left out)."""
        return tuple(sorted(self._by_name().items(), key=lambda item: (-item[1], item[0]))[:SHOWN])


class DistributionCounts:
    """Everything tracer.snapshot.Distributions shows."""

    def __init__(self) -> None:
        self._rtt = np.zeros(BUCKETS, np.int64)
        self._rtt_tfo = np.zeros(BUCKETS, np.int64)
        self._first_response = np.zeros(BUCKETS, np.int64)
        self._mss = np.zeros(1 << 16, np.int64)
        self._no_mss = 0
        self._wscale = np.zeros(1 << 8, np.int64)
        self._no_wscale = 0
        self._window = np.zeros(len(WINDOW_EDGES) - 1, np.int64)
        self._layouts = _Layouts(LAYOUTS_HELD)
        self.names = Recent(NAMES_HELD)

    def add(self, part: Part, known: Facts) -> None:
        """Count some rows."""
        self._rtt += np.bincount(known.rtt_bucket[known.rtt_known], minlength=BUCKETS)
        tfo = known.rtt_known & part.verdicts.attempted
        self._rtt_tfo += np.bincount(known.rtt_bucket[tfo], minlength=BUCKETS)
        self._first_response += np.bincount(known.response_bucket[known.response_known], minlength=BUCKETS)
        syn = part.events["syn"]
        carried = syn["has"]
        with_mss = has(carried, Has.MSS)
        np.add.at(self._mss, syn["mss"][with_mss], 1)
        self._no_mss += len(part) - int(np.count_nonzero(with_mss))
        with_wscale = has(carried, Has.WSCALE)
        self._wscale += np.bincount(syn["wscale"][with_wscale], minlength=1 << 8)
        self._no_wscale += len(part) - int(np.count_nonzero(with_wscale))
        # the exponent of a float is the place among powers of two: 0 -> 0, 1 -> 1, 2 and 3 -> 2 ...
        self._window += np.bincount(np.frexp(syn["window"].astype(np.float32))[1], minlength=len(self._window))
        self._layouts.add(syn)
        self.names.add(name for _, name in known.names)

    def snapshot(self) -> Distributions:
        """As it stands now."""
        return Distributions(
            rtt=_shown(self._rtt),
            rtt_tfo=_shown(self._rtt_tfo),
            first_response=_shown(self._first_response),
            mss=_top(self._mss, self._no_mss),
            wscale=_top(self._wscale, self._no_wscale),
            window=Histogram(WINDOW_EDGES, self._window.copy()),
            options=self._layouts.top(),
            names=self.names.top(),
        )


def _shown(counts: NDArray[np.int64]) -> Histogram:
    step = PER_DECADE // SHOWN_PER_DECADE
    return Histogram(EDGES[::step], counts.reshape(-1, step).sum(axis=1))


def _top(counts: NDArray[np.int64], absent: int) -> tuple[tuple[int | None, int], ...]:
    values = np.flatnonzero(counts)
    pairs: list[tuple[int | None, int]] = list(zip(values.tolist(), counts[values].tolist(), strict=True))
    if absent:
        pairs.append((None, absent))
    pairs.sort(key=lambda pair: (-pair[1], -1 if pair[0] is None else pair[0]))
    return tuple(pairs[:SHOWN])
