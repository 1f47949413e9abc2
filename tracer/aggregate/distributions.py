"""How durations, sizes and names are distributed: counts in buckets, added a batch at a time, of bounded size."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.buckets import BUCKETS, EDGES, bucket_counts
from tracer.aggregate.counted import Counted
from tracer.aggregate.figures import Distributions, Histogram, Quantiles
from tracer.aggregate.keyindex import ABSENT, Indexes, KeyIndex
from tracer.aggregate.reservoir import Reservoir, ordered
from tracer.dissect import signature
from tracer.handshake.events import F64, Events, has
from tracer.handshake.option_bytes import WIDTH, layout_keys, masked
from tracer.handshake.rows import Rows
from tracer.vocabulary.vocabulary import Has

DURATIONS_KEPT = 8192  # of each distribution: 82 lie beyond the 99th percentile
WINDOW_EDGES: F64 = np.concatenate(([0.0], 2.0 ** np.arange(17)))  # bytes: 0, 1, 2, 4 ... 65536

NAMES_HELD = 4096
LAYOUTS_HELD = 4096
NEW_LAYOUTS = 64  # of a batch: no more of them are walked
SHOWN = 50

_FILLERS = frozenset({"nop", "eol"})
_LAYOUT_WORDS = WIDTH // 8 + 1  # the option bytes, and how many of them are used


class Recent:
    """How often each text was seen. When full it forgets the quarter that has not been seen for longest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str, list[int]] = {}  # how often, when last
        self._clock = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, texts: Iterable[tuple[str, int]]) -> None:
        """Add to each text its number."""
        counts = self._counts
        self._clock += 1
        for text, times in texts:
            entry = counts.get(text)
            if entry is None:
                if len(counts) >= self._limit:
                    self._forget()
                counts[text] = [times, self._clock]
            else:
                entry[0] += times
                entry[1] = self._clock

    def _forget(self) -> None:
        oldest = sorted(self._counts, key=lambda text: self._counts[text][1])[: max(1, self._limit // 4)]
        for text in oldest:
            del self._counts[text]

    def top(self, shown: int = SHOWN) -> tuple[tuple[str, int], ...]:
        """The most frequent, the most frequent first."""
        best = heapq.nsmallest(shown, self._counts.items(), key=lambda item: (-item[1][0], item[0]))
        return tuple((text, count) for text, (count, _) in best)


class _Layouts:
    """Option layouts by their bytes, so that each is walked once; counts the options that SYNs carry by name.

    Walking costs 10 to 50 us, so a flood of layouts that never come again is counted in part.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._index = KeyIndex(_LAYOUT_WORDS, limit, self._forget)
        self._options: dict[int, set[str]] = {}  # by slot
        self._counts = np.zeros(limit, np.int64)
        self._older: Counter[str] = Counter()  # by name, of forgotten layouts

    def add(self, segment: Events) -> None:
        """Count the options of each segment; of new layouts the first NEW_LAYOUTS."""
        bytes_ = masked(segment)
        keys = np.column_stack((bytes_, segment["options_len"].astype(np.uint64)))
        slots = self._index.find(keys)
        new = np.flatnonzero(slots == ABSENT)
        # count known ones before new ones take their slots
        self._count(slots[slots != ABSENT])
        if len(new):
            slots = self._index.place(keys[new], NEW_LAYOUTS)
            _, first = np.unique(slots, return_index=True)
            keys_used = layout_keys(bytes_[new[first]], segment["options_len"][new[first]])
            for slot, key in zip(slots[first].tolist(), keys_used, strict=True):
                if slot != ABSENT:
                    self._options[slot] = set(signature.option_layout(key).names) - _FILLERS
            self._count(slots[slots != ABSENT])

    def _count(self, slots: Indexes) -> None:
        self._counts += np.bincount(slots, minlength=self._limit)

    def _forget(self, slots: Indexes) -> None:
        self._older.update(self._by_name(slots))
        self._counts[slots] = 0

    def _by_name(self, slots: Indexes) -> Counter[str]:
        sums: Counter[str] = Counter()
        for slot, count in zip(slots.tolist(), self._counts[slots].tolist(), strict=True):
            for name in self._options[slot]:
                sums[name] += count
        return sums

    def top(self) -> tuple[tuple[str, int], ...]:
        """Options by how many SYNs carry them (padding left out)."""
        sums = self._older + self._by_name(self._index.live())
        return tuple(sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:SHOWN])


class _Durations:
    """How durations are distributed: counts in buckets, and a sample for quantiles."""

    def __init__(self) -> None:
        self._counts = np.zeros(BUCKETS, np.int64)
        self._sample = Reservoir(1, DURATIONS_KEPT)

    def add(self, durations_us: F64) -> None:
        """Count some, all known."""
        self._counts += bucket_counts(durations_us)
        self._sample.add_to(0, durations_us)

    @property
    def histogram(self) -> Histogram:
        """As it stands now."""
        return Histogram(EDGES, self._counts.copy())

    @property
    def quantiles(self) -> Quantiles:
        """As they are now."""
        samples = int(self._sample.counts[0])
        found = ordered(self._sample.values, self._sample.counts)
        median, p90, p99 = (float(found.quantile(share)[0]) if samples else None for share in (0.5, 0.9, 0.99))
        return Quantiles(samples, median, p90, p99)


class DistributionCounts:
    """Everything tracer.store.snapshot.Distributions shows."""

    def __init__(self) -> None:
        self._rtt = _Durations()
        self._rtt_tfo = _Durations()
        self._first_response = _Durations()
        self._mss = np.zeros(1 << 16, np.int64)
        self._no_mss = 0
        self._wscale = np.zeros(1 << 8, np.int64)
        self._no_wscale = 0
        self._window = np.zeros(len(WINDOW_EDGES) - 1, np.int64)
        self._layouts = _Layouts(LAYOUTS_HELD)
        self.names = Recent(NAMES_HELD)

    def add(self, rows: Rows, known: Counted) -> None:
        """Count some rows."""
        durations = rows.durations
        self._rtt.add(durations.rtt_us[known.rtt_known])
        self._rtt_tfo.add(durations.rtt_us[known.rtt_known & rows.verdicts.attempted])
        self._first_response.add(durations.first_response_us[known.response_known])
        syn = rows.events["syn"]
        carried = syn["has"]
        with_mss = has(carried, Has.MSS)
        np.add.at(self._mss, syn["mss"][with_mss], np.int64(1))
        self._no_mss += len(rows) - int(np.count_nonzero(with_mss))
        with_wscale = has(carried, Has.WSCALE)
        self._wscale += np.bincount(syn["wscale"][with_wscale], minlength=1 << 8)
        self._no_wscale += len(rows) - int(np.count_nonzero(with_wscale))
        # the exponent of a float is the place among powers of two: 0 -> 0, 1 -> 1, 2 and 3 -> 2 ...
        self._window += np.bincount(np.frexp(syn["window"].astype(np.float32))[1], minlength=len(self._window))
        self._layouts.add(syn)
        self.names.add((name, int(known.named[key])) for key, name in known.names.items())

    def snapshot(self) -> Distributions:
        """As it stands now."""
        return Distributions(
            rtt=self._rtt.histogram,
            rtt_tfo=self._rtt_tfo.histogram,
            first_response=self._first_response.histogram,
            rtt_quantiles=self._rtt.quantiles,
            rtt_tfo_quantiles=self._rtt_tfo.quantiles,
            first_response_quantiles=self._first_response.quantiles,
            mss=_top(self._mss, self._no_mss),
            wscale=_top(self._wscale, self._no_wscale),
            window=Histogram(WINDOW_EDGES, self._window.copy()),
            options=self._layouts.top(),
            names=self.names.top(),
        )


def _top(counts: NDArray[np.int64], absent: int) -> tuple[tuple[int | None, int], ...]:
    values = np.flatnonzero(counts)
    pairs: list[tuple[int | None, int]] = list(zip(values.tolist(), counts[values].tolist(), strict=True))
    if absent:
        pairs.append((None, absent))
    pairs.sort(key=lambda pair: (-pair[1], -1 if pair[0] is None else pair[0]))
    return tuple(pairs[:SHOWN])
