"""What the sums over peers and distributions need of some rows, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tracer.aggregate.tally import HAS_FAILED, IS_ACCEPTED, accepted_and_lived, one_of
from tracer.dissect.payload import Payload
from tracer.handshake.events import F64, Bool
from tracer.handshake.rows import Rows
from tracer.vocabulary.vocabulary import Group, Outcome

_IS_FALLBACK = one_of(
    Outcome.DATA_NOT_ACKED,
    Outcome.DATA_NOT_ACKED_NEW_COOKIE,
    Outcome.DATA_NOT_ACKED_SAME_COOKIE,
    Outcome.SYN_TIMEOUT_FALLBACK,
)
_IS_CHANGE = one_of(Outcome.DATA_ACKED_NEW_COOKIE, Outcome.DATA_NOT_ACKED_NEW_COOKIE, Outcome.COOKIE_ONLY_NEW_COOKIE)


class Count(IntEnum):
    """What is counted of a peer, in the order of tracer.store.snapshot.Peer."""

    HANDSHAKES = 0
    ATTEMPTS = 1
    ACCEPTED = 2
    LIVED = 3
    WITH_DATA = 4
    FALLBACKS = 5
    FAILED = 6
    COOKIE_CHANGES = 7
    HANDSHAKES_FAILED = 8


@dataclass(frozen=True, slots=True)
class Counted:
    """What the sums need of some rows."""

    rtt_known: Bool
    response_known: Bool
    name: NDArray[np.uint16]  # a key of `names`, 0 if the SYN names nobody
    names: dict[int, str]  # SNI or HTTP host
    named: NDArray[np.intp]  # how many rows have the name with this key
    counted: Bool  # [Count, n]: what each row counts in
    saved_us: F64  # the round trip that was saved, 0 if none
    delay_us: F64  # what lost SYNs of an attempt cost


def counted_of(rows: Rows) -> Counted:
    """Compute it for some rows."""
    # many rows share few payloads: read each name once
    counts = np.bincount(rows.payload)
    names = {place: name for place in np.flatnonzero(counts).tolist() if (name := _name(rows.payloads[place]))}
    named = np.zeros(len(counts), np.bool_)
    named[list(names)] = True
    return Counted(
        ~np.isnan(rows.durations.rtt_us),
        ~np.isnan(rows.durations.first_response_us),
        np.where(named[rows.payload], rows.payload, np.uint16(0)),
        names,
        counts,
        _counted(rows),
        _known(rows.durations.rtt_saved_us),
        _known(rows.durations.delay_us) * rows.verdicts.attempted,
    )


def _known(durations: F64) -> F64:
    return np.where(np.isnan(durations), 0.0, durations)


def _counted(rows: Rows) -> Bool:
    outcome, attempted = rows.verdicts.outcome, rows.verdicts.attempted
    found = np.empty((len(Count), len(rows)), np.bool_)
    found[Count.HANDSHAKES] = True
    found[Count.ATTEMPTS] = attempted
    found[Count.ACCEPTED] = IS_ACCEPTED[outcome]
    found[Count.LIVED] = accepted_and_lived(rows.verdicts)
    found[Count.WITH_DATA] = rows.events["syn"]["payload_len"] != 0
    found[Count.FALLBACKS] = _IS_FALLBACK[outcome]
    found[Count.FAILED] = rows.verdicts.group == Group.FAILED
    found[Count.COOKIE_CHANGES] = _IS_CHANGE[outcome]
    found[Count.HANDSHAKES_FAILED] = HAS_FAILED[rows.events["result"]]
    return found


def _name(payload: Payload | None) -> str | None:
    if payload is None:
        return None
    if payload.tls is not None:
        return payload.tls.sni
    return payload.http.host if payload.http is not None else None
