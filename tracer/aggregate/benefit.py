"""How much sooner each server answers with Fast Open, for the `end` record and the summary."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from tracer.aggregate.keyindex import END_WORDS, KeyIndex, end_keys
from tracer.aggregate.responses import Responses
from tracer.aggregate.tally import accepted_and_lived
from tracer.aggregate.worth import difference, difference_words
from tracer.handshake.batch import Batch
from tracer.handshake.events import nullable
from tracer.records.run import Benefit
from tracer.vocabulary.addresses import endpoint_text, ip_text
from tracer.vocabulary.numbers import duration
from tracer.vocabulary.vocabulary import DIFFERENCE_WORDS

SERVERS_HELD = 4096
RECORDED = 50
TOLD = 3  # in the summary

_NUMBERS = [name for name in Benefit.__struct_fields__ if name not in ("ip", "port", "difference")]


class BenefitTable:
    """Servers by address and port."""

    def __init__(self, limit: int = SERVERS_HELD) -> None:
        self._limit = limit
        self._responses = Responses(limit)
        self._index = KeyIndex(END_WORDS, limit, self._responses.clear)

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        step = self._limit * 3 // 4  # so that making room never removes the keys that need it
        for begin in range(0, len(batch), step):
            self._add(batch, slice(begin, begin + step))

    def _add(self, batch: Batch, rows: slice) -> None:
        events = batch.events[rows]
        response_us = batch.durations.first_response_us[rows]
        accepted = accepted_and_lived(batch.verdicts)[rows]
        plain = (events["syn"]["payload_len"] == 0) & batch.verdicts.lived[rows]
        chosen = np.flatnonzero((accepted | plain) & ~np.isnan(response_us))
        if not len(chosen):
            return
        slots = self._index.place(end_keys(events, "server", chosen))
        rtt_us = batch.durations.rtt_us[rows][chosen]
        self._responses.add_handshakes(slots, accepted[chosen], plain[chosen], response_us[chosen], rtt_us)

    def benefits(self, shown: int = RECORDED) -> tuple[Benefit, ...]:
        """Servers with enough of both kinds, those with most samples first."""
        slots = self._responses.ranked(self._index.live(), shown, only_enough=True)
        columns = self._responses.of(slots).compared()
        values = [nullable(getattr(columns, name)) for name in _NUMBERS]
        found = []
        for key, *numbers in zip(self._index.keys[slots], *values, strict=True):
            named = dict(zip(_NUMBERS, numbers, strict=True))
            benefit = msgspec.convert({"ip": ip_text(key[:2].tobytes()), "port": int(key[2]), **named}, Benefit)
            found.append(msgspec.structs.replace(benefit, difference=DIFFERENCE_WORDS[difference(benefit)]))
        return tuple(found)


def tell(benefits: tuple[Benefit, ...], narrate: Callable[[str], None]) -> None:
    """Narrate the first few."""
    for one in benefits[:TOLD]:
        narrate(
            f"first response of {endpoint_text(one.ip, one.port)} with Fast Open: {difference_words(one)}, "
            f"median {duration(one.tfo_median_us)} with it ({one.tfo_samples} samples), "
            f"{duration(one.normal_median_us)} without ({one.normal_samples})"
        )
