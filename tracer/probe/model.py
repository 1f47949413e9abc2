"""What a probe finds out: the words, one connection, and what all connections to an address show together."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tracer.records.record import Handshake
from tracer.vocabulary.vocabulary import ClientFail


class Payload(str, Enum):
    """What is sent to the server."""

    TLS = "tls"  # a ClientHello
    HTTP = "http"  # a HEAD request
    NONE = "none"


class Asks(str, Enum):
    """What a connection asks for."""

    PLAIN = "plain"
    FAST_OPEN = "fast_open"
    ECN = "ecn"
    MPTCP = "mptcp"
    SYN_DATA = "syn_data"  # data in the SYN without a cookie, which hardly any server takes


class Passage(str, Enum):
    """What became of what a SYN asked for."""

    GRANTED = "granted"  # data: taken
    PASSED = "passed"  # answered, and not granted: the server does without, or a box took it out
    DROPPED = "dropped"  # no answer, while SYNs without are answered
    NOT_TRIED = "not_tried"


class Verdict(str, Enum):
    """What Fast Open does between here and an address."""

    WORKS = "works"
    GRANTS = "grants"  # a cookie was granted; no data was tried in a SYN
    CACHED = "cached"  # this host had a cookie already, and no data was sent with it
    PARTLY = "partly"
    KEY_NOT_SHARED = "key_not_shared"
    NOT_TAKEN = "not_taken"  # a cookie, and the data in the SYN was never taken
    NOT_GRANTED = "not_granted"
    DROPS_SYN_DATA = "path_drops_syn_data"  # SYNs with a cookie and data get no answer
    DROPS_OPTION = "drops_option"  # SYNs that ask for a cookie get no answer
    BREAKS_AFTER = "path_breaks_after_accept"  # the data was taken, and then nothing came
    SILENT = "silent"  # connections are established, and then nothing comes, with Fast Open or without
    NOT_SENT = "not_sent"  # this host's kernel did not try
    NOT_SEEN = "not_seen"  # the connections were made, and not seen where they were traced
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NO_ANSWER = "no_answer"
    NO_NAME = "no_name"


GOOD = frozenset({Verdict.WORKS, Verdict.GRANTS})


@dataclass(frozen=True, slots=True)
class Target:
    """A server as the user named it."""

    host: str
    port: int

    @property
    def name(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(slots=True)
class Connection:
    """One connection that was made. `error` is an errno, 0 where none came; `source` and `server` are address, port."""

    asks: Asks
    server: tuple[str, int]
    source: tuple[str, int] | None = None
    error: int = 0
    connected: bool = False
    answered: bool = False  # the server sent data
    client_fail: ClientFail = ClientFail.NONE
    record: Handshake | None = None  # what was seen of it on the wire


@dataclass(frozen=True, slots=True)
class Benefit:
    """How much sooner the server answers with Fast Open, microseconds, and its confidence interval."""

    sooner_us: float
    low_us: float | None  # None with too few of either kind
    high_us: float | None


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the newest answered handshake agreed on; `mss` is the server's, in bytes, `hops` the routers to it."""

    mss: int | None
    wscale: int | None
    sack: bool
    timestamps: bool
    hops: int


@dataclass(slots=True)
class Side:
    """The connections of one kind. Times are medians in microseconds."""

    connections: int = 0
    established: int = 0
    answered: int = 0
    rtt_us: float | None = None
    first_response_us: float | None = None
    syns_again: int = 0  # connections whose first SYN was not the only one


@dataclass(slots=True)
class Answer:
    """What one address of a server does."""

    ip: str
    verdict: Verdict
    plain: Side
    fast_open: Side
    tried: int = 0  # connections whose SYN had data and a cookie
    taken: int = 0  # of these, whose data was acked whole
    lived: int = 0  # of these, that were served
    refused: int = 0  # whose data was not acked by an answer to that SYN
    unanswered: int = 0  # whose SYN got no answer, while a later one without data did
    replaced: int = 0  # cookies of this probe that the server replaced instead of taking the data
    cookie_len: int | None = None  # bytes; None: none was granted
    cookies: int = 0  # different ones
    was_cached: bool = False  # the first attempt had a cookie already
    was_stale: bool = False  # and the server did not take that one
    benefit: Benefit | None = None
    negotiated: Agreed | None = None
    passage: dict[Asks, Passage] = field(default_factory=dict)  # of ECN, MPTCP, SYN_DATA
    fails: dict[str, int] = field(default_factory=dict)  # words of ClientFail
    outcomes: dict[str, int] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)


@dataclass(slots=True)
class Probed:
    """One target and its addresses."""

    target: Target
    answers: list[Answer] = field(default_factory=list)
    problem: str = ""  # why its name has no address

    @property
    def verdict(self) -> Verdict:
        """That of all its addresses; PARTLY where some are good."""
        if not self.answers:
            return Verdict.NO_NAME
        found = {one.verdict for one in self.answers}
        if len(found) == 1:
            return found.pop()
        if found <= GOOD:
            return Verdict.GRANTS
        return Verdict.PARTLY if found & GOOD else self.answers[0].verdict
