"""Durations of handshakes over whole batches (DESIGN.md section 3): microseconds as float64, NaN = unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import F64, NS_PER_US, U8, Bool, Events, has
from tracer.handshake.life import died
from tracer.handshake.outcome import Verdicts
from tracer.vocabulary.vocabulary import Has, Vantage


@dataclass(frozen=True, slots=True)
class Durations:
    """One row per handshake, in the order of the batch."""

    synack_delay_us: F64  # answered SYN to SYN-ACK
    ack_delay_us: F64  # SYN-ACK to ACK
    rtt_us: F64
    first_response_us: F64  # first SYN to the server's first data byte
    rtt_saved_us: F64
    delay_us: F64  # first SYN to the answered one
    connect_us: F64  # first SYN to the completing ACK
    first_request_us: F64  # first SYN to the client's first data byte
    reset_after_us: F64  # first SYN to the RST


def _span(later: NDArray[np.uint64], earlier: NDArray[np.uint64]) -> F64:
    """later - earlier in microseconds, NaN if either is 0 (did not happen).

    NaN too if the order is reversed: in a simultaneous open the client's SYN-ACK can come first.
    """
    found: F64 = (later - earlier).view(np.int64) / NS_PER_US
    unknown = later < earlier  # includes later == 0
    unknown |= earlier == 0
    found[unknown] = np.nan
    return found


def _ack_is_clear(events: Events) -> Bool:
    """Is it known which SYN-ACK the ACK answers? Yes if each has a number of its own, or if TSecr names it."""
    clear: Bool = events["synack_count"] <= np.maximum(events["synack_isns"], 1)
    rows = np.flatnonzero(~clear)
    if len(rows):
        synack, echo = events["synack"], events["ack_ts_ecr"][rows]
        clear[rows] = has(synack["has"][rows], Has.TIMESTAMPS) & (echo == synack["ts_val"][rows]) & (echo != 0)
    return clear


def measure(events: Events, verdicts: Verdicts, vantage: U8) -> Durations:
    """Durations of a batch, seen from `vantage` (Vantage)."""
    syn_ns, synack_ns = np.ascontiguousarray(events["syn_ns"]), np.ascontiguousarray(events["synack_ns"])
    synack_delay = _span(synack_ns, syn_ns)
    synack_delay -= verdicts.answered_after_us
    unknown = ~verdicts.answer_known
    unknown |= synack_delay < 0  # seen before the SYN that it answers
    synack_delay[unknown] = np.nan
    ack_delay = _span(events["ack_ns"], synack_ns)
    ack_delay[~_ack_is_clear(events)] = np.nan
    rtt = synack_delay + ack_delay
    for seen_at, delay in ((Vantage.CLIENT, synack_delay), (Vantage.SERVER, ack_delay)):
        np.copyto(rtt, delay, where=vantage == seen_at)
    acked = verdicts.acked_payload_len
    answered = has(events["synack"]["has"], Has.SEGMENT)
    saved = np.full(len(events), np.nan)
    nothing = acked == 0
    saved[answered & nothing] = 0.0
    length = events["syn"]["payload_len"]
    np.copyto(saved, rtt, where=answered & ~nothing & (length == acked) & verdicts.lived)
    saved[died(events, verdicts.group, verdicts.lived)] = 0.0
    request = _span(events["request_ns"], syn_ns)
    request[~nothing & (length != 0)] = 0.0
    reset = np.full(len(events), np.nan)
    rows = np.flatnonzero(events["reset_from"])
    reset[rows] = _span(events["settled_ns"][rows], syn_ns[rows])
    return Durations(
        synack_delay_us=synack_delay,
        ack_delay_us=ack_delay,
        rtt_us=rtt,
        first_response_us=_span(events["response_ns"], syn_ns),
        rtt_saved_us=saved,
        delay_us=verdicts.answered_after_us,
        connect_us=_span(events["ack_ns"], syn_ns),
        first_request_us=request,
        reset_after_us=reset,
    )
