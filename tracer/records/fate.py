"""What became of a handshake, and why, in words for people, with or without Fast Open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracer.records.ends import Listener, Nat, Process
from tracer.records.life import drop_of, drop_words, meaning
from tracer.records.record import Handshake, Timing
from tracer.records.refusal import Icmp, Reset
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.causes import short_cause
from tracer.vocabulary.changes import change_words
from tracer.vocabulary.fates import FAILED_WORDS, fate_words
from tracer.vocabulary.icmp import icmp_meaning
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.numbers import duration
from tracer.vocabulary.printable import printable
from tracer.vocabulary.vocabulary import SettleReason, word

_AT: Mapping[str | None, str] = {
    "this_host": "at this host", "server": "at the server", "client": "at the client", "path": "on the path",
}  # fmt: skip


_AT_END = word(SettleReason.AT_END)


def failed(timing: Timing) -> bool:
    """Was the handshake refused, or never finished?"""
    return timing.result in FAILED_WORDS


def standing(record: Handshake) -> str | None:
    """A group for the whole: failed if the handshake failed, degraded if something made it slow, else Fast Open's."""
    if failed(record.handshake) or record.tfo.group == "failed":
        return "failed"
    return "degraded" if record.handshake.cause is not None else record.tfo.group


def told_first(record: Handshake) -> bool:
    """Does what became of the handshake say more than what Fast Open did?"""
    timing, tfo = record.handshake, record.tfo
    if failed(timing):
        return timing.cause is not None or tfo.group != "failed"
    return timing.cause is not None and tfo.outcome == "not_attempted"


def fate(timing: Timing) -> str:
    """Result and cause, for a list: "refused: nobody listens"; of one that was established the cause alone."""
    return printable(fate_words(timing.result, timing.cause, drop_of(timing)))


def reason(timing: Timing) -> str | None:
    """The cause, how sure it is, and what it means and calls for."""
    if timing.cause is None:
        return None
    sure = ", ".join(filter(None, (timing.cause_confidence, _AT.get(timing.cause_at))))
    sentence = meaning(timing, timing.cause)
    return f"Cause{f' ({sure})' if sure else ''}: {printable(sentence)}"


def cause_words(timing: Timing) -> str | None:
    """The cause within a line: "cause no listener (certain)"."""
    return None if timing.cause is None else printable(short_cause(timing.cause, timing.cause_confidence))


def was_cut_short(timing: Timing) -> bool:
    """Did it fail only because the run ended while it was under way?"""
    return timing.settled_by == _AT_END and failed(timing)


def holder(process: Process | None) -> str | None:
    """Name and pid of a process."""
    return None if process is None else f"{printable(process.name)}[{process.pid}]"


def listener_words(timing: Timing, listener: Listener) -> str:
    """Whose queue it is and how full: "accept queue of nginx[812] at 0.0.0.0:443: 512 of 511"."""
    of = holder(listener.process)
    # of half-open handshakes nobody says how many there are: the backlog is that of both
    queue = "listener" if timing.cause == "syn_queue_full" else "accept queue"
    return (
        f"{queue}{f' of {of}' if of else ''} at {endpoint_text(listener.ip, listener.port)}: "
        f"{listener.queued} of {listener.backlog}"
    )


def reset_words(reset: Reset) -> str:
    """Who reset it and when, and why if this host's kernel said so: "reset by the server after 63.1 µs: NO_SOCKET"."""
    when = f" after {duration(reset.after_us)}" if reset.after_us is not None else ""
    why = f": {printable(reset.reason)}" if reset.reason is not None else ""
    return f"reset by the {printable(reset.from_)}{when}{why}"


def icmp_words(icmp: Icmp, client: str) -> str:
    """The ICMP error, and who sent it: "ICMP: administratively prohibited, says 192.0.2.254"; `client`: its address."""
    by = f", says {printable(icmp.from_)}" if icmp.from_ is not None else ""
    return f"ICMP: {icmp_meaning(icmp.type, icmp.code, v6=':' in (icmp.from_ or client))}{by}"


def nat_words(nat: Nat) -> str:
    """How it is called on the other side."""
    ends = " > ".join(endpoint_text(end.ip, end.port) for end in (nat.client, nat.server))
    return f"translated: {ends} ({nat.id})"


def changed_words(changes: Sequence[str]) -> str:
    """What this host changed on the way through it."""
    return f"changed here: {', '.join(map(change_words, changes))}"


def evidence(record: Handshake) -> list[str]:
    """What the kernel, its queues, and whoever refused it said of this handshake: a few words each, for a line."""
    timing = record.handshake
    found: list[str | None] = []
    if timing.reset is not None:
        found.append(reset_words(timing.reset))
    if timing.icmp is not None:
        found.append(icmp_words(timing.icmp, record.client.ip))
    if timing.drop is not None:
        found.append(drop_words(timing.drop))
    if timing.listener is not None:
        found.append(listener_words(timing, timing.listener))
    if record.nat is not None:
        found.append(nat_words(record.nat))
    if record.changed_on_host:
        found.append(changed_words(record.changed_on_host))
    found += [in_words(printable(one)) for one in record.warnings]
    return [one for one in found if one is not None]
