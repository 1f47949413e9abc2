"""Durations of handshakes over whole batches (DESIGN.md section 3): microseconds as float64, NaN = not known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.events import Events
from tracer.tfo import F64, NS_PER_US, U8, Bool, Verdicts, has
from tracer.vocabulary import Has, Vantage


@dataclass(frozen=True, slots=True)
class Durations:
    """One row a handshake, in the order of the batch."""

    synack_delay_us: F64  # answered SYN to SYN-ACK
    ack_delay_us: F64  # SYN-ACK to ACK
    rtt_us: F64
    first_response_us: F64  # first SYN to the server's first data byte
    rtt_saved_us: F64
    delay_us: F64  # first SYN to the answered one


def _span(later: NDArray[np.uint64], earlier: NDArray[np.uint64]) -> F64:
    """later - earlier in microseconds, NaN where either is 0 (did not happen).

    Also where the order is the other way round: in a simultaneous open the client's SYN-ACK can come first.
    """
    known = (later != 0) & (earlier != 0) & (later >= earlier)
    return np.where(known, (later - earlier).astype(np.int64) / NS_PER_US, np.nan)


def _ack_is_clear(events: Events) -> Bool:
    """Is it known which SYN-ACK the ACK answers? One only, or TSecr names the first."""
    first = has(events["synack"]["has"], Has.TIMESTAMPS) & (events["ack_ts_ecr"] == events["synack"]["ts_val"])
    clear: Bool = (events["synack_count"] <= 1) | (first & (events["ack_ts_ecr"] != 0))
    return clear


def measure(events: Events, verdicts: Verdicts, vantage: U8) -> Durations:
    """Durations of a batch, seen from `vantage` (Vantage)."""
    answered_after = np.where(verdicts.answer_known, verdicts.answered_after_us, np.nan)
    synack_delay = _span(events["synack_ns"], events["syn_ns"]) - answered_after
    ack_delay = np.where(_ack_is_clear(events), _span(events["ack_ns"], events["synack_ns"]), np.nan)
    at_client = vantage == Vantage.CLIENT
    at_server = vantage == Vantage.SERVER
    rtt = np.where(at_client, synack_delay, np.where(at_server, ack_delay, synack_delay + ack_delay))
    length = events["syn"]["payload_len"]
    acked = verdicts.acked_payload_len
    answered = has(events["synack"]["has"], Has.SEGMENT)
    saved = np.where(answered & (length > 0) & (acked == length), rtt, np.where(answered & (acked == 0), 0.0, np.nan))
    return Durations(
        synack_delay_us=synack_delay,
        ack_delay_us=ack_delay,
        rtt_us=rtt,
        first_response_us=_span(events["response_ns"], events["syn_ns"]),
        rtt_saved_us=saved,
        delay_us=verdicts.answered_after_us,
    )
