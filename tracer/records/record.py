"""The records of DESIGN.md section 3: the one definition that JSON lines, text and `tfotrace schema` are made from.

Durations are microseconds (`*_us`), sizes bytes, `ts` is RFC 3339 UTC with nanoseconds. What is not known is null.
The fields' types are in types.py, with what the schema says of each.
A handshake's structs hold no containers but tuples of plain values, so no cycle goes through them, and the garbage
collector need not look at them (`gc=False`): a hundred thousand a second of them would keep it busy.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from tracer.records.types import (
    SCHEMA_VERSION,
    AckDelay,
    AckedBytes,
    CauseCounts,
    CauseWord,
    CommunityId,
    ConfidenceWord,
    Cookie,
    CookieCheckWord,
    CookieId,
    CookieLength,
    Count,
    Counters,
    Delay,
    Ecn,
    FirstResponse,
    GroupCounts,
    GroupWord,
    HandshakeId,
    HookWord,
    Hops,
    Ip,
    LateSyns,
    MaybeMicroseconds,
    Microseconds,
    Mptcp,
    Mss,
    NegotiatedEcn,
    OptionKind,
    Options,
    OutcomeCounts,
    OutcomeWord,
    P0f,
    PayloadBytes,
    Port,
    ProtocolWord,
    RequestCounts,
    RequestWord,
    ResultCounts,
    ResultWord,
    Rtt,
    RttSaved,
    Sequence,
    SettledBy,
    Sni,
    SynackCount,
    SynackDelay,
    SynCount,
    Timestamp,
    TransportWord,
    TsEcr,
    TsVal,
    Ttl,
    VantageWord,
    Version,
    Vlans,
    Window,
    Wscale,
    said,
)

SCHEMA = SCHEMA_VERSION


class Process(msgspec.Struct, frozen=True, gc=False):
    """Whose socket it is, where that is known for certain."""

    pid: int
    name: str
    uid: Annotated[int, said("effective user id")]
    cgroup: Annotated[str | None, said("path of its cgroup in the v2 hierarchy")] = None


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One end of a connection."""

    ip: Ip
    port: Port
    process: Process | None = None


class Icmp(msgspec.Struct, frozen=True, gc=False):
    """The ICMP or ICMPv6 error that refused the SYN."""

    type: Annotated[int, said("type of the ICMP error")]
    code: Annotated[int, said("code of the ICMP error")]


class Timing(msgspec.Struct, frozen=True, gc=False):
    """The handshake as a whole. `settled_by` says what made the record final; `challenge_acks` are bare ACKs that
    answered the SYN, since the server still held a connection of this 4-tuple (RFC 5961, section 4)."""

    result: ResultWord
    settled_by: SettledBy
    syn_count: SynCount
    synack_count: SynackCount
    late_syns: LateSyns
    synack_delay_us: SynackDelay
    ack_delay_us: AckDelay
    rtt_us: Rtt
    first_response_us: FirstResponse
    icmp: Icmp | None = None
    challenge_acks: Annotated[Count, said("bare ACKs that answered the SYN")] = 0


class Segment(msgspec.Struct, frozen=True, gc=False):
    """The first SYN or the first SYN-ACK as it was on the wire; window unscaled."""

    seq: Sequence
    payload_len: PayloadBytes
    mss: Mss
    wscale: Wscale
    window: Window
    sack_permitted: Annotated[bool, said("the option is there")]
    ts_val: TsVal
    ts_ecr: TsEcr
    ttl: Ttl
    hops: Hops
    ecn: Ecn
    mptcp: Mptcp
    md5: Annotated[bool, said("the TCP MD5 option is there (RFC 2385)")]
    ao: Annotated[bool, said("TCP-AO is there (RFC 5925)")]
    options: Options


class SynAck(Segment, frozen=True, gc=False, kw_only=True):
    """The SYN-ACK also says how much of the SYN's data it acks.

    Its own fields are keywords only, so that Segment may gain fields with defaults.
    """

    acked_payload_len: AckedBytes


class Negotiated(msgspec.Struct, frozen=True, gc=False):
    """What counts because both ends offered it."""

    wscale: Annotated[bool, said("both ends offered window scaling")]
    sack: Annotated[bool, said("both ends permitted SACK")]
    timestamps: Annotated[bool, said("both ends offered timestamps")]
    ecn: NegotiatedEcn
    mptcp: Annotated[bool, said("both ends offered Multipath TCP")]


class Tfo(msgspec.Struct, frozen=True, gc=False):
    """TCP Fast Open: what was asked, what came of it, what it saved (TFO.md section 3)."""

    request: RequestWord
    outcome: OutcomeWord
    group: GroupWord
    kind: OptionKind
    cookie_len: CookieLength
    cookie_id: CookieId
    cookie: Cookie
    synack_kind: OptionKind
    synack_cookie_len: CookieLength
    synack_cookie_id: CookieId
    synack_cookie: Cookie
    cookie_check: CookieCheckWord
    cause: CauseWord
    cause_confidence: ConfidenceWord
    rtt_saved_us: RttSaved
    delay_us: Delay


class PayloadInfo(msgspec.Struct, frozen=True, gc=False):
    """What the SYN's data is. `captured`: it was seen; `truncated`: the message goes on beyond the SYN."""

    protocol: ProtocolWord
    captured: Annotated[bool, said("the data was seen")]
    truncated: Annotated[bool | None, said("the message goes on beyond the SYN")]


class TlsInfo(msgspec.Struct, frozen=True, gc=False):
    """From the ClientHello in the SYN."""

    sni: Sni
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

    p0f: P0f


class Handshake(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="handshake"):
    """One settled handshake."""

    schema: Version
    ts: Timestamp
    id: HandshakeId
    interface: str
    hook: HookWord
    vlan: Vlans
    vantage: VantageWord
    community_id: CommunityId
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


class InterfaceInfo(msgspec.Struct, frozen=True):
    """A traced interface: the hook that is used and why, and the programs that others have there."""

    name: str
    index: int
    hook: HookWord
    why: str
    group: int
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Start(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    """First record of a run. `boot_clock_offset_ns`: CLOCK_REALTIME - CLOCK_MONOTONIC.

    In a file that goes on where another one was rotated or reopened it is repeated, with `part` 2, 3 ...
    """

    schema: Version
    ts: Timestamp
    version: str
    argv: tuple[str, ...]
    kernel: str
    interfaces: tuple[InterfaceInfo, ...]
    transport: TransportWord
    table_size: int
    boot_clock_offset_ns: int
    part: int = 1


class Balance(msgspec.Struct, frozen=True):
    """DESIGN.md section 5: opened = emitted + lost + evicted + suppressed + still_open, each counted where it happens.

    `received` of the emitted came to user space, `dropped` of these were not written by every sink.
    """

    opened: Count
    emitted: Count
    lost: Count
    evicted: Count
    suppressed: Count
    still_open: Count
    received: Count
    dropped: Count


class Totals(msgspec.Struct, frozen=True):
    """Sums over the run. Acceptance is tfo_accepted (SYN data acked whole) of tfo_with_data (attempts with data).

    `net_saved_us` is rtt_saved_us less delay_us, what the fallbacks of attempts cost.
    """

    handshakes: Count
    results: ResultCounts
    tfo_attempts: Count
    tfo_with_data: Count
    tfo_accepted: Count
    requests: RequestCounts
    outcomes: OutcomeCounts
    groups: GroupCounts
    causes: CauseCounts
    rtt_saved_us: Microseconds
    delay_us: Microseconds
    net_saved_us: Microseconds


class Benefit(msgspec.Struct, frozen=True):
    """What Fast Open is worth with one server: first SYN to the server's first data byte, with SYN data acked whole
    (tfo) and without data in the SYN (normal), of a run that has at least ten samples of both.

    `sooner_us` is normal_median_us less tfo_median_us, `sooner_rtts` the same in median round trips.
    """

    ip: Ip
    port: Port
    tfo_samples: Count
    normal_samples: Count
    tfo_median_us: Microseconds
    tfo_p90_us: Microseconds
    normal_median_us: Microseconds
    normal_p90_us: Microseconds
    rtt_median_us: MaybeMicroseconds
    sooner_us: Microseconds
    sooner_rtts: float | None


class Stats(msgspec.Struct, frozen=True, tag_field="event", tag="stats"):
    """Every 10 seconds: the balance sheet, the kernel programs' counters, the totals so far."""

    schema: Version
    ts: Timestamp
    balance: Balance
    counters: Counters
    totals: Totals


class NoticeRecord(msgspec.Struct, frozen=True, tag_field="event", tag="notice"):
    """Something people want to know now: a word for programs and a sentence."""

    schema: Version
    ts: Timestamp
    kind: str
    text: str
    interface: str | None


class End(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    """Last record of a run: why it ended, the totals, the balance; what Fast Open is worth with the servers that have
    most samples.

    The balance is null where it is not known: in a replay of a recording that was cut, or only partly read.
    """

    schema: Version
    ts: Timestamp
    reason: str
    exit_code: int
    duration_s: float
    totals: Totals
    balance: Balance | None
    counters: Counters
    benefits: tuple[Benefit, ...] = ()


Record = Start | Handshake | Stats | NoticeRecord | End
