"""One handshake in sentences: what became of it, what Fast Open did in it, what that means, and why."""

from __future__ import annotations

from tracer.records import fate, life
from tracer.records.record import Handshake
from tracer.vocabulary.causes import tfo_sentence
from tracer.words.signs import group_sign, group_style

Part = tuple[str, str]  # a sentence and the name of its style; verdicts have their group's


def fate_verdict(record: Handshake) -> Part:
    """Sign, group, and what became of the handshake."""
    timing, group = record.handshake, fate.standing(record)
    words = life.result(timing) if fate.failed(timing) else f"{life.result(timing)}, {fate.fate(timing)}"
    return f"{group_sign(group)} {group}: {words}", group_style(group)


def tfo_verdict(record: Handshake) -> Part:
    """Sign, group and verdict of Fast Open."""
    group = record.tfo.group
    word = f"{group}: " if group in ("ok", "degraded", "failed") else ""
    return f"{group_sign(group)} {word}{life.verdict(record)}", group_style(group)


def verdict(record: Handshake) -> list[Part]:
    """What became of the handshake where it failed, the verdict on Fast Open, what they mean, and the causes.

    Names from the network are as they came.
    """
    timing, tfo = record.handshake, record.tfo
    parts: list[Part] = []
    reason = fate.reason(timing)
    first = fate.told_first(record)
    if first:
        parts.append(fate_verdict(record))
        parts.append((reason, "strong") if reason else (life.failure(timing), "text"))
    if not first or tfo.outcome != "not_attempted":
        parts += [tfo_verdict(record), (life.explanation(record), "text")]
    if reason and not first:
        parts.append((reason, "strong"))
    if tfo.cause is not None:
        sure = f" ({tfo.cause_confidence})" if tfo.cause_confidence else ""
        parts.append((f"Cause{sure}: {tfo_sentence(tfo.cause)}", "strong"))
    return parts
