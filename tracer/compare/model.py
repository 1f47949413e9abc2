"""What a comparison says: the words, and the figures between two places."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tracer.compare.join import Offset
from tracer.vocabulary.changes import Piece, What


class Towards(str, Enum):
    """Where the segment was going."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that happened: to `count` of the `of` segments that it could have happened to.

    `before` and `after` are what the segment was at the place that it passed first and then; None where that says
    nothing. `certain`: both places show it; else one of them shows it by what it did not see.
    """

    what: What
    piece: Piece
    towards: Towards
    before: str | None
    after: str | None
    count: int
    of: int
    certain: bool
    handshakes: tuple[str, ...] = ()  # ids of some
    servers: tuple[str, ...] = ()  # addresses and ports of some, as the place at the client's side has them


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the round-trip time, of `samples` handshakes without any repetition, in microseconds."""

    median_us: float
    p95_us: float
    samples: int


@dataclass(frozen=True, slots=True)
class Times:
    """How the round trip divides: from the client to the near place, between both, from the far place to the server."""

    before: Share | None
    between: Share | None
    beyond: Share | None


@dataclass(slots=True)
class Comparison:
    """Two neighbouring places. `near` names the one at the clients' side for most of the handshakes."""

    near: str
    far: str
    seen: tuple[int, int]  # handshakes at the near place, at the far place
    both: int = 0
    translated: int = 0  # of these, joined over a translation or a new sequence number
    other_way: int = 0  # of these, with the client at the other side
    offset: Offset | None = None
    hops: int | None = None  # routers in between, where all SYNs passed as many
    findings: list[Finding] = field(default_factory=list)
    missing: int = 0  # seen at the near place, and the far one would have seen them
    not_judged: int = 0  # seen at one place only, for reasons that are not known
    times: Times | None = None
    doubts: list[str] = field(default_factory=list)  # sentences: why less is said
