"""A batch as rows: a filter on the way to a sink looks at the same columns as one of the store."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tracer.dissect.payload import Payload
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.handshake.part import Part


def part_of(batch: Batch, composer: Composer, payloads: Mapping[int, Payload]) -> Part:
    """The rows of a batch of fewer than 65,536; `payloads` says what was in the SYN of some, by row."""
    places = np.zeros(len(batch), np.uint16)
    places[list(payloads)] = np.arange(1, len(payloads) + 1)
    nobody = np.zeros(len(batch), np.uint32)
    owners = batch.owners
    table = owners.table if owners is not None else None
    return Part(
        batch.events,
        batch.verdicts,
        batch.durations,
        batch.causes,
        batch.vantage,
        np.full(len(batch), composer.offset_ns, np.int64),
        places,
        owners.client if owners is not None else nobody,
        owners.server if owners is not None else nobody,
        [None, *payloads.values()],
        composer,
        table,
    )
