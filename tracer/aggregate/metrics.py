"""The metrics of handshakes for monitoring, added to a batch at a time: few numbers under bounded labels.

Addresses get labels only on request, and a limited number: traffic must not decide how many time series a monitoring
system keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.tally import accepted_and_lived, died
from tracer.handshake.batch import Batch
from tracer.handshake.events import F64
from tracer.ipc.traced import TracedInterface, remembered
from tracer.vocabulary.addresses import endpoint_text, ip_text
from tracer.vocabulary.vocabulary import (
    UNSENT_HOOK,
    After,
    Cause,
    Confidence,
    CookieCheck,
    Group,
    HandshakeCause,
    HandshakeResult,
    Outcome,
    Request,
    Vantage,
)

# Upper bounds of the buckets in microseconds, from loopback to satellites.
BOUNDS_US: F64 = np.array(
    [50, 100, 250, 500, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 2.5e6, 5e6, 1e7], np.float64
)
INTERFACES_MAX = 64
OTHER = "other"

# the label of first_response: no attempt, any other attempt, SYN data acked whole on a connection that lived
FAST_OPEN = ("none", "attempted", "accepted")

Ints = NDArray[np.int64]
Key = TypeVar("Key")


class Slots(Generic[Key]):
    """Numbers for keys in the order they are first seen; number 0 is for all beyond the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers: dict[Key, int] = {}

    def number(self, key: Key) -> int:
        """The number of this key, which never changes."""
        found = self._numbers.get(key)
        if found is None:
            if len(self._numbers) >= self._limit:
                return 0
            found = self._numbers[key] = len(self._numbers) + 1
        return found

    def __iter__(self) -> Iterator[tuple[Key, int]]:
        return iter(self._numbers.items())


class Counts:
    """A table of counts with one row for each slot and then a place for each combination of vocabulary words."""

    def __init__(self, rows: int, *sizes: int) -> None:
        self._shape = (rows, *sizes)
        self._values: Ints = np.zeros(self._shape, np.int64)

    def add(self, *columns: NDArray[np.integer]) -> None:
        """Count rows, whose place in each dimension the columns name."""
        place = columns[0].astype(np.intp)
        for column, size in zip(columns[1:], self._shape[1:], strict=True):
            place *= size
            place += column
        self._values += np.bincount(place, minlength=self._values.size).reshape(self._shape)

    def items(self) -> Iterator[tuple[tuple[int, ...], int]]:
        """Places and counts, row by row: all words of a row once one of them was counted.

        A series that begins at 0 shows its first increment as a rate; one that begins at 1 does not.
        """
        for row in np.argwhere(self._values.any(axis=-1)):
            key = tuple(row.tolist())
            yield from (((*key, number), count) for number, count in enumerate(self._values[key].tolist()))


class Durations:
    """Histograms of durations, one for each combination of vocabulary words."""

    def __init__(self, *sizes: int) -> None:
        self._sizes = sizes
        self._places = int(np.prod(sizes))
        self._counts: Ints = np.zeros((self._places, len(BOUNDS_US) + 1), np.int64)
        self._sums_us: F64 = np.zeros(self._places, np.float64)

    def add(self, durations_us: F64, *columns: NDArray[np.integer]) -> None:
        """Count durations (NaN: not known) at the places that the columns name."""
        known = ~np.isnan(durations_us)
        values = durations_us[known]
        if not len(values):
            return
        place = np.zeros(len(values), np.intp)
        for column, size in zip(columns, self._sizes, strict=True):
            place *= size
            place += column[known]
        width = self._counts.shape[1]
        bucket = np.searchsorted(BOUNDS_US, values, side="left")  # a bound belongs to the bucket below it
        self._counts += np.bincount(place * width + bucket, minlength=self._counts.size).reshape(-1, width)
        self._sums_us += np.bincount(place, values, minlength=self._places)

    def items(self) -> Iterator[tuple[tuple[int, ...], list[int], float]]:
        """For each place with a duration: cumulative counts of BOUNDS_US and beyond, and the sum in microseconds."""
        for place in np.flatnonzero(self._counts.any(axis=1)):
            key = tuple(int(part) for part in np.unravel_index(place, self._sizes))
            yield key, self._counts[place].cumsum().tolist(), float(self._sums_us[place])


def server_text(key: bytes) -> str:
    """A key of `servers` as people write it: 10.0.0.1:443, [fd00::1]:443."""
    return endpoint_text(ip_text(key[:16]), int.from_bytes(key[16:], "little"))


class Metrics:
    """All metrics. The owner has a lock: they must not be read while a batch is added."""

    def __init__(self, servers: int = 0) -> None:
        self._names: dict[int, str] = {}
        self.interfaces: Slots[str] = Slots(INTERFACES_MAX)
        self.results = Counts(INTERFACES_MAX + 1, len(Vantage), len(HandshakeResult))
        # by outcome, and behind these by outcome once more for connections that died afterwards
        self.outcomes = Counts(INTERFACES_MAX + 1, len(Vantage), 2 * len(Outcome))
        self.lived = Counts(INTERFACES_MAX + 1, len(Vantage))
        self.after = Counts(INTERFACES_MAX + 1, len(Vantage), len(After))
        self.requests = Counts(len(Request))
        self.causes = Counts(len(Cause), len(Confidence))
        self.handshake_causes = Counts(len(HandshakeCause), len(Confidence))
        self.cookie_checks = Counts(len(CookieCheck))
        self.rtt = Durations(len(Vantage))
        self.first_response = Durations(len(Vantage), len(FAST_OPEN))
        self.servers: Slots[bytes] | None = Slots(servers) if servers else None
        self.server_groups = Counts(servers + 1, len(Group))
        self.server_results = Counts(servers + 1, len(HandshakeResult))
        self.syn_data_bytes = 0
        self.acked_bytes = 0
        self.saved_us = 0.0
        self.delay_us = 0.0

    def set_interfaces(self, interfaces: Iterable[TracedInterface]) -> None:
        """The names of interfaces by index; those that go are kept for their last handshakes."""
        self._names = remembered(self._names, {one.index: one.name for one in interfaces})

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        if not len(batch):
            return
        events, verdicts, durations, vantage = batch.events, batch.verdicts, batch.durations, batch.vantage
        interface = self._interface_slots(events["ifindex"])
        self.results.add(interface, vantage, events["result"])
        self.outcomes.add(interface, vantage, verdicts.outcome + died(verdicts) * np.uint8(len(Outcome)))
        self.after.add(interface, vantage, verdicts.after)
        self.requests.add(verdicts.request)
        self.causes.add(batch.causes.cause, batch.causes.confidence)
        self.handshake_causes.add(batch.causes.handshake_cause, batch.causes.handshake_confidence)
        self.cookie_checks.add(batch.causes.cookie_check)
        self.rtt.add(durations.rtt_us, vantage)
        lived = accepted_and_lived(verdicts)
        self.lived.add(interface[lived], vantage[lived])
        fast_open = np.where(lived, 2, verdicts.attempted.astype(np.intp))
        self.first_response.add(durations.first_response_us, vantage, fast_open)
        self.syn_data_bytes += int(events["syn"]["payload_len"].sum(dtype=np.int64))
        self.acked_bytes += int(verdicts.acked_payload_len.sum(dtype=np.int64))
        self.saved_us += float(np.nansum(durations.rtt_saved_us))
        self.delay_us += float(np.nansum(durations.delay_us[verdicts.attempted]))
        if self.servers is not None:
            self._add_servers(batch, self.servers)

    def _interface_slots(self, indexes: NDArray[np.uint32]) -> NDArray[np.intp]:
        found, place = np.unique(indexes, return_inverse=True)
        slots = [
            self.interfaces.number(self._names.get(index, f"if{index}" if index else UNSENT_HOOK))
            for index in found.tolist()
        ]
        return np.array(slots, np.intp)[place]

    def _add_servers(self, batch: Batch, servers: Slots[bytes]) -> None:
        ends = np.zeros(len(batch), [("address", "V16"), ("port", "<u2")])
        ends["address"] = np.ascontiguousarray(batch.events["server"]).view("V16").reshape(len(batch))
        ends["port"] = batch.events["server_port"]
        found, place = np.unique(ends.view("V18"), return_inverse=True)
        slots = [servers.number(key) for key in found.tolist()]
        slot = np.array(slots, np.intp)[place]
        self.server_groups.add(slot, batch.verdicts.group)
        self.server_results.add(slot, batch.events["result"])
