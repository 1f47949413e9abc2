"""Fast Open options whose length cannot be: the segment itself is the witness."""

from __future__ import annotations

import numpy as np

from tracer.dissect.options import EXPERIMENTS, TFO, TFO_MAGIC, walk
from tracer.handshake.events import Events, Indexes, has, is_replayed
from tracer.vocabulary.vocabulary import Has


def malformed_options(events: Events) -> Indexes:
    """Rows whose SYN has a Fast Open option of a wrong length, and none that is right (RFC 7413 section 4.1.1).

    The programs count the option as malformed if its length is within the header; where the walk through the options
    ended at it, its bytes tell.
    """
    carried = np.ascontiguousarray(events["syn"]["has"])
    if not (carried & (Has.TFO_MALFORMED | Has.BAD_OPTIONS)).any():
        return np.zeros(0, np.intp)
    found = has(carried, Has.TFO_MALFORMED)
    ended = np.flatnonzero(has(carried, Has.BAD_OPTIONS) & ~found)
    if len(ended) and not is_replayed(events):
        syn = events["syn"]
        for row in ended.tolist():
            found[row] = _ended_at_fast_open(syn["options"][row].tobytes()[: int(syn["options_len"][row])])
    rows: Indexes = np.flatnonzero(found & ~has(carried, Has.TFO))
    return rows


def _ended_at_fast_open(options: bytes) -> bool:
    _, offset = walk(options)
    rest = options[offset:]
    if not rest:
        return False
    return rest[0] == TFO or (rest[0] in EXPERIMENTS and int.from_bytes(rest[2:4], "big") == TFO_MAGIC)
