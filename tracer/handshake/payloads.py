"""Classify the payloads of a batch, row by row."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tracer.dissect.payload import Payload, classify
from tracer.handshake.batch import Batch


def classified(batch: Batch) -> dict[int, Payload]:
    """The kind of each captured payload, by row."""
    if batch.kinds is not None:
        return dict(batch.kinds)
    payloads = batch.payloads
    if not payloads:
        return {}
    events = batch.events
    rows = np.flatnonzero(events["syn"]["payload_len"])
    keys = zip(events["id"][rows].tolist(), events["syn_ns"][rows].tolist(), strict=True)
    return {
        row: classify(payload.data, payload.wire_len, port)
        for row, port, payload in zip(
            rows.tolist(), events["server_port"][rows].tolist(), map(payloads.get, keys), strict=True
        )
        if payload is not None
    }


def payload_rows(batch: Batch) -> list[Payload | Literal[False] | None]:
    """What each SYN's data is; None without data, False where it was not captured."""
    found: list[Payload | Literal[False] | None] = [None] * len(batch)
    for row in np.flatnonzero(batch.events["syn"]["payload_len"]).tolist():
        found[row] = False
    for row, payload in classified(batch).items():
        found[row] = payload
    return found
