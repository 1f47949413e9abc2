"""What Fast Open is worth, server by server, for the `end` record and the summary: how much sooner is the answer?"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from tracer.aggregate.aggregate import ACCEPTED
from tracer.aggregate.keyindex import U64, KeyIndex, Slots
from tracer.aggregate.responses import Responses
from tracer.handshake.batch import Batch
from tracer.records.record import Benefit
from tracer.vocabulary.addresses import ip_text
from tracer.vocabulary.vocabulary import Outcome

SERVERS_HELD = 4096
RECORDED = 50
TOLD = 3  # in the summary

_IS_ACCEPTED = np.zeros(len(Outcome), np.bool_)
_IS_ACCEPTED[list(ACCEPTED)] = True
_NUMBERS = [name for name in Benefit.__struct_fields__ if name not in ("ip", "port")]
_KEY_WORDS = 3  # the address as it is in memory, and the port


class BenefitTable:
    """Servers by address and port; of too many the quarter that was not seen for longest is forgotten."""

    def __init__(self, limit: int = SERVERS_HELD) -> None:
        self._limit = limit
        self._index = KeyIndex(_KEY_WORDS, limit)
        self._used = np.zeros(limit, np.int64)  # by _clock
        self._clock = 0
        self._responses = Responses(limit)

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        step = self._limit * 3 // 4  # so that making room never meets the keys it is made for
        for begin in range(0, len(batch), step):
            self._add(batch, slice(begin, begin + step))

    def _add(self, batch: Batch, rows: slice) -> None:
        events = batch.events[rows]
        response_us = batch.durations.first_response_us[rows]
        accepted = _IS_ACCEPTED[batch.verdicts.outcome[rows]]
        plain = events["syn"]["payload_len"] == 0
        chosen = np.flatnonzero((accepted | plain) & ~np.isnan(response_us))
        if not len(chosen):
            return
        keys: U64 = np.zeros((len(chosen), _KEY_WORDS), np.uint64)
        keys[:, :2] = events["server"][chosen].view(np.uint64)
        keys[:, 2] = events["server_port"][chosen]
        self._clock += 1
        slots = self._index.place(keys, self._forget)
        self._used[slots] = self._clock
        rtt_us = batch.durations.rtt_us[rows][chosen]
        self._responses.add_handshakes(slots, accepted[chosen], plain[chosen], response_us[chosen], rtt_us)

    def _forget(self, wanted: int, asked: Slots) -> None:
        self._used[asked] = self._clock
        live = self._index.live()
        count = max(self._limit // 4, wanted - (self._limit - len(live)))
        oldest = live[np.argpartition(self._used[live], count - 1)[:count]]
        self._index.remove(oldest)
        self._responses.clear(oldest)

    def benefits(self, shown: int = RECORDED) -> tuple[Benefit, ...]:
        """Servers with enough of both kinds, those with most samples first."""
        slots = self._responses.ranked(self._index.live(), shown, only_enough=True)
        columns = self._responses.of(slots).compared()
        values = [getattr(columns, name).round(3).tolist() for name in _NUMBERS]
        found = []
        for key, *numbers in zip(self._index.keys[slots], *values, strict=True):
            named = {name: None if value != value else value for name, value in zip(_NUMBERS, numbers, strict=True)}
            found.append(msgspec.convert({"ip": ip_text(key[:2].tobytes()), "port": int(key[2]), **named}, Benefit))
        return tuple(found)


def tell(benefits: tuple[Benefit, ...], narrate: Callable[[str], None]) -> None:
    """The first few for people."""
    for one in benefits[:TOLD]:
        where = f"[{one.ip}]:{one.port}" if ":" in one.ip else f"{one.ip}:{one.port}"
        later = "sooner" if one.sooner_us >= 0 else "LATER"
        trips = f" ({abs(one.sooner_rtts):.2f} round trips)" if one.sooner_rtts is not None else ""
        narrate(
            f"{where} answers {abs(one.sooner_us) / 1000:.2f} ms{trips} {later} with Fast Open: median "
            f"{one.tfo_median_us / 1000:.2f} ms of {one.tfo_samples} against {one.normal_median_us / 1000:.2f} ms "
            f"of {one.normal_samples}"
        )
