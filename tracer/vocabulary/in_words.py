"""Codes of records in words for people: one table of those that read badly with blanks instead of underscores."""

from __future__ import annotations

WORDS: dict[str, str] = {
    # handshake.result
    "syn_on_established": "SYN on established",
    # handshake.settled_by, handshake.after, handshake.drop.segment
    "rst": "RST",
    "icmp": "ICMP",
    "fin": "FIN",
    "ack": "ACK",
    "syn": "SYN",
    "synack": "SYN-ACK",
    "new_syn": "new SYN",
    "synack_again": "SYN-ACK again",
    # tfo.outcome
    "syn_timeout_fallback": "plain SYN after timeout",
    "cookie_only": "cookie without data",
    "over_acked": "acked more than was sent",
    # tfo.cause
    "child_failed": "server had no room",
    "queue_overflow": "TFO queue full",
    "syn_cookies": "SYN cookies",
    "path_drops_syn_data": "path drops SYN data",
    # tfo.client_fail
    "syn_retransmitted": "SYN retransmitted",
    # ecn
    "ecn": "ECN",
    "accecn": "AccECN",
    # payload.protocol
    "tls": "TLS",
    "http": "HTTP",
    "dns": "DNS",
    # warnings
    "mss_tiny": "MSS tiny",
    "window_zero": "window 0",
    "wscale_invalid": "window scale above 14",
    "mss_above_mtu": "MSS above the MTU",
    # counters of the programs
    "syns": "SYNs",
    "synacks": "SYN-ACKs",
    "late_syns": "late SYNs",
    "synack_unmatched": "SYN-ACKs unmatched",
    "not_tcp": "not TCP",
}


def in_words(code: str) -> str:
    """A code of a record in words; one that only a later version knows has blanks instead of underscores."""
    return WORDS.get(code) or code.replace("_", " ")
