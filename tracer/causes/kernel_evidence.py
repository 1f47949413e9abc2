"""What the traced host's own counters and sysctls say about handshakes that it answered: which ones rose at that time.

The root part sends them every second and on request; a handshake is judged by the last reading before its SYN and the
first one after its SYN-ACK.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import Bool, Indexes, some_rows
from tracer.ipc.messages import Host

LOOKS_KEPT = 512  # one a second and one a question
SECONDS_KEPT = 180  # of which one look each is kept for longer: a SYN may wait for its answer for more than a minute
_SECOND_NS = 1_000_000_000
SERVER_ENABLE, COOKIE_NOT_REQUIRED = 0x2, 0x200  # net.ipv4.tcp_fastopen
SYN_COOKIES_ALWAYS = 2  # net.ipv4.tcp_syncookies

I64 = NDArray[np.int64]
# what a look has; _OVER and _BEGUN are CLOCK_MONOTONIC
_OVER, _BEGUN, _FAST_OPEN, _SYN_COOKIES, _OVERFLOWS, _COOKIES_SENT, _BLACKHOLES, _DROPS = range(8)
_FAST_OPEN_CHANGES, _SYN_COOKIES_CHANGES, _FAST_OPEN_HEARD = 8, 9, 10
_ACCEPT_FULL, _LISTEN_DROPS, _SYN_FULL, _DEFERRED, _COLUMNS = range(11, 16)
# the host had reason to say nothing: a queue was full, or it had said so just before (tcp_oow_rate_limited)
_SILENT = (
    "ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPACKSkippedSynRecv", "TCPACKSkippedPAWS",
    "TCPACKSkippedSeq", "TCPACKSkippedFinWait2", "TCPACKSkippedTimeWait", "TCPACKSkippedChallenge",
)  # fmt: skip
# a SYN with Fast Open has come as far as its listener (tcp_try_fastopen)
_LISTENERS = ("ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPDeferAcceptDrop")
_HEARD = ("TCPFastOpenCookieReqd", "TCPFastOpenPassive", "TCPFastOpenPassiveFail")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One row per handshake: sysctls before and after it, and how much counters rose in between.

    The reading after it is as fresh as a request to the root part makes it, the one before up to a second older.
    """

    known: Bool  # there was a reading before the SYN and one after the SYN-ACK
    fast_open: tuple[I64, I64]  # tcp_fastopen before and after it
    fast_open_changed: Bool  # a look from before it until after it had another value than the one before
    syn_cookies: I64  # tcp_syncookies after it
    syn_cookies_changed: Bool
    overflows: I64  # TCPFastOpenListenOverflow
    cookies_sent: I64  # SYN cookies
    heard: I64  # SYNs with Fast Open that listeners took notice of

    def only(self, rows: Indexes) -> Evidence:
        """Some of them."""
        before, after = self.fast_open
        others = (getattr(self, name)[rows] for name in _AFTER_FAST_OPEN)
        return Evidence(self.known[rows], (before[rows], after[rows]), *others)

    def fast_open_bit(self, bit: int) -> tuple[Bool, Bool]:
        """Was a bit of tcp_fastopen set before and after?"""
        before, after = ((value & bit) != 0 for value in self.fast_open)
        return before, after


_AFTER_FAST_OPEN = [one.name for one in fields(Evidence)][2:]


@dataclass(frozen=True, slots=True)
class Rose:
    """One row per handshake: by how much this host's counters rose from before its SYN until it was settled."""

    known: Bool  # there was a reading before and one after; else all are 0
    overflows: I64  # ListenOverflows
    drops: I64  # ListenDrops
    syn_queue: I64  # TCPReqQFullDrop
    deferred: I64  # TCPDeferAcceptDrop
    cookies_sent: I64  # SYN cookies
    always_cookies: Bool  # all the time, by tcp_syncookies
    never_cookies: Bool

    def only(self, rows: Indexes) -> Rose:
        """Some of them."""
        return some_rows(self, rows)


class _Latest:
    """The latest looks, in their order."""

    def __init__(self, kept: int) -> None:
        self._kept, self._end = kept, 0
        self._table = np.zeros((2 * kept, _COLUMNS), np.int64)

    @property
    def rows(self) -> I64:
        return self._table[max(self._end - self._kept, 0) : self._end]

    def add(self, look: tuple[int, ...]) -> None:
        if self._end == len(self._table):
            self._table[: self._kept] = self.rows
            self._end = self._kept
        self._table[self._end] = look
        self._end += 1


class KernelEvidence:
    """The latest readings of the host."""

    def __init__(self) -> None:
        self._looks, self._seconds = _Latest(LOOKS_KEPT), _Latest(SECONDS_KEPT)
        self._changes = [0, 0]  # of tcp_fastopen, of tcp_syncookies
        self._last: tuple[int, ...] = ()

    @property
    def latest_ns(self) -> int:
        """When the last reading began, CLOCK_MONOTONIC: it includes everything before that; 0 = never."""
        return self._last[_BEGUN] if self._last else 0

    def add(self, host: Host) -> None:
        """Take a reading; ignore it if it is not newer than the last."""
        if (self._last and host.taken_ns <= self._last[_OVER]) or "tcp_fastopen" not in host.sysctls:
            return
        counters = host.counters
        sysctls = [_number(host.sysctls.get(name)) for name in ("tcp_fastopen", "tcp_syncookies")]
        if self._last:
            for at, before in enumerate(self._last[_FAST_OPEN:_OVERFLOWS]):
                self._changes[at] += before != sysctls[at]
        look = (
            host.taken_ns,
            host.begun_ns or host.taken_ns,
            *sysctls,
            counters.get("TCPFastOpenListenOverflow", 0),
            # cookies sent because of a full queue are in both, but we only check for a rise
            counters.get("TCPReqQFullDoCookies", 0) + counters.get("SyncookiesSent", 0),
            counters.get("TCPFastOpenBlackhole", 0),
            sum(counters.get(name, 0) for name in _SILENT),
            *self._changes,
            sum(counters.get(name, 0) for name in _HEARD),
            *(counters.get(name, 0) for name in _LISTENERS),
        )
        self._last = look
        self._looks.add(look)
        seconds = self._seconds.rows
        if not len(seconds) or host.taken_ns >= seconds[-1, _OVER] + _SECOND_NS:
            self._seconds.add(look)

    def around(self, syn_ns: NDArray[np.uint64], synack_ns: NDArray[np.uint64]) -> Evidence:
        """The evidence around some answered handshakes."""
        known, first, last = self._around(syn_ns, synack_ns)
        rose = last - first
        return Evidence(
            known, (first[:, _FAST_OPEN], last[:, _FAST_OPEN]), rose[:, _FAST_OPEN_CHANGES] != 0, last[:, _SYN_COOKIES],
            rose[:, _SYN_COOKIES_CHANGES] != 0, rose[:, _OVERFLOWS], rose[:, _COOKIES_SENT],
            rose[:, _FAST_OPEN_HEARD],
        )  # fmt: skip

    def queues_were_quiet(self, syn_ns: NDArray[np.uint64], until_ns: NDArray[np.uint64]) -> Bool:
        """Is it known that this host had no reason to keep silent around that time, by its counters?"""
        known, first, last = self._around(syn_ns, until_ns)
        quiet: Bool = known & (first[:, _DROPS] == last[:, _DROPS])
        return quiet

    def rose(self, syn_ns: NDArray[np.uint64], until_ns: NDArray[np.uint64]) -> Rose:
        """How much the counters of listeners rose around that time."""
        known, first, last = self._around(syn_ns, until_ns)
        rose = (last - first) * known[:, None]
        same = known & (rose[:, _SYN_COOKIES_CHANGES] == 0)
        cookies = last[:, _SYN_COOKIES]
        return Rose(
            known, rose[:, _ACCEPT_FULL], rose[:, _LISTEN_DROPS], rose[:, _SYN_FULL], rose[:, _DEFERRED],
            rose[:, _COOKIES_SENT], same & (cookies == SYN_COOKIES_ALWAYS), same & (cookies == 0),
        )  # fmt: skip

    def listeners_dropped(self, syn_ns: NDArray[np.uint64]) -> Bool:
        """Has any listener dropped something since before each SYN, as far as is known by now?"""
        looks = self._read()
        if not len(looks):
            return np.zeros(len(syn_ns), np.bool_)
        before = np.searchsorted(looks[:, _OVER], syn_ns.astype(np.int64), "right") - 1
        dropped: Bool = looks[-1, _LISTEN_DROPS] > looks[np.maximum(before, 0), _LISTEN_DROPS]
        return dropped & (before >= 0)

    def _around(self, syn_ns: NDArray[np.uint64], until_ns: NDArray[np.uint64]) -> tuple[Bool, I64, I64]:
        """The last look before each SYN and the first one after the other time; are there both?"""
        looks = self._read()
        if not len(looks):
            nothing = np.zeros((len(syn_ns), _COLUMNS), np.int64)
            return np.zeros(len(syn_ns), np.bool_), nothing, nothing
        # reading takes a while: one must end before the SYN, the other begin after the answer
        over, begun = looks[:, _OVER], looks[:, _BEGUN]
        before = np.searchsorted(over, syn_ns.astype(np.int64), "right") - 1
        after = np.searchsorted(begun, until_ns.astype(np.int64), "left")
        known: Bool = (before >= 0) & (after < len(begun))
        return known, looks[np.maximum(before, 0)], looks[np.minimum(after, len(begun) - 1)]

    def saw_blackhole(self, syn_ns: NDArray[np.uint64], settled_ns: NDArray[np.uint64]) -> Bool:
        """Did TCPFastOpenBlackhole rise between the last reading before each SYN and the first one after settling?

        If there is none after it yet, the newest one counts: a rise until then is a rise all the same.
        """
        looks = self._read()
        if not len(looks):
            return np.zeros(len(syn_ns), np.bool_)
        before = np.searchsorted(looks[:, _OVER], syn_ns.astype(np.int64), "right") - 1
        after = np.searchsorted(looks[:, _BEGUN], settled_ns.astype(np.int64), "left")
        blackholes = looks[:, _BLACKHOLES]
        rose: Bool = blackholes[np.minimum(after, len(looks) - 1)] > blackholes[np.maximum(before, 0)]
        return rose & (before >= 0)

    def _read(self) -> I64:
        """The looks in their order, columns as add() made them; those of long ago are a second apart."""
        looks, seconds = self._looks.rows, self._seconds.rows
        if not len(looks) or seconds[0, _OVER] >= looks[0, _OVER]:
            return looks
        return np.concatenate((seconds[seconds[:, _OVER] < looks[0, _OVER]], looks))


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0
