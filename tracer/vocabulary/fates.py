"""Results and causes of handshakes in a few words, for lists and the summary; causes.py has the sentences."""

from __future__ import annotations

from collections.abc import Mapping

from tracer.vocabulary.causes import CAUSES_OF_DROPS
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.vocabulary import Confidence, HandshakeResult, word

FAILED_RESULTS = (
    HandshakeResult.REJECTED,
    HandshakeResult.ABORTED,
    HandshakeResult.UNREACHABLE,
    HandshakeResult.NO_REPLY,
    HandshakeResult.HALF_OPEN,
)
FAILED_WORDS = tuple(word(one) for one in FAILED_RESULTS)
CERTAIN = word(Confidence.CERTAIN)

# handshake.result, where the handshake failed
BRIEF_RESULTS: dict[str, str] = {
    "rejected": "refused",
    "aborted": "reset",
    "unreachable": "unreachable",
    "no_reply": "no reply",
    "half_open": "half open",
}

# handshake.cause
BRIEF_CAUSES: dict[str, str] = {
    "host_dropped": "dropped by this host",
    "port_still_in_use": "port still in use",
    "no_listener": "nobody listens",
    "firewall_rejected": "rejected by a firewall",
    "refused": "refused by the server",
    "answered_on_path": "answered on the path",
    "answer_does_not_fit": "answers do not fit",
    "nat_one_way": "NAT in one direction only",
    "not_forwarded": "not forwarded",
    "no_answer_beyond": "no answer beyond this host",
    "packet_loss": "packet loss",
    "filtered_or_down": "filtered or down",
    "no_route_back": "no route back",
    "accept_queue_full": "accept queue full",
    "syn_queue_full": "SYN queue full",
    "accept_deferred": "accept deferred",
    "syn_cookies": "SYN cookies",
    "syn_flood": "a SYN flood",
    "ack_missing": "ACK missing",
    "synack_lost": "SYN-ACK lost",
    "syn_or_synack_lost": "SYN or SYN-ACK lost",
    "slow_answer": "slow answer",
    "ecn_blocked": "ECN blocked",
    "client_gave_up": "client gave up",
    "silent_after_established": "silent once established",
    "reset_after_established": "reset once established",
}


def failed_words(result: str) -> str:
    """A `handshake.result` of a handshake that failed, for a list."""
    return BRIEF_RESULTS.get(result) or in_words(result)


def came_of(result: str, outcome: str | None) -> str:
    """What came of a handshake, for a list: how it failed, else what Fast Open did, if it was tried."""
    if result != "established" or outcome in (None, "not_attempted"):
        return failed_words(result)
    return in_words(str(outcome))


def fate_words(result: str, cause: str | None, dropped: str | None = None) -> str:
    """Result and cause, for a list: "refused: nobody listens"; of one that did not fail the cause alone."""
    why = brief_cause(cause, dropped) if cause is not None else ""
    words = failed_words(result)
    # "refused by the server" says both
    if result not in FAILED_WORDS or why.startswith(words):
        return why
    return f"{words}: {why}" if why else words


def unless_certain(cause: str | None, confidences: Mapping[str, str] | None) -> str:
    """ " (possible)" or " (likely)", to stand behind a cause that is not certain."""
    found = (confidences or {}).get(cause or "")
    return f" ({found})" if found not in (None, CERTAIN) else ""


def brief_cause(cause: str, dropped: str | None = None) -> str:
    """A `handshake.cause`; `dropped`: by what this host did, if its kernel said so (vocabulary/drops.py)."""
    words = BRIEF_CAUSES.get(cause) or in_words(cause)
    return f"{words}: {dropped}" if dropped is not None and cause in CAUSES_OF_DROPS else words
