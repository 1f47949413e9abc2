"""Durations of handshakes over whole batches (DESIGN.md section 3): microseconds as float64, NaN = unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import F64, NS_PER_US, U8, Bool, Events, has
from tracer.handshake.life import died
from tracer.handshake.outcome import Verdicts
from tracer.vocabulary.vocabulary import After, Group, Has, Vantage


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
    np.copyto(found, np.nan, where=unknown)
    return found


def _ack_is_clear(events: Events) -> Bool:
    """Is it known which SYN-ACK the ACK answers? Yes if each has a number of its own, or if TSecr names it."""
    after = events["synacks_after_ack"]
    before = np.maximum(events["synack_count"], after) - after
    clear: Bool = before <= 1
    rows = np.flatnonzero(~clear)
    if len(rows):
        synack, echo = events["synack"], events["ack_ts_ecr"][rows]
        named = has(synack["has"][rows], Has.TIMESTAMPS) & (echo == synack["ts_val"][rows]) & (echo != 0)
        clear[rows] = named | (before[rows] <= events["synack_isns"][rows])
    return clear


def measure(events: Events, verdicts: Verdicts, vantage: U8) -> Durations:
    """Durations of a batch, seen from `vantage` (Vantage)."""
    syn_ns, synack_ns = np.ascontiguousarray(events["syn_ns"]), np.ascontiguousarray(events["synack_ns"])
    synack_delay = _span(synack_ns, syn_ns)
    synack_delay -= verdicts.answered_after_us
    # it may be seen before the SYN that it answers
    np.copyto(synack_delay, np.nan, where=~(verdicts.answer_known & (synack_delay >= 0)))
    ack_ns = np.ascontiguousarray(events["ack_ns"])
    ack_delay = _span(ack_ns, synack_ns)
    np.copyto(ack_delay, np.nan, where=~_ack_is_clear(events))
    rtt = synack_delay + ack_delay
    for seen_at, delay in ((Vantage.CLIENT, synack_delay), (Vantage.SERVER, ack_delay)):
        np.copyto(rtt, delay, where=vantage == seen_at)
    some, length = verdicts.acked_payload_len != 0, events["syn"]["payload_len"]
    nothing = has(events["synack"]["has"], Has.SEGMENT) & ~some
    whole = some & verdicts.lived & (length == verdicts.acked_payload_len)
    saved: F64 = np.where(whole, rtt, np.where(nothing, 0.0, np.nan))
    failed = np.flatnonzero((verdicts.group == Group.FAILED) & (verdicts.after != After.RESPONSE))
    saved[died(events, failed, verdicts.lived)] = 0.0
    request: F64 = np.where(some & (length != 0), 0.0, _span(events["request_ns"], syn_ns))
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
        connect_us=_span(ack_ns, syn_ns),
        first_request_us=request,
        reset_after_us=reset,
    )
