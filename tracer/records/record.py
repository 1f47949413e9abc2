"""A handshake's record, of DESIGN.md section 3: the one definition that JSON lines, text and `tfotrace schema` are made
from. A run's other records are in run.py.

Durations are microseconds (`*_us`), sizes bytes, `ts` is RFC 3339 UTC with nanoseconds. What is not known is null.
A field's annotation has what the schema says beyond the Python type (types.py has what many fields share).
A handshake's structs contain no containers but tuples of plain values, so they are never part of a cycle, and the
garbage collector skips them (`gc=False`): a hundred thousand a second would keep it busy.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from tracer.dissect.options import MPTCP_SUBTYPES, NAMES, TFO_EXPERIMENTAL, mptcp_subtype
from tracer.dissect.payload import Protocol
from tracer.records.drop import Drop
from tracer.records.ends import Endpoint, Listener, Nat
from tracer.records.refusal import Icmp, Misfits, Reset
from tracer.records.types import (
    SCHEMA_VERSION,
    Count,
    Timestamp,
    Version,
    said,
)
from tracer.vocabulary.changes import CHANGE_PATTERN
from tracer.vocabulary.vocabulary import (
    AFTER_WORDS,
    ANSWERED_ECN_WORDS,
    CAUSE_AT_WORDS,
    CAUSE_WORDS,
    CLIENT_FAIL_WORDS,
    CONFIDENCE_WORDS,
    COOKIE_CHECK_WORDS,
    ECN_WORDS,
    GROUP_WORDS,
    HANDSHAKE_CAUSE_WORDS,
    OUTCOME_WORDS,
    REASON_WORDS,
    REQUEST_WORDS,
    RESULT_WORDS,
    RESUMED_WORDS,
    UNSENT_HOOK,
    VANTAGE_WORDS,
    WARNING_WORDS,
    Hook,
)

SCHEMA = SCHEMA_VERSION
_RESULTS = RESULT_WORDS[1:]
_MPTCP: list[str | None] = [mptcp_subtype(number) for number in range(16)]
assert tuple(_MPTCP[: len(MPTCP_SUBTYPES)]) == MPTCP_SUBTYPES

Options = Annotated[
    tuple[str, ...],
    said(
        f"options in their order: {', '.join([*NAMES.values(), TFO_EXPERIMENTAL])}, kind_N for others; "
        "a rest that cannot be read is left out"
    ),
]
_HOOKS = [*(hook.value for hook in Hook), "replay", "unknown"]
HookWord = Annotated[str, said("where packets were read", enum=_HOOKS)]
OptionKind = Annotated[int | None, said("34, or 253 or 254 for the experimental form; null without the option")]
CookieLength = Annotated[int | None, said("bytes; 0 is a request; null without the option")]
CookieId = Annotated[
    str | None,
    said("the cookie under a key of this run: equal within a run if the cookies are equal", pattern="^[0-9a-f]{8}$"),
]
Cookie = Annotated[str | None, said("the cookie in hex; null without --show-cookies", pattern="^([0-9a-f]{2})+$")]


class Timing(msgspec.Struct, frozen=True, gc=False):
    """The handshake as a whole. `settled_by` says what made the record final; `challenge_acks` are bare ACKs that
    answered the SYN, since the server still held a connection of this 4-tuple (RFC 5961, section 4).

    From `connect_us` on, fields are null in older files.
    """

    result: Annotated[str, said("what became of the handshake", enum=_RESULTS)]
    settled_by: Annotated[str, said("what made the record final", enum=REASON_WORDS[1:])]
    syn_count: Annotated[int, said("SYNs seen, retransmissions included", minimum=0)]
    synack_count: Annotated[int, said("SYN-ACKs seen, retransmissions included", minimum=0)]
    late_syns: Annotated[int, said("SYNs of syn_count that came after the first SYN-ACK", minimum=0)]
    synack_delay_us: Annotated[float | None, said("microseconds, SYN to SYN-ACK, wherever seen")]
    ack_delay_us: Annotated[float | None, said("microseconds, SYN-ACK to ACK, wherever seen")]
    rtt_us: Annotated[
        float | None,
        said("microseconds: at the client SYN to SYN-ACK, at the server SYN-ACK to ACK, in transit the sum"),
    ]
    first_response_us: Annotated[float | None, said("microseconds, first SYN to the server's first data byte")]
    icmp: Icmp | None = None
    challenge_acks: Annotated[Count, said("bare ACKs that answered the SYN")] = 0
    connect_us: Annotated[
        float | None,
        said("microseconds, first SYN to the client's first segment after the SYN-ACK, retransmissions included"),
    ] = None
    first_request_us: Annotated[
        float | None,
        said("microseconds, first SYN to the client's first data byte; 0 if the SYN carried it and it was taken"),
    ] = None
    after: Annotated[
        str | None,
        said(
            "how the connection went on once it was established; null before, and where the run's end settled it",
            enum=AFTER_WORDS,
        ),
    ] = None
    answered_syn: Annotated[
        int | None, said("which SYN the SYN-ACK answers, 1 is the first; null where that is ambiguous", minimum=1)
    ] = None
    answered_ecn: Annotated[str | None, said("what that SYN asked for", enum=ANSWERED_ECN_WORDS)] = None
    reset: Reset | None = None
    misfits: Misfits | None = None
    copies: Annotated[int | None, said("mirrored segments, which count nowhere else", minimum=0)] = None
    synack_isns: Annotated[
        int | None,
        said(
            "different initial sequence numbers among the SYN-ACKs: of two hosts, or of one with SYN cookies",
            minimum=0,
        ),
    ] = None
    resumed: Annotated[
        str | None,
        said("result of an earlier record of this id, after which the client went on all the same", enum=RESUMED_WORDS),
    ] = None
    request_acked: Annotated[
        bool | None, said("the server acked more than its SYN-ACK did; null before the connection was established")
    ] = None
    request_repeats: Annotated[
        int | None, said("how often the client sent again the first data that the SYN-ACK had not acked", minimum=0)
    ] = None
    drop: Annotated[
        Drop | None, said("a segment of it that this host's kernel dropped; null where it said nothing")
    ] = None
    cause: Annotated[str | None, said("why it failed or took so long, an inference", enum=HANDSHAKE_CAUSE_WORDS)] = None
    cause_confidence: Annotated[str | None, said("how sure the cause is", enum=CONFIDENCE_WORDS)] = None
    cause_at: Annotated[str | None, said("where the cause lies", enum=CAUSE_AT_WORDS)] = None
    listener: Annotated[
        Listener | None, said("this host's listener, where its queue may be the cause; null where nobody asked")
    ] = None


class Segment(msgspec.Struct, frozen=True, gc=False):
    """The first SYN, or the SYN-ACK that the client took (the first if it took none), as it was on the wire; window
    unscaled."""

    seq: Annotated[int, said("sequence number", minimum=0, maximum=0xFFFFFFFF)]
    payload_len: Annotated[int, said("bytes of data in this segment", minimum=0, maximum=65535)]
    mss: Annotated[int | None, said("maximum segment size in bytes; null without the option")]
    wscale: Annotated[int | None, said("window scale, a power of two; null without the option")]
    window: Annotated[int, said("bytes, not scaled", minimum=0, maximum=65535)]
    sack_permitted: Annotated[bool, said("the option is there")]
    ts_val: Annotated[int | None, said("TSval; null without the option")]
    ts_ecr: Annotated[int | None, said("TSecr; null without the option")]
    ttl: Annotated[int, said("TTL or hop limit as it arrived", minimum=0, maximum=255)]
    hops: Annotated[int, said("routers passed, guessed from an initial TTL of 64, 128 or 255", minimum=0)]
    ecn: Annotated[str, said("what this segment asks for or grants (RFC 3168, RFC 9768)", enum=ECN_WORDS)]
    mptcp: Annotated[str | None, said("subtype of the first MPTCP option", enum=[*_MPTCP, None])]
    md5: Annotated[bool, said("the TCP MD5 option is there (RFC 2385)")]
    ao: Annotated[bool, said("TCP-AO is there (RFC 5925)")]
    options: Options


class SynAck(Segment, frozen=True, gc=False, kw_only=True):
    """The SYN-ACK also says how much of the SYN's data it acks.

    Its own fields are keywords only, so that Segment may gain fields with defaults.
    """

    acked_payload_len: Annotated[int, said("bytes of the first SYN's data that this acks", minimum=0)]


class Negotiated(msgspec.Struct, frozen=True, gc=False):
    """What counts because both ends offered it."""

    wscale: Annotated[bool, said("both ends offered window scaling")]
    sack: Annotated[bool, said("both ends permitted SACK")]
    timestamps: Annotated[bool, said("both ends offered timestamps")]
    ecn: Annotated[
        str | None,
        said("what both ends will use; null where only SYNs that were not answered asked for it", enum=ECN_WORDS),
    ]
    mptcp: Annotated[bool, said("both ends offered Multipath TCP")]


class Tfo(msgspec.Struct, frozen=True, gc=False):
    """TCP Fast Open: what was asked, what came of it, what it saved (TFO.md section 3).

    Outcome and `synack_*` are those of the first SYN-ACK, also where the client took one of another host.
    """

    request: Annotated[str, said("what the first SYN asked for", enum=REQUEST_WORDS)]
    outcome: Annotated[
        str | None,
        said(
            "what came of it, read off the wire; null where the answer took a road that is not traced",
            enum=OUTCOME_WORDS,
        ),
    ]
    group: Annotated[str | None, said("how good that outcome is", enum=[*GROUP_WORDS, None])]
    kind: OptionKind
    cookie_len: CookieLength
    cookie_id: CookieId
    cookie: Cookie
    synack_kind: OptionKind
    synack_cookie_len: CookieLength
    synack_cookie_id: CookieId
    synack_cookie: Cookie
    cookie_check: Annotated[
        str | None, said("a cookie that arrived at this host under its kernel's keys", enum=COOKIE_CHECK_WORDS)
    ]
    cause: Annotated[str | None, said("why, an inference", enum=CAUSE_WORDS)]
    cause_confidence: Annotated[str | None, said("how sure the cause is", enum=CONFIDENCE_WORDS)]
    rtt_saved_us: Annotated[
        float | None,
        said(
            "microseconds: rtt_us if all SYN data was acked and the connection lived, 0 if none was acked or the "
            "connection died, else null"
        ),
    ]
    delay_us: Annotated[
        float | None, said("microseconds, first SYN to the SYN that was answered: what a fallback cost")
    ]
    client_fail: Annotated[
        str | None,
        said(
            "what the client's kernel, this host's, says of a failed attempt; null in older files",
            enum=CLIENT_FAIL_WORDS,
        ),
    ] = None


class PayloadInfo(msgspec.Struct, frozen=True, gc=False):
    """What the SYN's data is. `captured`: it was seen; `truncated`: the message goes on beyond the SYN."""

    protocol: Annotated[
        str | None, said("null where the data was not captured", enum=[*(one.value for one in Protocol), None])
    ]
    captured: Annotated[bool, said("the data was seen")]
    truncated: Annotated[bool | None, said("the message goes on beyond the SYN")]


class TlsInfo(msgspec.Struct, frozen=True, gc=False):
    """From the ClientHello in the SYN."""

    sni: Annotated[str | None, said("server name; control characters and bytes that are not UTF-8 are escaped")]
    alpn: tuple[str, ...] | None
    ech: Annotated[bool, said("Encrypted ClientHello was offered")]


class HttpInfo(msgspec.Struct, frozen=True, gc=False):
    """From the HTTP request in the SYN."""

    method: Annotated[str, said("method of the request")]
    host: str | None


class DnsInfo(msgspec.Struct, frozen=True, gc=False):
    """From the DNS query in the SYN."""

    name: Annotated[str, said("name asked for")]
    type: Annotated[str, said("type of the record asked for")]


class Signature(msgspec.Struct, frozen=True, gc=False):
    """Fingerprints."""

    p0f: Annotated[str, said("p0f 3's signature of the SYN, ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass")]


class Handshake(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="handshake"):
    """One settled handshake."""

    schema: Version
    ts: Timestamp
    id: Annotated[
        str,
        said(
            "hash of the 4-tuple and the client's initial sequence number: the same on every interface and host that "
            "sees the handshake",
            pattern="^[0-9a-f]{16}$",
        ),
    ]
    interface: Annotated[
        str | None, said("null: the kernel dropped every SYN before it got there; ts is when it dropped the first")
    ]
    hook: Annotated[str, said("where packets were read; kernel: only its word is known", enum=[*_HOOKS, UNSENT_HOOK])]
    vlan: Annotated[tuple[int, ...], said("VLAN ids, the outer one first", maxItems=2)]
    vantage: Annotated[str, said("whose address is local to the traced network namespace", enum=VANTAGE_WORDS)]
    community_id: Annotated[str, said("Community ID version 1, seed 0", pattern="^1:")]
    client: Endpoint
    server: Endpoint
    handshake: Timing
    syn: Segment
    synack: SynAck | None
    negotiated: Negotiated | None
    tfo: Tfo
    payload: PayloadInfo | None
    tls: TlsInfo | None
    http: HttpInfo | None
    dns: DnsInfo | None
    signature: Signature
    through: Annotated[
        tuple[str, ...],
        said(
            "tunnels that a replay read into to find it, the outermost first: gre, vxlan, geneve, ipip (IP in IP); "
            "interface is where the outer packets were seen, vlan is that of the inner one"
        ),
    ] = ()
    warnings: Annotated[
        tuple[str, ...], said("options of SYN or SYN-ACK that cannot work", items={"enum": WARNING_WORDS})
    ] = ()
    nat: Annotated[
        Nat | None, said("the same handshake on the other side of a translation by this host; null where none was seen")
    ] = None
    changed_on_host: Annotated[
        tuple[str, ...] | None,
        said(
            "what changed in SYN and SYN-ACK on the way through this host: `tfotrace compare`'s word, the segment, the "
            "values before and after, as in `mss_changed syn 1460 > 1300`; empty where nothing did, null where it was "
            "not seen at two interfaces",
            items={"pattern": CHANGE_PATTERN},
        ),
    ] = None
