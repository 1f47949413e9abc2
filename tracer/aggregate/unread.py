"""What the summary says of packets that gave no handshake, so that its silence is not taken for an empty wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from tracer.records.run import End
from tracer.vocabulary.packets import MALFORMED, NOT_READ, malformed
from tracer.vocabulary.printable import plural


class Source(Enum):
    """What a run read; the value says why no SYN was there."""

    INTERFACES = "no SYN came by: the connections began before, or their SYNs take another road"
    CAPTURE = "the capture has no SYN: it began after the connections did, or was filtered"
    RECORDS = "no SYN was seen: the connections began before, or their SYNs took another road"


def tell_not_read(frames: Mapping[str, int], source: Source, narrate: Callable[[str], None]) -> None:
    """Narrate how many frames of which kind were not read, and where what is inside can be seen."""
    known = {kind: count for kind, count in frames.items() if kind in NOT_READ and count}
    if not known:
        return
    parts = [f"{count:,} inside {NOT_READ[kind].name}" for kind, count in known.items()]
    parts[0] = parts[0].replace(" ", f" {plural(next(iter(known.values())), 'frame')} ", 1)
    narrate(f"not read: {', '.join(parts)}. Handshakes in there {_where(known, source)}")


def _where(frames: Mapping[str, int], source: Source) -> str:
    kinds = [NOT_READ[kind] for kind in frames]
    examples = [kind.interface for kind in kinds if kind.interface is not None]
    if source is Source.INTERFACES and examples:
        return (
            f"are seen only at the tunnel's own interface ({examples[0]}, say), if this host is its end: trace that, "
            "or `any`"
        )
    if source is Source.CAPTURE and all(kind.is_replayed for kind in kinds):
        return (
            "are not among these: they are cut, fragmented, nested too deep, or of a form that a replay does not read"
        )
    if source is Source.CAPTURE and not any(kind.is_replayed for kind in kinds):
        *names, last = (one.name for one in NOT_READ.values() if one.is_replayed)
        return f"are not among these: a replay reads into {', '.join(names)} and {last}, and into nothing else"
    return "are not among these"


def tell_why_none(record: End, source: Source, narrate: Callable[[str], None]) -> None:
    """Narrate what the packets of a run without any handshake were; nothing where nobody counted them."""
    counters = record.counters
    packets = counters.get("packets")
    if packets is None:
        return
    if not packets:
        narrate("no packet was read")
        return
    syns, synacks, fragments = (counters.get(name, 0) for name in ("syns", "synacks", "fragments"))
    bad = malformed(counters)
    told = {
        plural(syns, "SYN"): syns,
        plural(synacks, "SYN-ACK"): synacks,
        f"malformed ({_main_reason(bad)})": sum(bad.values()),
        f"{plural(fragments, 'fragment')} after the first": fragments,
        "not read": sum((record.not_read or {}).values()),
        "of other kinds": counters.get("not_tcp", 0),
    }
    # older files do not tell TCP from what else they held
    segments = max(0, packets - sum(told.values())) if "not_tcp" in counters else 0
    told = {"TCP without SYN": segments, **told}
    parts = ", ".join(f"{count:,} {what}" for what, count in told.items() if count)
    narrate(f"{packets:,} {plural(packets, 'packet')} seen" + (f": {parts}" if parts else ""))
    # SYNs may be among what could not be read
    if not syns and (segments or synacks) and not (bad or fragments or record.not_read):
        narrate(source.value)


def _main_reason(bad: Mapping[str, int]) -> str:
    if not bad:
        return ""
    reason = MALFORMED[next(iter(bad))]
    return reason if len(bad) == 1 else f"mostly {reason}"
