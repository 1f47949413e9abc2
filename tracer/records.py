"""The records of DESIGN.md section 3: the one definition that JSON lines, text and `tfotrace schema` are made from.

Durations are microseconds (`*_us`), sizes bytes, `ts` is RFC 3339 UTC with nanoseconds. What is not known is null.
A handshake's structs hold no containers but tuples of plain values, so no cycle goes through them, and the garbage
collector need not look at them (`gc=False`): a hundred thousand a second of them would keep it busy.
"""

from __future__ import annotations

from typing import Any

import msgspec

SCHEMA = 1


class Process(msgspec.Struct, frozen=True, gc=False):
    """Whose socket it is, where that is known for certain."""

    pid: int
    name: str
    uid: int
    cgroup: str | None = None


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One end of a connection."""

    ip: str
    port: int
    process: Process | None = None


class Icmp(msgspec.Struct, frozen=True, gc=False):
    """The ICMP or ICMPv6 error that refused the SYN."""

    type: int
    code: int


class Timing(msgspec.Struct, frozen=True, gc=False):
    """The handshake as a whole. `settled_by` says what made the record final; `challenge_acks` are bare ACKs that
    answered the SYN, since the server still held a connection of this 4-tuple (RFC 5961, section 4)."""

    result: str
    settled_by: str
    syn_count: int
    synack_count: int
    late_syns: int
    synack_delay_us: float | None
    ack_delay_us: float | None
    rtt_us: float | None
    first_response_us: float | None
    icmp: Icmp | None = None
    challenge_acks: int = 0


class Segment(msgspec.Struct, frozen=True, gc=False):
    """The first SYN or the first SYN-ACK as it was on the wire; window unscaled."""

    seq: int
    payload_len: int
    mss: int | None
    wscale: int | None
    window: int
    sack_permitted: bool
    ts_val: int | None
    ts_ecr: int | None
    ttl: int
    hops: int
    ecn: str
    mptcp: str | None
    md5: bool
    ao: bool
    options: tuple[str, ...]


class SynAck(Segment, frozen=True, gc=False):
    """The SYN-ACK also says how much of the SYN's data it acks."""

    acked_payload_len: int


class Negotiated(msgspec.Struct, frozen=True, gc=False):
    """What counts because both ends offered it."""

    wscale: bool
    sack: bool
    timestamps: bool
    ecn: str
    mptcp: bool


class Tfo(msgspec.Struct, frozen=True, gc=False):
    """TCP Fast Open: what was asked, what came of it, what it saved (TFO.md section 3)."""

    request: str
    outcome: str | None
    group: str | None
    kind: int | None
    cookie_len: int | None
    cookie_id: str | None
    cookie: str | None
    synack_kind: int | None
    synack_cookie_len: int | None
    synack_cookie_id: str | None
    synack_cookie: str | None
    cookie_check: str | None
    cause: str | None
    cause_confidence: str | None
    rtt_saved_us: float | None
    delay_us: float | None


class PayloadInfo(msgspec.Struct, frozen=True, gc=False):
    """What the SYN's data is. `captured`: it was seen; `truncated`: the message goes on beyond the SYN."""

    protocol: str | None
    captured: bool
    truncated: bool | None


class TlsInfo(msgspec.Struct, frozen=True, gc=False):
    """From the ClientHello in the SYN."""

    sni: str | None
    alpn: tuple[str, ...] | None
    ech: bool


class HttpInfo(msgspec.Struct, frozen=True, gc=False):
    """From the HTTP request in the SYN."""

    method: str
    host: str | None


class DnsInfo(msgspec.Struct, frozen=True, gc=False):
    """From the DNS query in the SYN."""

    name: str
    type: str


class Signature(msgspec.Struct, frozen=True, gc=False):
    """Fingerprints."""

    p0f: str


class Handshake(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="handshake"):
    """One settled handshake."""

    schema: int
    ts: str
    id: str
    interface: str
    hook: str
    vlan: tuple[int, ...]
    vantage: str
    community_id: str
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
    hook: str
    why: str
    group: int
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Start(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    """First record of a run. `boot_clock_offset_ns`: CLOCK_REALTIME - CLOCK_MONOTONIC.

    In a file that goes on where another one was rotated or reopened it is repeated, with `part` 2, 3 ...
    """

    schema: int
    ts: str
    version: str
    argv: tuple[str, ...]
    kernel: str
    interfaces: tuple[InterfaceInfo, ...]
    transport: str
    table_size: int
    boot_clock_offset_ns: int
    part: int = 1


class Balance(msgspec.Struct, frozen=True):
    """DESIGN.md section 5: opened = emitted + lost + evicted + suppressed + still_open, each counted where it happens.

    `received` of the emitted came to user space, `dropped` of these were not written by every sink.
    """

    opened: int
    emitted: int
    lost: int
    evicted: int
    suppressed: int
    still_open: int
    received: int
    dropped: int


class Totals(msgspec.Struct, frozen=True):
    """Sums over the run. Acceptance is tfo_accepted (SYN data acked whole) of tfo_with_data (attempts with data).

    `net_saved_us` is rtt_saved_us less delay_us, what the fallbacks of attempts cost.
    """

    handshakes: int
    results: dict[str, int]
    tfo_attempts: int
    tfo_with_data: int
    tfo_accepted: int
    requests: dict[str, int]
    outcomes: dict[str, int]
    groups: dict[str, int]
    causes: dict[str, int]
    rtt_saved_us: float
    delay_us: float
    net_saved_us: float


class Benefit(msgspec.Struct, frozen=True):
    """What Fast Open is worth with one server: first SYN to the server's first data byte, with SYN data acked whole
    (tfo) and without data in the SYN (normal), of a run that has at least ten samples of both.

    `sooner_us` is normal_median_us less tfo_median_us, `sooner_rtts` the same in median round trips.
    """

    ip: str
    port: int
    tfo_samples: int
    normal_samples: int
    tfo_median_us: float
    tfo_p90_us: float
    normal_median_us: float
    normal_p90_us: float
    rtt_median_us: float | None
    sooner_us: float
    sooner_rtts: float | None


class Stats(msgspec.Struct, frozen=True, tag_field="event", tag="stats"):
    """Every 10 seconds: the balance sheet, the kernel programs' counters, the totals so far."""

    schema: int
    ts: str
    balance: Balance
    counters: dict[str, int]
    totals: Totals


class NoticeRecord(msgspec.Struct, frozen=True, tag_field="event", tag="notice"):
    """Something people want to know now: a word for programs and a sentence."""

    schema: int
    ts: str
    kind: str
    text: str
    interface: str | None


class End(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    """Last record of a run: why it ended, the totals, the balance; what Fast Open is worth with the servers that have
    most samples."""

    schema: int
    ts: str
    reason: str
    exit_code: int
    duration_s: float
    totals: Totals
    balance: Balance
    counters: dict[str, int]
    benefits: tuple[Benefit, ...] = ()


Record = Start | Handshake | Stats | NoticeRecord | End


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of every record, and of what `tfotrace doctor --json` prints."""
    from tracer.doctor.model import Report

    schema = msgspec.json.schema(Record | Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tfotrace record", **schema}
