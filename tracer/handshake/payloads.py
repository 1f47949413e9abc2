"""What the SYNs of a batch carry."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tracer.dissect.payload import Payload, classify_all
from tracer.handshake.batch import Batch, RowKinds


def classified(batch: Batch) -> RowKinds:
    """The kind of each payload that was captured."""
    if batch.kinds is not None:
        return batch.kinds
    events, payloads = batch.events, batch.payloads
    rows = np.flatnonzero(events["syn"]["payload_len"] if payloads else [])
    at = payloads.find(events["id"][rows], events["syn_ns"][rows])
    rows, at = rows[at >= 0], at[at >= 0]
    known = payloads.places
    numbers, table = classify_all(
        known["captured"][at], known["wire_len"][at], events["server_port"][rows], lambda some: payloads.data(at[some])
    )
    places = np.zeros(len(batch), np.uint32)
    places[rows] = numbers + 1
    return RowKinds(places, [None, *table])


def payload_rows(batch: Batch) -> list[Payload | Literal[False] | None]:
    """What each SYN's data is; None without data, False where it was not captured."""
    kinds = classified(batch)
    missing = (batch.events["syn"]["payload_len"] != 0) & (kinds.places == 0)
    said: list[Payload | Literal[False] | None] = [*kinds.table, False]
    return [said[place] for place in np.where(missing, len(kinds.table), kinds.places).tolist()]
