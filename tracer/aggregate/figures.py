"""What sums over many handshakes come to, as screens show it: one peer, one comparison, all distributions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.records.ends import Listener, Process


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in buckets: bucket i holds edges[i] <= value < edges[i + 1]."""

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of so many durations, in microseconds; None without any.

    Of up to 8,192 they are exact, of more they are those of a uniform sample of that size (aggregate/reservoir.py).
    """

    samples: int
    median_us: float | None
    p90_us: float | None
    p99_us: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """First response of one server with TFO (SYN data acked whole) and without (no data in the SYN), and its benefit.
    Only connections that lived count.

    Of up to 256 handshakes of a kind medians and 90th percentiles are exact, of more they are a sample's; None without
    any. `sooner_us` (normal less TFO, from low to high with 95 % confidence) and `sooner_rtts` (that in median round
    trips) are None without enough of both. tracer.aggregate.worth has the words for them.
    """

    server: str  # address and port as people write them
    name: str | None  # the latest SNI or HTTP host seen in a SYN to it
    tfo_samples: int
    normal_samples: int
    tfo_median_us: float | None
    normal_median_us: float | None
    tfo_p90_us: float | None
    normal_p90_us: float | None
    rtt_median_us: float | None
    sooner_us: float | None
    sooner_rtts: float | None
    sooner_low_us: float | None
    sooner_high_us: float | None


@dataclass(frozen=True, slots=True)
class Peer:
    """One server, or one client where this host is the server."""

    role: str  # "server" or "client"
    ip: str
    port: int | None  # of a server
    name: str | None
    handshakes: int
    attempts: int
    accepted: int  # SYN data acked whole
    lived: int  # of these: the connection lived
    with_data: int  # attempts that carried data
    fallbacks: int  # SYN data not acked at all, or only a later bare SYN answered
    failed: int  # by their group: what Fast Open did
    cookie_changes: int  # another cookie came back than was sent
    rtt_median_us: float | None  # of up to 128 exact, of more a sample's
    saved_us: float  # round trips
    last_outcome: str | None
    last_group: str
    last_seen_ns: int
    sooner_us: float | None = None  # as in Comparison
    sooner_rtts: float | None = None
    handshakes_failed: int = 0  # refused or never finished, with or without Fast Open
    cause: str | None = None  # the most frequent handshake.cause
    last_result: str | None = None
    last_cause: str | None = None
    tfo_samples: int = 0
    normal_samples: int = 0
    sooner_low_us: float | None = None
    sooner_high_us: float | None = None
    delay_us: float = 0.0  # what lost SYNs of attempts cost


@dataclass(frozen=True, slots=True)
class Listening:
    """An address and port of this host that answered SYNs."""

    ip: str
    port: int
    process: Process | None  # the latest that is known to hold it
    handshakes: int
    handshakes_failed: int  # refused or never finished, with or without Fast Open
    attempts: int
    with_data: int
    lived: int  # SYN data acked whole, and the connection lived
    cause: str | None  # the most frequent handshake.cause
    fast_open: bool | None  # as the latest attempt that tells shows it; None if none does
    queue: Listener | None  # as it was when a handshake failed for it the last time
    last_seen_ns: int
    failed_lately: int = 0  # in a window, where a screen asks for it


@dataclass(frozen=True, slots=True)
class Distributions:
    """What the handshakes looked like; counters hold the most frequent values, the most frequent first."""

    rtt: Histogram
    rtt_tfo: Histogram
    first_response: Histogram
    rtt_quantiles: Quantiles
    rtt_tfo_quantiles: Quantiles
    first_response_quantiles: Quantiles
    mss: tuple[tuple[int | None, int], ...]
    wscale: tuple[tuple[int | None, int], ...]
    window: Histogram
    options: tuple[tuple[str, int], ...]
    names: tuple[tuple[str, int], ...]  # SNI and HTTP host
