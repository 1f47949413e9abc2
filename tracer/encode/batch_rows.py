"""A batch as rows: what the store keeps and what a filter on the way to a sink looks at are made alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tracer.dissect.payload import Payload
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.handshake.columns import Arrays
from tracer.handshake.part import Part
from tracer.records.record import Handshake


class ComposerNames:
    """tracer.store.chunks.RowNames by a composer's knowledge."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    @property
    def columns_tell_all(self) -> bool:
        """As the composer has it."""
        return self._composer.columns_tell_all

    def interface(self, index: int) -> tuple[str, str]:
        """Name and hook as records have them."""
        known = self._composer.interfaces.get(index)
        hook = self._composer.hook
        if known is None:
            return f"if{index}", hook or "unknown"
        return known.name, hook or known.hook

    @property
    def cgroups(self) -> Mapping[int, str | None]:
        """As the composer knows them now."""
        return self._composer.cgroups

    def records(self, part: Part) -> Iterable[Handshake]:
        """Composed without payloads, and with the present offset of the clocks."""
        return self._composer.compose(part.batch)


def part_of(batch: Batch, composer: Composer, payloads: Mapping[int, Payload]) -> Part:
    """The rows of a batch of fewer than 65,536; `payloads` says what was in the SYN of some, by row."""
    places = np.zeros(len(batch), np.uint16)
    places[list(payloads)] = np.arange(1, len(payloads) + 1)
    nobody = np.zeros(len(batch), np.uint32)
    owners = batch.owners
    columns = Arrays(
        batch.events,
        batch.verdicts,
        batch.durations,
        batch.causes,
        batch.vantage,
        np.full(len(batch), composer.offset_ns, np.int64),
        places,
        owners.client if owners is not None else nobody,
        owners.server if owners is not None else nobody,
    )
    table = owners.table if owners is not None else None
    return Part(columns, [None, *payloads.values()], ComposerNames(composer), table)
