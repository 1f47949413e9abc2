"""What the traced host's own counters and sysctls say about handshakes that it answered: which ones rose at that time.

The root part sends them every second and on request; a handshake is judged by the last reading before its SYN and the
first one after its SYN-ACK.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import Bool
from tracer.ipc.messages import Host

LOOKS_KEPT = 512  # ten seconds at fifty requests per second
SERVER_ENABLE, COOKIE_NOT_REQUIRED = 0x2, 0x200  # net.ipv4.tcp_fastopen
SYN_COOKIES_ALWAYS = 2  # net.ipv4.tcp_syncookies

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One row per handshake: sysctls before and after it, and how much counters rose in between.

    The reading after it is as fresh as a request to the root part makes it, the one before up to a second older.
    """

    known: Bool  # there was a reading before the SYN and one after the SYN-ACK
    fast_open: tuple[I64, I64]  # tcp_fastopen before and after it
    syn_cookies: I64  # tcp_syncookies after it
    overflows: I64  # TCPFastOpenListenOverflow
    cookies_sent: I64  # SYN cookies

    def fast_open_bit(self, bit: int) -> tuple[Bool, Bool]:
        """Was a bit of tcp_fastopen set before and after?"""
        before, after = ((value & bit) != 0 for value in self.fast_open)
        return before, after


class KernelEvidence:
    """The latest readings of the host."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, ...]] = deque(maxlen=LOOKS_KEPT)
        self._columns: I64 | None = None

    @property
    def latest_ns(self) -> int:
        """When the last reading began, CLOCK_MONOTONIC: it includes everything before that; 0 = never."""
        return self._looks[-1][1] if self._looks else 0

    def add(self, host: Host) -> None:
        """Take a reading; ignore it if it is not newer than the last."""
        if (self._looks and host.taken_ns <= self._looks[-1][0]) or "tcp_fastopen" not in host.sysctls:
            return
        counters, sysctls = host.counters, host.sysctls
        self._looks.append(
            (
                host.taken_ns,
                host.begun_ns or host.taken_ns,
                _number(sysctls.get("tcp_fastopen")),
                _number(sysctls.get("tcp_syncookies")),
                counters.get("TCPFastOpenListenOverflow", 0),
                # cookies sent because of a full queue are in both, but we only check for a rise
                counters.get("TCPReqQFullDoCookies", 0) + counters.get("SyncookiesSent", 0),
                counters.get("TCPFastOpenBlackhole", 0),
            )
        )
        self._columns = None

    def around(self, syn_ns: NDArray[np.uint64], synack_ns: NDArray[np.uint64]) -> Evidence:
        """The evidence around some answered handshakes."""
        looks = self._read()
        if not len(looks):
            nothing = np.zeros(len(syn_ns), np.int64)
            return Evidence(nothing != 0, (nothing, nothing), nothing, nothing, nothing)
        # reading takes a while: one must end before the SYN, the other begin after the SYN-ACK
        over, begun = looks[:, 0], looks[:, 1]
        before = np.searchsorted(over, syn_ns.astype(np.int64), "right") - 1
        after = np.searchsorted(begun, synack_ns.astype(np.int64), "left")
        known = (before >= 0) & (after < len(begun))
        first, last = looks[np.maximum(before, 0)], looks[np.minimum(after, len(begun) - 1)]
        rose = last - first
        return Evidence(known, (first[:, 2], last[:, 2]), last[:, 3], rose[:, 4], rose[:, 5])

    def saw_blackhole(self, syn_ns: NDArray[np.uint64], settled_ns: NDArray[np.uint64]) -> Bool:
        """Did TCPFastOpenBlackhole rise between the last reading before each SYN and the first one after settling?

        If there is none after it yet, the newest one counts: a rise until then is a rise all the same.
        """
        looks = self._read()
        if not len(looks):
            return np.zeros(len(syn_ns), np.bool_)
        before = np.searchsorted(looks[:, 0], syn_ns.astype(np.int64), "right") - 1
        after = np.searchsorted(looks[:, 1], settled_ns.astype(np.int64), "left")
        blackholes = looks[:, 6]
        rose: Bool = blackholes[np.minimum(after, len(looks) - 1)] > blackholes[np.maximum(before, 0)]
        return rose & (before >= 0)

    def _read(self) -> I64:
        """The readings: over, begun, sysctls and counters as add() took them."""
        if self._columns is None:
            self._columns = np.array(self._looks, np.int64).reshape(len(self._looks), 7)
        return self._columns


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0
