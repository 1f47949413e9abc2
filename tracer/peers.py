"""One row per server, and per client where this host is the server: sums and small histograms in arrays.

At most `limit` peers are held; of too many the quarter that was not seen for longest is forgotten and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import overload

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate import ACCEPTED
from tracer.compose import ip_text
from tracer.distributions import BUCKETS, Facts, quantiles
from tracer.rows import Part
from tracer.snapshot import Comparison, Peer
from tracer.tfo import F64, U8, Bool
from tracer.vocabulary import Group, Outcome, Vantage, word

PEERS_HELD = 4096
PEERS_SHOWN = 1000
COMPARISONS_SHOWN = 20

_ADDRESS = 16

FALLBACKS = (
    Outcome.DATA_NOT_ACKED,
    Outcome.DATA_NOT_ACKED_NEW_COOKIE,
    Outcome.DATA_NOT_ACKED_SAME_COOKIE,
    Outcome.SYN_TIMEOUT_FALLBACK,
)
COOKIE_CHANGES = (
    Outcome.DATA_ACKED_NEW_COOKIE,
    Outcome.DATA_NOT_ACKED_NEW_COOKIE,
    Outcome.COOKIE_ONLY_NEW_COOKIE,
)


def _table(outcomes: tuple[Outcome, ...]) -> Bool:
    found = np.zeros(len(Outcome), np.bool_)
    found[list(outcomes)] = True
    return found


_IS_ACCEPTED, _IS_FALLBACK, _IS_CHANGE = _table(ACCEPTED), _table(FALLBACKS), _table(COOKIE_CHANGES)
_HANDSHAKES, _ATTEMPTS, _ACCEPTED, _WITH_DATA, _FALLBACKS, _FAILED, _CHANGES = range(7)
_SUMS = 7
_NO_OUTCOME = int(Outcome.UNKNOWN)


def endpoint_text(ip: str, port: int) -> str:
    """Address and port as people write them."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


class PeerTable:
    """Peers by key: the address, and for servers the port behind it."""

    def __init__(self, role: str, limit: int = PEERS_HELD) -> None:
        self.role = role
        self.limit = limit
        self.forgotten = 0
        self._clock = 0
        self._slots: dict[bytes, int] = {}
        self._free = list(range(limit - 1, -1, -1))
        self._keys: list[bytes] = [b""] * limit
        self._names: list[str | None] = [None] * limit
        self._used = np.zeros(limit, np.int64)  # by _clock
        self._seen_ns = np.zeros(limit, np.int64)
        self._sums = np.zeros((_SUMS, limit), np.int64)
        self._saved_us = np.zeros(limit)
        self._outcome = np.full(limit, _NO_OUTCOME, np.uint8)
        self._rtt = np.zeros((limit, BUCKETS), np.int32)
        # responses are compared server by server only
        compared = limit if role == "server" else 0
        self._tfo = np.zeros((compared, BUCKETS), np.int32)
        self._normal = np.zeros((compared, BUCKETS), np.int32)
        self._samples = np.zeros((2, compared), np.int64)  # in _tfo and _normal

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, part: Part, known: Facts, rows: Bool | None = None) -> None:
        """Count some rows; of them those that `rows` says. At most half as many rows at once as peers are held."""
        chosen = np.arange(len(part)) if rows is None else np.flatnonzero(rows)
        if not len(chosen):
            return
        events, verdicts = part.events, part.verdicts
        slots = self._find(_keys(part, self.role, chosen))
        outcome = verdicts.outcome[chosen]
        attempted = verdicts.attempted[chosen]
        with_data = events["syn"]["payload_len"][chosen] > 0
        accepted = _IS_ACCEPTED[outcome]
        failed = verdicts.group[chosen] == Group.FAILED
        sums = self._sums
        sums[_HANDSHAKES] += np.bincount(slots, minlength=self.limit)
        for row, which in (
            (_ATTEMPTS, attempted),
            (_ACCEPTED, accepted),
            (_WITH_DATA, attempted & with_data),
            (_FALLBACKS, _IS_FALLBACK[outcome]),
            (_FAILED, failed),
            (_CHANGES, _IS_CHANGE[outcome]),
        ):
            if which.any():
                np.add.at(sums[row], slots[which], 1)
        np.add.at(self._saved_us, slots, _net_saved(part)[chosen])
        self._outcome[slots] = outcome  # of several the last
        np.maximum.at(self._seen_ns, slots, events["settled_ns"][chosen].astype(np.int64))
        _count(self._rtt, slots, known.rtt_bucket[chosen], known.rtt_known[chosen])
        if self.role != "server":
            return
        response, answered = known.response_bucket[chosen], known.response_known[chosen]
        for kind, (histogram, which) in enumerate(
            ((self._tfo, answered & accepted), (self._normal, answered & ~with_data))
        ):
            _count(histogram, slots, response, which)
            np.add.at(self._samples[kind], slots[which], 1)
        if known.names:
            place = dict(zip(chosen.tolist(), slots.tolist(), strict=True))
            for row, name in known.names:
                if row in place:
                    self._names[place[row]] = name

    def _find(self, keys: list[bytes]) -> NDArray[np.intp]:
        self._clock += 1
        get = self._slots.get
        found = np.array([get(key, -1) for key in keys], np.intp)
        self._used[found[found >= 0]] = self._clock
        for row in np.flatnonzero(found < 0).tolist():
            found[row] = self._slot(keys[row])
        return found

    def _slot(self, key: bytes) -> int:
        slot = self._slots.get(key)
        if slot is None:
            if not self._free:
                self._forget()
            slot = self._slots[key] = self._free.pop()
            self._keys[slot] = key
            self._used[slot] = self._clock
        return slot

    def _forget(self) -> None:
        oldest = np.argpartition(self._used, self.limit // 4)[: self.limit // 4]
        for slot in oldest.tolist():
            del self._slots[self._keys[slot]]
            self._names[slot] = None
        self._free.extend(oldest.tolist())
        self.forgotten += len(oldest)
        self._sums[:, oldest] = 0
        self._seen_ns[oldest] = 0
        self._saved_us[oldest] = 0.0
        self._outcome[oldest] = _NO_OUTCOME
        self._rtt[oldest] = 0
        if self.role == "server":
            self._samples[:, oldest] = 0
            self._tfo[oldest] = 0
            self._normal[oldest] = 0

    def _live(self) -> NDArray[np.intp]:
        return np.fromiter(self._slots.values(), np.intp, len(self._slots))

    def peers(self, shown: int = PEERS_SHOWN) -> PeerRows:
        """Those with most handshakes, the busiest first; of equals the one seen last."""
        live = self._live()
        order = np.lexsort((-self._seen_ns[live], -self._sums[_HANDSHAKES][live]))[:shown]
        slots = live[order]
        places = slots.tolist()
        return PeerRows(
            self.role,
            [self._keys[slot] for slot in places],
            [self._names[slot] for slot in places],
            self._sums[:, slots],
            self._rtt[slots],
            self._saved_us[slots],
            self._outcome[slots],
            self._seen_ns[slots],
        )

    def comparisons(self, shown: int = COMPARISONS_SHOWN) -> tuple[Comparison, ...]:
        """Servers whose first response is known with and without TFO, the busiest first; behind them those with one."""
        live = self._live()
        with_tfo, without = self._samples[:, live]
        both = (with_tfo > 0) & (without > 0)
        order = np.lexsort((-(with_tfo + without), ~both))
        order = order[(with_tfo + without)[order] > 0][:shown]
        slots = live[order]
        numbers = zip(
            slots.tolist(), with_tfo[order].tolist(), without[order].tolist(),
            _nullable(quantiles(self._tfo[slots], 0.5)), _nullable(quantiles(self._normal[slots], 0.5)),
            _nullable(quantiles(self._tfo[slots], 0.9)), _nullable(quantiles(self._normal[slots], 0.9)), strict=True,
        )  # fmt: skip
        found = []
        for slot, *rest in numbers:
            ip, port = _where(self._keys[slot])
            found.append(Comparison(endpoint_text(ip, port or 0), self._names[slot], *rest))
        return tuple(found)


_OUTCOME_WORDS = [word(outcome) for outcome in Outcome]


class PeerRows(Sequence[Peer]):
    """Peers of one moment. The arrays are copies; Peer objects are made when somebody looks."""

    def __init__(
        self, role: str, keys: list[bytes], names: list[str | None], sums: NDArray[np.int64], rtt: NDArray[np.int32],
        saved_us: F64, outcome: U8, seen_ns: NDArray[np.int64],
    ) -> None:  # fmt: skip
        self._role = role
        self._keys = keys
        self._names = names
        self._sums = sums
        self._rtt = rtt
        self._saved_us = saved_us
        self._outcome = outcome
        self._seen_ns = seen_ns

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Peer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Peer, ...]: ...
    def __getitem__(self, index: int | slice) -> Peer | tuple[Peer, ...]:
        return self._peers[index]

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers)

    @cached_property
    def _peers(self) -> tuple[Peer, ...]:
        found = []
        rows = zip(
            self._keys, self._names, self._sums.T.tolist(), _nullable(quantiles(self._rtt, 0.5)),
            np.round(self._saved_us, 3).tolist(), self._outcome.tolist(), self._seen_ns.tolist(), strict=True,
        )  # fmt: skip
        for key, name, counts, median, saved, outcome, seen in rows:
            ip, port = _where(key)
            handshakes, attempts, accepted, with_data, fallbacks, failed, changes = counts
            last = None if outcome == _NO_OUTCOME else _OUTCOME_WORDS[outcome]
            found.append(
                Peer(
                    self._role, ip, port, name, handshakes, attempts, accepted, with_data, fallbacks, failed, changes,
                    median, saved, last, seen,
                )
            )  # fmt: skip
        return tuple(found)


class AllPeers(Sequence[Peer]):
    """Peers of several tables, one after the other."""

    def __init__(self, *tables: Sequence[Peer]) -> None:
        self._tables = tables

    def __len__(self) -> int:
        return sum(map(len, self._tables))

    @overload
    def __getitem__(self, index: int) -> Peer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Peer, ...]: ...
    def __getitem__(self, index: int | slice) -> Peer | tuple[Peer, ...]:
        return self._peers[index]

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers)

    @cached_property
    def _peers(self) -> tuple[Peer, ...]:
        return tuple(chain.from_iterable(self._tables))


def server_side(part: Part) -> Bool:
    """Rows whose server is this host, and whose client is another."""
    found: Bool = part.vantage == Vantage.SERVER
    return found


def _keys(part: Part, role: str, rows: NDArray[np.intp]) -> list[bytes]:
    events = part.events
    raw = np.ascontiguousarray(events[role][rows])
    if role == "server":
        ports = events["server_port"][rows].astype(">u2").view(np.uint8).reshape(-1, 2)
        raw = np.concatenate((raw, ports), axis=1)
    width = raw.shape[1]
    data = raw.tobytes()
    return [data[at : at + width] for at in range(0, len(data), width)]


def _where(key: bytes) -> tuple[str, int | None]:
    port = key[_ADDRESS:]
    return ip_text(key[:_ADDRESS]), int.from_bytes(port, "big") if port else None


def _net_saved(part: Part) -> F64:
    """Round trips saved less what lost SYNs of attempts cost, as in the totals."""
    saved = np.nan_to_num(part.durations.rtt_saved_us)
    return saved - np.where(part.verdicts.attempted, np.nan_to_num(part.durations.delay_us), 0.0)


def _count(histogram: NDArray[np.int32], slots: NDArray[np.intp], bucket: NDArray[np.intp], which: Bool) -> None:
    if which.any():
        np.add.at(histogram.reshape(-1), slots[which] * BUCKETS + bucket[which], 1)


def _nullable(values: F64) -> list[float | None]:
    return [None if value != value else value for value in np.round(values, 3).tolist()]
