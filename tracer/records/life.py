"""What a record says of a connection's life, and of segments that did not fit it, in words for people."""

from __future__ import annotations

from tracer.records.drop import Drop
from tracer.records.ends import Listener
from tracer.records.record import Handshake, Timing
from tracer.records.refusal import Misfits
from tracer.vocabulary.causes import CAUSES_OF_DROPS, handshake_sentence, tfo_sentence
from tracer.vocabulary.drops import dropped_by
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.meanings import CHALLENGED, EXPLANATIONS, FAILURES, NOT_FITTING, RESULTS, VERDICTS, WITHOUT_LIFE
from tracer.vocabulary.printable import plural, printable, times

REPEATS_THAT_FAIL = 2  # so often was the request sent again: not one lost packet
_ACCEPTED = ("data_acked", "data_acked_new_cookie")
_NO_OPTION_BACK = ("cookie_not_granted", "data_not_acked", "cookie_only")


def lived(timing: Timing) -> bool:
    """Did the server answer, close, or ack more than its SYN-ACK did?"""
    if timing.result != "established":
        return False
    # older versions took the client's FIN for an end, too
    closed = timing.settled_by == "fin" and timing.copies is not None
    return timing.first_response_us is not None or closed or bool(timing.request_acked)


def drop_of(timing: Timing) -> str | None:
    """What this host dropped it by (DROPPED_BY), where the cause is that it did, for certain."""
    drop = timing.drop
    if timing.cause not in CAUSES_OF_DROPS or timing.cause_confidence != "certain" or drop is None:
        return None
    return dropped_by(drop.reason, drop.at)


def causes(record: Handshake) -> list[tuple[str, str | None]]:
    """What its causes mean and how sure they are: that of the handshake first, then that of Fast Open."""
    timing, tfo = record.handshake, record.tfo
    found = []
    if timing.cause is not None:
        found.append((meaning(timing, timing.cause), timing.cause_confidence))
    if tfo.cause is not None:
        found.append((tfo_sentence(tfo.cause), tfo.cause_confidence))
    return found


def meaning(timing: Timing, cause: str) -> str:
    """What the handshake's cause means and what to do, with the kernel's word and the listener named."""
    sentence = handshake_sentence(cause, drop_of(timing))
    return sentence if timing.listener is None else _with_listener(sentence, cause, timing.listener)


def _with_listener(sentence: str, cause: str, listener: Listener) -> str:
    """The sentence of a cause, which names the listener."""
    whose, filled = _listener(listener), f"{listener.queued} of {listener.backlog}"
    seen = f", {filled}" if listener.queued > listener.backlog else f" ({filled} when it was looked at)"
    begin = {
        "accept_queue_full": f"The accept queue of {whose} was full{seen}",
        "syn_queue_full": f"The queue of half-open connections of {whose} was full",
        "accept_deferred": f"This server, {whose}, waits for the client's data before it takes the connection "
        "(TCP_DEFER_ACCEPT)",
    }.get(cause)
    _, colon, advice = sentence.partition(": ")
    return f"{begin}: {advice}" if begin and colon else sentence


def _listener(listener: Listener) -> str:
    ip = f"[{listener.ip}]" if ":" in listener.ip else listener.ip
    process = listener.process
    name = f"{process.name}[{process.pid}]" if process is not None else "the listener"
    return printable(f"{name} at {ip}:{listener.port}")


_SEGMENTS = {"syn": "SYN", "synack": "SYN-ACK", "ack": "ACK", "rst": "RST"}


def drop_words(drop: Drop) -> str:
    """The kernel's word in a few words: "SYN dropped: NETFILTER_DROP at nft_do_chain"."""
    at = f" at {drop.at}" if drop.at is not None else ""
    elsewhere = f" in network namespace {drop.netns}" if drop.netns is not None else ""
    return printable(f"{_SEGMENTS.get(drop.segment, drop.segment)} dropped: {drop.reason}{at}{elsewhere}")


def verdict(record: Handshake) -> str:
    """What Fast Open did, in a few words; where the connection died after that, this too."""
    words, ended = verdict_words(record), after(record.handshake)
    return f"{words}, {ended}" if record.tfo.group == "failed" and ended else words


def verdict_words(record: Handshake) -> str:
    """What Fast Open did, alone."""
    outcome = record.tfo.outcome
    if outcome == "no_answer" and record.handshake.misfits is not None:
        return "TFO SYN without an answer that fits"
    return VERDICTS.get(outcome) or in_words(printable(str(outcome)))


def explanation(record: Handshake) -> str:
    """What happened and what to check."""
    outcome, timing = record.tfo.outcome, record.handshake
    if outcome == "no_answer" and timing.misfits is not None:
        return NOT_FITTING
    if outcome in _NO_OPTION_BACK and timing.challenge_acks and timing.answered_syn != 1:
        return CHALLENGED
    if outcome in _ACCEPTED and record.tfo.group == "failed":
        return WITHOUT_LIFE["died"]
    if outcome in _ACCEPTED and record.tfo.rtt_saved_us is None and not lived(timing):
        return WITHOUT_LIFE["unknown"]
    return EXPLANATIONS.get(outcome, "")


def failure(timing: Timing) -> str:
    """What it means that the handshake failed, where nobody knows why; nothing of one that did not."""
    if timing.result == "no_reply" and timing.misfits is not None:
        return FAILURES["not_fitting"]
    return FAILURES.get(timing.result, "")


def result(timing: Timing) -> str:
    """What became of the handshake, for the detail."""
    if timing.result == "no_reply" and timing.misfits is not None:
        return "no reply that fits"
    if timing.result == "aborted" and timing.reset is not None:
        return f"reset by the {timing.reset.from_} before it was established"
    return RESULTS.get(timing.result, timing.result)


def result_words(timing: Timing) -> str:
    """What became of the handshake, within a line."""
    words = in_words(printable(timing.result))
    return f"{words} that fits" if timing.result == "no_reply" and timing.misfits is not None else words


def after(timing: Timing) -> str:
    """How it went on, in a few words, where that matters to whoever reads lines; else nothing."""
    repeats = timing.request_repeats or 0
    in_vain = f"request repeated {times(repeats)} in vain" if repeats and timing.request_acked is False else ""
    if timing.result == "aborted" and timing.reset is not None and timing.reset.from_ == "server":
        return "reset by server"
    match timing.after:
        case "reset_by_server":
            return "then reset by server"
        case "closed_unused":
            return "closed unused"
        case "synack_again":
            return ", ".join(filter(None, ("then SYN-ACK again", in_vain)))
        case "silence" if in_vain:
            return f"then silence, {in_vain}"
    return f"then {in_vain}" if repeats >= REPEATS_THAT_FAIL and in_vain and not lived(timing) else ""


def misfits(found: Misfits) -> str:
    """How many of what came, in half a sentence: "4 RSTs and 1 SYN-ACK came that do not fit"."""
    counts = ((found.rst, "RST"), (found.synack, "SYN-ACK"), (found.icmp, "ICMP error"))
    words = [f"{number} {plural(number, name)}" for number, name in counts if number]
    one = sum(number for number, _ in counts) == 1
    return f"{' and '.join(words)} came that {'does' if one else 'do'} not fit"
