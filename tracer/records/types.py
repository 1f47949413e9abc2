"""Types of the records' fields: what JSON Schema says of a field beyond its Python type.

Nothing here is checked when a record is read: a word that a newer version of the same schema added must not keep this
one from reading the line. So formats, patterns and vocabularies go into the schema (`extra_json_schema`) and not into
msgspec's own constraints.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from tracer.dissect.options import MPTCP_SUBTYPES, NAMES, TFO_EXPERIMENTAL, mptcp_subtype
from tracer.dissect.payload import Protocol
from tracer.vocabulary.vocabulary import (
    CAUSE_WORDS,
    CONFIDENCE_WORDS,
    COOKIE_CHECK_WORDS,
    ECN_WORDS,
    GROUP_WORDS,
    OUTCOME_WORDS,
    REASON_WORDS,
    REQUEST_WORDS,
    RESULT_WORDS,
    VANTAGE_WORDS,
    Hook,
    Outcome,
    Transport,
    known,
    word,
)

SCHEMA_VERSION = 1


def said(text: str, **schema: Any) -> msgspec.Meta:
    """Description of a field, and keywords of JSON Schema."""
    return msgspec.Meta(description=text, extra_json_schema=schema or None)


_TIMESTAMP = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$"
IP_FORMS: list[dict[str, str]] = [{"format": "ipv4"}, {"format": "ipv6"}]
_RESULTS = RESULT_WORDS[1:]
_MPTCP: list[str | None] = [mptcp_subtype(number) for number in range(16)]
assert tuple(_MPTCP[: len(MPTCP_SUBTYPES)]) == MPTCP_SUBTYPES


def _counted_by(text: str, keys: Iterable[str]) -> msgspec.Meta:
    return said(f"{text}; words that were not seen are left out", propertyNames={"enum": list(keys)})


# --- every record ---

Version = Annotated[int, said("version of the records; within one version fields are only added", const=SCHEMA_VERSION)]
Timestamp = Annotated[str, said("RFC 3339, UTC, nanoseconds", format="date-time", pattern=_TIMESTAMP)]
Count = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0})]
Microseconds = Annotated[float, said("microseconds")]
MaybeMicroseconds = Annotated[float | None, said("microseconds")]
Counters = Annotated[dict[str, int], said("counters of the kernel programs, by name")]

# --- addresses ---

Ip = Annotated[str, said("IPv4 or IPv6 address", anyOf=IP_FORMS)]
MaybeIp = Annotated[str | None, said("IPv4 or IPv6 address")]
Port = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 65535})]
HandshakeId = Annotated[
    str,
    said(
        "hash of the 4-tuple and the client's initial sequence number: the same on every interface and host that sees "
        "the handshake",
        pattern="^[0-9a-f]{16}$",
    ),
]
CommunityId = Annotated[str, said("Community ID version 1, seed 0", pattern="^1:")]
Vlans = Annotated[tuple[int, ...], said("VLAN ids, the outer one first", maxItems=2)]
VantageWord = Annotated[str, said("whose address is local to the traced network namespace", enum=VANTAGE_WORDS)]
HookWord = Annotated[str, said("where packets were read", enum=[*(hook.value for hook in Hook), "replay", "unknown"])]

# --- the handshake ---

ResultWord = Annotated[str, said("what became of the handshake", enum=_RESULTS)]
SettledBy = Annotated[
    str,
    said("what made the record final", enum=REASON_WORDS[1:]),
]
SynackDelay = Annotated[float | None, said("microseconds, SYN to SYN-ACK, wherever seen")]
AckDelay = Annotated[float | None, said("microseconds, SYN-ACK to ACK, wherever seen")]
Rtt = Annotated[
    float | None,
    said("microseconds: at the client SYN to SYN-ACK, at the server SYN-ACK to ACK, in transit the sum"),
]
FirstResponse = Annotated[float | None, said("microseconds, first SYN to the server's first data byte")]
SynCount = Annotated[int, said("SYNs seen, retransmissions included", minimum=0)]
SynackCount = Annotated[int, said("SYN-ACKs seen, retransmissions included", minimum=0)]
LateSyns = Annotated[int, said("SYNs with the same sequence number after the record was settled", minimum=0)]

# --- segments ---

Sequence = Annotated[int, said("sequence number", minimum=0, maximum=0xFFFFFFFF)]
PayloadBytes = Annotated[int, said("bytes of data in this segment", minimum=0, maximum=65535)]
AckedBytes = Annotated[int, said("bytes of the first SYN's data that this acks", minimum=0)]
Mss = Annotated[int | None, said("maximum segment size in bytes; null without the option")]
Wscale = Annotated[int | None, said("window scale, a power of two; null without the option")]
Window = Annotated[int, said("bytes, not scaled", minimum=0, maximum=65535)]
TsVal = Annotated[int | None, said("TSval; null without the option")]
TsEcr = Annotated[int | None, said("TSecr; null without the option")]
Ttl = Annotated[int, said("TTL or hop limit as it arrived", minimum=0, maximum=255)]
Hops = Annotated[int, said("routers passed, guessed from an initial TTL of 64, 128 or 255", minimum=0)]
Ecn = Annotated[str, said("what this segment asks for or grants (RFC 3168, RFC 9768)", enum=ECN_WORDS)]
NegotiatedEcn = Annotated[str, said("what both ends will use", enum=ECN_WORDS)]
Mptcp = Annotated[str | None, said("subtype of the first MPTCP option", enum=[*_MPTCP, None])]
Options = Annotated[
    tuple[str, ...],
    said(
        f"options in their order: {', '.join([*NAMES.values(), TFO_EXPERIMENTAL])}, kind_N for others, malformed for a "
        "rest that cannot be read"
    ),
]

# --- TCP Fast Open ---

RequestWord = Annotated[str, said("what the first SYN asked for", enum=REQUEST_WORDS)]
OutcomeWord = Annotated[
    str | None,
    said(
        "what came of it, read off the wire; null where the answer took a road that is not traced",
        enum=OUTCOME_WORDS,
    ),
]
GroupWord = Annotated[str | None, said("how good that outcome is", enum=[*GROUP_WORDS, None])]
OptionKind = Annotated[int | None, said("34, or 253 or 254 for the experimental form; null without the option")]
CookieLength = Annotated[int | None, said("bytes; 0 is a request; null without the option")]
CookieId = Annotated[
    str | None,
    said("the cookie under a key of this run: equal within a run if the cookies are equal", pattern="^[0-9a-f]{8}$"),
]
Cookie = Annotated[str | None, said("the cookie in hex; null without --show-cookies", pattern="^([0-9a-f]{2})+$")]
CookieCheckWord = Annotated[
    str | None,
    said("a cookie that arrived at this host under its kernel's keys", enum=COOKIE_CHECK_WORDS),
]
CauseWord = Annotated[str | None, said("why, an inference", enum=CAUSE_WORDS)]
ConfidenceWord = Annotated[str | None, said("how sure the cause is", enum=CONFIDENCE_WORDS)]
RttSaved = Annotated[float | None, said("microseconds: rtt_us if all SYN data was acked, 0 if none was, else null")]
Delay = Annotated[float | None, said("microseconds, first SYN to the SYN that was answered: what a fallback cost")]

# --- what the SYN carried ---

ProtocolWord = Annotated[
    str | None, said("null where the data was not captured", enum=[*(one.value for one in Protocol), None])
]
Sni = Annotated[str | None, said("server name; control characters and bytes that are not UTF-8 are escaped")]
P0f = Annotated[str, said("p0f 3's signature of the SYN, ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass")]

# --- the run ---

TransportWord = Annotated[str, said("how records reach user space", enum=[*(one.value for one in Transport)])]
ResultCounts = Annotated[dict[str, int], _counted_by("handshakes by result", _RESULTS)]
RequestCounts = Annotated[dict[str, int], _counted_by("handshakes by request", REQUEST_WORDS)]
OutcomeCounts = Annotated[
    dict[str, int],
    _counted_by("handshakes by outcome, `unknown` where a record has null", [word(outcome) for outcome in Outcome]),
]
GroupCounts = Annotated[dict[str, int], _counted_by("handshakes by group", GROUP_WORDS)]
CauseCounts = Annotated[dict[str, int], _counted_by("handshakes by cause", known(CAUSE_WORDS))]
