"""The records of a run itself, of DESIGN.md section 3: its start, its end, its sums every 10 seconds, and notices.

Durations are microseconds (`*_us`); what is not known is null.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from tracer.records.cost import Cost
from tracer.records.drop import EvidenceInfo
from tracer.records.failed_at import FailedAt
from tracer.records.interface_sums import InterfaceSums
from tracer.records.record import Handshake, HookWord
from tracer.records.types import Count, Counters, Ip, MaybeMicroseconds, Microseconds, Port, Timestamp, Version, said
from tracer.records.without import Without
from tracer.vocabulary.packets import NOT_READ
from tracer.vocabulary.vocabulary import (
    AFTER_WORDS,
    CAUSE_WORDS,
    DIFFERENCE_WORDS,
    GROUP_WORDS,
    HANDSHAKE_CAUSE_WORDS,
    REQUEST_WORDS,
    RESULT_WORDS,
    Outcome,
    Transport,
    known,
    word,
)

_RESULTS, _OUTCOMES = RESULT_WORDS[1:], [word(outcome) for outcome in Outcome]


def _counted_by(text: str, keys: Iterable[str]) -> msgspec.Meta:
    return said(f"{text}; words that were not seen are left out", propertyNames={"enum": list(keys)})


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
    transport: Annotated[str, said("how records reach user space", enum=[*(one.value for one in Transport)])]
    table_size: int
    boot_clock_offset_ns: int
    part: int = 1
    evidence: Annotated[EvidenceInfo | None, said("null in a replay, and in older files")] = None

    without: Annotated[
        tuple[Without, ...] | None,
        said("what this run does without, since the kernel does not give it; null in a replay, and in older files"),
    ] = None


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
    """Sums over the run. Of tfo_with_data (attempts with data) tfo_accepted had their SYN data acked whole, and of
    these tfo_lived went on: the server answered, closed, or acked what followed, without a reset before its answer.
    Only these show that Fast Open works.

    `net_saved_us` is rtt_saved_us less delay_us, what the fallbacks of attempts cost: a figure for adding up, no
    measure of Fast Open's worth, since a SYN without it is lost as easily.
    """

    handshakes: Count
    results: Annotated[dict[str, int], _counted_by("handshakes by result", _RESULTS)]
    tfo_attempts: Count
    tfo_with_data: Count
    tfo_accepted: Count
    requests: Annotated[dict[str, int], _counted_by("handshakes by request", REQUEST_WORDS)]
    outcomes: Annotated[
        dict[str, int],
        _counted_by("handshakes by outcome, `unknown` where a record has null", _OUTCOMES),
    ]
    groups: Annotated[dict[str, int], _counted_by("handshakes by group", GROUP_WORDS)]
    causes: Annotated[dict[str, int], _counted_by("handshakes by Fast Open's cause", known(CAUSE_WORDS))]
    rtt_saved_us: Microseconds
    delay_us: Microseconds
    net_saved_us: Microseconds
    tfo_lived: Annotated[int | None, said("SYN data acked whole, and the connection lived; null in older files")] = None
    after: Annotated[
        dict[str, int] | None, _counted_by("established connections by what settled them", known(AFTER_WORDS))
    ] = None
    died: Annotated[
        dict[str, int] | None,
        _counted_by("handshakes by outcome whose connection died afterwards, so that their group is failed", _OUTCOMES),
    ] = None
    handshake_causes: Annotated[
        dict[str, int] | None, _counted_by("handshakes by handshake.cause", known(HANDSHAKE_CAUSE_WORDS))
    ] = None
    handshake_confidences: Annotated[
        dict[str, str] | None, said("how sure each of these causes is where it is surest; null in older files")
    ] = None
    failed_causes: Annotated[
        dict[str, dict[str, int]] | None,
        said("handshakes that failed, by result and then by handshake.cause; null in older files"),
    ] = None
    failed_at: Annotated[
        tuple[FailedAt, ...] | None,
        said("the server, or else the port, of more than half of each result that is a failure; null in older files"),
    ] = None
    tfo_resent: Annotated[
        int | None,
        said("attempts answered only after their SYN was sent again: delay_us has what that took; null in older files"),
    ] = None
    cause_confidences: Annotated[
        dict[str, str] | None, said("how sure each cause of `causes` is where it is surest; null in older files")
    ] = None


class Benefit(msgspec.Struct, frozen=True):
    """What Fast Open is worth with one server: first SYN to the server's first data byte, with SYN data acked whole
    (tfo) and without data in the SYN (normal), of a run that has at least ten samples of both.

    `sooner_us` is normal_median_us less tfo_median_us, `sooner_rtts` the same in median round trips. It is a fact only
    where `difference` is sooner or later.
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
    sooner_low_us: Annotated[
        float | None, said("microseconds, where the 95 % confidence interval of sooner_us begins; null in older files")
    ] = None
    sooner_high_us: Annotated[float | None, said("microseconds, where it ends; null in older files")] = None
    difference: Annotated[
        str | None,
        said(
            "what the medians show; no_difference: the interval spans 0, or they differ by less than a twentieth of a "
            "round trip; much_sooner, much_later: by more than a round trip, which is not Fast Open's doing alone; "
            "null in older files",
            enum=DIFFERENCE_WORDS,
        ),
    ] = None


class Stats(msgspec.Struct, frozen=True, tag_field="event", tag="stats"):
    """Every 10 seconds: the balance sheet, the kernel programs' counters, the totals so far, what tracing costs."""

    schema: Version
    ts: Timestamp
    balance: Balance
    counters: Counters
    totals: Totals
    cost: Annotated[Cost | None, said("null in a replay, and in older files")] = None


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
    duration_s: Annotated[
        float, said("how long the run took; where a capture was replayed, from its first packet to its last")
    ]
    totals: Totals
    balance: Balance | None
    counters: Counters
    benefits: tuple[Benefit, ...] = ()
    not_read: Annotated[
        dict[str, int] | None,
        _counted_by("frames that may hold handshakes which were not read, by what they are inside", NOT_READ),
    ] = None
    interfaces: Annotated[InterfaceSums | None, said("null in a replay, and in older files")] = None
    cost: Annotated[Cost | None, said("null in a replay, and in older files")] = None


Record = Start | Handshake | Stats | NoticeRecord | End
