"""A day of traffic, second by second: some Fast Open, some without; times at which something fails are chosen."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tests.support.rows import INTERFACES, random_batch
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.store.store import Store
from tracer.vocabulary.vocabulary import Cause, Confidence, Group, HandshakeCause, HandshakeResult, Outcome, Request

DAY_S = 24 * 3600
BEGIN_S = 1000
NS_PER_S = 1_000_000_000
SERVER, CLIENT = (bytes(10) + b"\xff\xff" + bytes(end) for end in ((192, 0, 2, 7), (198, 51, 100, 9)))


@lru_cache(maxsize=64)
def _made(count: int) -> Batch:
    """So many rows, made once: most calls are for a single second."""
    return random_batch(1, count, peers=1)


def attempts(seconds: list[int], failed: bool) -> Batch:
    """A SYN with a cookie and data at each of these seconds; where it failed the data was not acked in time."""
    made = _made(len(seconds)).select(np.arange(len(seconds)))  # a copy
    made.events["settled_ns"] = (np.array(seconds) + BEGIN_S) * NS_PER_S
    made.events["syn_ns"] = made.events["settled_ns"] - np.uint64(50_000_000)
    made.events["syn"]["payload_len"] = 100
    made.events["ifindex"] = 2
    made.events["client"][:] = np.frombuffer(CLIENT, np.uint8)
    made.events["server"][:] = np.frombuffer(SERVER, np.uint8)
    made.events["server_port"] = 443
    made.events["result"] = HandshakeResult.ESTABLISHED
    made.causes.handshake_cause[:] = made.causes.handshake_confidence[:] = 0
    made.causes.cause[:] = Cause.PATH_DROPS_SYN_DATA if failed else 0
    made.causes.confidence[:] = Confidence.LIKELY if failed else 0
    made.verdicts.request[:] = Request.COOKIE_AND_DATA
    made.verdicts.attempted[:] = made.verdicts.lived[:] = True
    made.verdicts.outcome[:] = Outcome.SYN_TIMEOUT_FALLBACK if failed else Outcome.DATA_ACKED
    made.verdicts.group[:] = Group.FAILED if failed else Group.OK
    made.verdicts.acked_payload_len[:] = 0 if failed else 100
    return made


def plain(seconds: list[int], overflowed: bool) -> Batch:
    """A handshake without Fast Open at each of these seconds; where the listener's queue is full it stays half open."""
    made = attempts(seconds, False)
    made.events["syn"]["payload_len"] = 0
    made.verdicts.request[:] = Request.NONE
    made.verdicts.attempted[:] = False
    made.verdicts.outcome[:] = Outcome.NOT_ATTEMPTED
    made.verdicts.group[:] = Group.NOT_APPLICABLE
    if overflowed:
        made.events["result"] = HandshakeResult.HALF_OPEN
        made.causes.handshake_cause[:] = HandshakeCause.ACCEPT_QUEUE_FULL
        made.causes.handshake_confidence[:] = Confidence.CERTAIN
    return made


class Day:
    """One attempt and two handshakes without Fast Open each second; every 25th attempt fails, whatever the time."""

    def __init__(self, *, broken: range, overflows: range, limit: int = 4096) -> None:
        self.second = 0
        self._broken, self._overflows = broken, overflows
        self.store = Store(limit, composer=Composer(INTERFACES), clock=self.now_ns, refresh_ns=NS_PER_S)

    def now_ns(self) -> int:
        """The clock of the records."""
        return (self.second + BEGIN_S) * NS_PER_S

    def play(self, until: int) -> None:
        """Go on to a second of the day; who looks takes the snapshot of its end."""
        for begin in range(self.second, until, 300):
            seconds = range(begin, min(begin + 300, until))
            bad = [one for one in seconds if one in self._broken or one % 25 == 0]
            full = [one for one in seconds if one in self._overflows]
            parts = (
                (attempts, sorted(set(seconds) - set(bad)), False), (attempts, bad, True),
                (plain, 2 * sorted(set(seconds) - set(full)), False), (plain, 2 * full, True),
            )  # fmt: skip
            if self.second < begin:  # somebody looks every five minutes
                self.store.snapshot()
            self.second = seconds[-1]
            for make, times, failed in parts:
                if times:
                    self.store.write(make(times, failed))
        self.second = until
