"""What a probe found as JSON, one line a target: the definition that `tfotrace schema` shows, too."""

from __future__ import annotations

import errno
from typing import Annotated

import msgspec

from tracer.probe.model import Agreed, Answer, Benefit, Passage, Payload, Probed, Side, Verdict
from tracer.probe.passage import EXTRAS
from tracer.probe.text import of_answer, sentence, to_do
from tracer.records.record import SCHEMA
from tracer.records.types import Count, Ip, MaybeMicroseconds, Microseconds, Port, Version, said

_CONFIDENCE = 0.95
VerdictWord = Annotated[Verdict, said("what Fast Open does between here and there")]
Number = Annotated[int, said("connections", minimum=0)]
MaybeCount = Annotated[int | None, msgspec.Meta(extra_json_schema={"minimum": 0})]


class ProbedSide(msgspec.Struct, frozen=True):
    """The connections of one kind, with Fast Open or without. Times are medians."""

    connections: Count
    established: Count
    answered: Annotated[int, said("to which the server sent data", minimum=0)]
    syn_sent_again: Annotated[int, said("whose first SYN was not the only one", minimum=0)]
    rtt_us: MaybeMicroseconds
    first_response_us: MaybeMicroseconds


class ProbedCookie(msgspec.Struct, frozen=True):
    """Cookies that were granted. `cached_before`: this host had one already; `stale`: the server did not take that."""

    len: Annotated[int | None, said("bytes; null where none was granted")]
    different: Count
    cached_before: bool
    stale: bool


class ProbedSynData(msgspec.Struct, frozen=True):
    """SYNs with data and a cookie, and what became of them."""

    tried: Number
    taken: Annotated[int, said("all data was acked by the SYN-ACK", minimum=0)]
    served: Annotated[int, said("of these, those that got an answer", minimum=0)]
    not_taken: Annotated[int, said("an answer to that SYN did not ack the data", minimum=0)]
    unanswered: Annotated[int, said("no answer, while a later SYN without data had one", minimum=0)]
    cookie_replaced: Annotated[int, said("a new cookie came back instead", minimum=0)]


class ProbedNegotiated(msgspec.Struct, frozen=True):
    """What the newest answered handshake agreed on. `hops`: routers to the server, by the SYN-ACK's TTL."""

    mss: Annotated[int | None, said("the server's, bytes")]
    wscale: Annotated[int | None, said("the server's")]
    sack: bool
    timestamps: bool
    hops: Count


class ProbedSaving(msgspec.Struct, frozen=True):
    """How much sooner the server answers with Fast Open, and the confidence interval; null with too few of either."""

    us: Microseconds
    low_us: MaybeMicroseconds
    high_us: MaybeMicroseconds
    confidence: float | None


class ProbedAddress(msgspec.Struct, frozen=True):
    """One address of a server."""

    ip: Ip
    verdict: VerdictWord
    sentence: str
    plain: ProbedSide
    fast_open: ProbedSide
    cookie: ProbedCookie
    syn_data: ProbedSynData
    path: Annotated[
        dict[str, Passage],
        said(
            "SYNs that asked for more; what was not asked is left out",
            propertyNames={"enum": [asks.value for asks in EXTRAS]},
        ),
    ]
    outcomes: Annotated[dict[str, int], said("connections by tfo.outcome")]
    client_fail: Annotated[dict[str, int], said("connections by tfo.client_fail")]
    negotiated: ProbedNegotiated | None
    saves: ProbedSaving | None
    errors: Annotated[tuple[str, ...], said("names of errno, one for each connection that failed")]
    handshakes: Annotated[tuple[str, ...], said("ids of the records of these connections")]


class ProbeRecord(msgspec.Struct, frozen=True, tag_field="event", tag="probe"):
    """What `tfotrace probe --json` prints: one line a target."""

    schema: Version
    target: Annotated[str, said("host and port, as in HOST:PORT")]
    host: str
    port: Port
    payload: Annotated[Payload, said("what was sent")]
    verdict: VerdictWord
    sentence: str
    to_do: Annotated[str, said("what follows from the verdict, a sentence")]
    addresses: tuple[ProbedAddress, ...]


def as_json(one: Probed, payload: Payload) -> bytes:
    """One line without its end."""
    return msgspec.json.encode(
        ProbeRecord(
            SCHEMA, one.target.name, one.target.host, one.target.port, payload, one.verdict, sentence(one), to_do(one),
            tuple(map(_address, one.answers)),
        )
    )  # fmt: skip


def _address(one: Answer) -> ProbedAddress:
    return ProbedAddress(
        one.ip,
        one.verdict,
        of_answer(one),
        _side(one.plain),
        _side(one.fast_open),
        ProbedCookie(one.cookie_len, one.cookies, one.was_cached, one.was_stale),
        ProbedSynData(one.tried, one.taken, one.lived, one.refused, one.unanswered, one.replaced),
        {asks.value: passage for asks, passage in one.passage.items()},
        one.outcomes,
        one.fails,
        _negotiated(one.negotiated),
        _saving(one.benefit),
        tuple(errno.errorcode.get(each.error, str(each.error)) for each in one.connections if each.error),
        tuple(each.record.id for each in one.connections if each.record is not None),
    )


def _side(one: Side) -> ProbedSide:
    return ProbedSide(one.connections, one.established, one.answered, one.syns_again, one.rtt_us, one.first_response_us)


def _negotiated(one: Agreed | None) -> ProbedNegotiated | None:
    return None if one is None else ProbedNegotiated(one.mss, one.wscale, one.sack, one.timestamps, one.hops)


def _saving(one: Benefit | None) -> ProbedSaving | None:
    if one is None:
        return None
    return ProbedSaving(one.sooner_us, one.low_us, one.high_us, None if one.low_us is None else _CONFIDENCE)
