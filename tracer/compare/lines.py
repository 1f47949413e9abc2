"""A comparison as JSON: the definition that `tfotrace schema` shows, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from tracer.compare.model import Comparison, Finding, Share, Times, Towards
from tracer.compare.text import sentence
from tracer.records.record import SCHEMA
from tracer.records.types import Count, Microseconds, Version, said
from tracer.vocabulary.changes import Piece, What


class ComparedFinding(msgspec.Struct, frozen=True):
    """One kind of thing that happened between two places: to `count` of the `of` segments that it could happen to."""

    what: Annotated[What, said("what happened")]
    piece: Annotated[Piece, said("the segment that it happened to")]
    towards: Annotated[Towards, said("where that was going")]
    before: Annotated[str | None, said("what it was at the place it passed first; of lost SYNs, what they carried")]
    after: Annotated[str | None, said("what it was at the other place")]
    count: Count
    of: Count
    certain: Annotated[bool, said("false where a place shows it only by what it did not see")]
    handshakes: Annotated[tuple[str, ...], said("ids of some")]
    servers: Annotated[tuple[str, ...], said("addresses and ports of some")]
    sentence: str


class ComparedShare(msgspec.Struct, frozen=True):
    """A part of the round trip, of `samples` handshakes without any repetition."""

    median_us: Microseconds
    p95_us: Microseconds
    samples: Count


class ComparedTimes(msgspec.Struct, frozen=True):
    """How the round trip divides: from clients to the near place, between both, from the far place to servers."""

    before: ComparedShare | None
    between: ComparedShare | None
    beyond: ComparedShare | None


class ComparedPair(msgspec.Struct, frozen=True):
    """Two neighbouring places. `near` is that at the clients' side for most of the handshakes."""

    near: str
    far: str
    near_handshakes: Count
    far_handshakes: Count
    both: Annotated[int, said("handshakes seen at both places", minimum=0)]
    translated: Annotated[int, said("of these, joined over other addresses or sequence numbers", minimum=0)]
    other_way: Annotated[int, said("of these, with the client at the other side", minimum=0)]
    missing: Annotated[int, said("seen at the near place only, though the far one watched", minimum=0)]
    not_judged: Annotated[int, said("seen at one place only, for reasons that are not known", minimum=0)]
    hops: Annotated[int | None, said("routers in between; null where SYNs passed different numbers of them")]
    clock_offset_us: Annotated[float | None, said("microseconds by which the far place's clock is ahead")]
    clock_error_us: Annotated[float | None, said("microseconds that bound the error of this; null where not known")]
    findings: Annotated[tuple[ComparedFinding, ...], said("the most important one first")]
    rtt: ComparedTimes | None
    notes: Annotated[tuple[str, ...], said("sentences: why less is said")]


class CompareRecord(msgspec.Struct, frozen=True, tag_field="event", tag="compare"):
    """What `tfotrace compare --json` prints: each place compared with the next one."""

    schema: Version
    between: tuple[ComparedPair, ...]


def as_json(found: Sequence[Comparison]) -> bytes:
    """One line without its end."""
    return msgspec.json.encode(CompareRecord(SCHEMA, tuple(map(_pair, found))))


def _pair(one: Comparison) -> ComparedPair:
    offset = one.offset
    return ComparedPair(
        one.near, one.far, *one.seen, one.both, one.translated, one.other_way, one.missing, one.not_judged, one.hops,
        None if offset is None else offset.ns / 1000,
        None if offset is None or offset.error_ns is None else offset.error_ns / 1000,
        tuple(map(_finding, one.findings)), _times(one.times), tuple(one.doubts),
    )  # fmt: skip


def _finding(one: Finding) -> ComparedFinding:
    return ComparedFinding(
        one.what, one.piece, one.towards, one.before, one.after, one.count, one.of, one.certain, one.handshakes,
        one.servers, sentence(one),
    )  # fmt: skip


def _times(one: Times | None) -> ComparedTimes | None:
    return None if one is None else ComparedTimes(*map(_share, (one.before, one.between, one.beyond)))


def _share(one: Share | None) -> ComparedShare | None:
    return None if one is None else ComparedShare(one.median_us, one.p95_us, one.samples)
