"""Handshakes seen at two interfaces of a group: a segment that is forwarded is one segment (DESIGN.md section 3)."""

from __future__ import annotations

from typing import Any

from tests.support.decoder import ACK, RST, SYN
from tests.support.sentences import (
    ABORTED,
    BY_ACK,
    BY_RESPONSE,
    BY_RST,
    ESTABLISHED,
    ISN,
    NO_REPLY,
    ON_ESTABLISHED,
    REJECTED,
    SERVER_ISN,
    SIMULTANEOUS,
    C,
    Packet,
    Sentence,
    at,
    client_fin,
    from_client,
    from_server,
    icmp,
    rst,
    syn,
    synack,
    timestamps,
)

S = C.back
DELAYS = (0.02, 5, 15, 50)  # ms between the places; 100 ms are the most


def forwarded(after_ms: float, *packets: Packet) -> list[Packet]:
    """Each packet as it comes in and as it goes out."""
    gone = [Packet(packet.at + after_ms, packet.frame, egress=True) for packet in packets]
    return sorted([*packets, *gone], key=lambda packet: packet.at)


def _whole(options: tuple[bytes, ...]) -> list[Packet]:
    first, answer, later, again = options
    return [
        syn(0, options=first),
        syn(1000, options=again),
        synack(1100, options=answer),
        from_client(1200, options=later),
        from_client(1300, data=9, options=later),
        from_client(1600, data=9, options=again),
        synack(2100, options=again),
        client_fin(2200, ISN + 10),
        from_server(2350, ack=ISN + 11, data=3),
    ]


WHOLE: dict[str, Any] = {
    "result": ESTABLISHED, "reason": BY_RESPONSE, "syn_count": 2, "late_syns": 0, "synack_count": 2,
    "synacks_after_ack": 1, "request_repeats": 1, "client_fin": 1, "copies": 0, "synack_ns": at(1100),
    "ack_ns": at(1200), "request_ns": at(1300), "response_ns": at(2350),
}  # fmt: skip

PLACES = [
    *(
        Sentence(
            f"a whole handshake at two places, {delay} ms apart, {kind} timestamps",
            forwarded(delay, *_whole(options)),
            [WHOLE],
            {"seen_again": 4},
            clocked=True,
        )
        for delay in DELAYS
        for kind, options in (
            ("without", (b"", b"", b"", b"")),
            ("with", (timestamps(1), timestamps(1, 1), timestamps(2, 1), timestamps(3, 1))),
        )
    ),
    *(
        Sentence(
            f"what does not fit, at two places, {delay} ms apart",
            forwarded(delay, syn(0), rst(200, ack=ISN), synack(400, -5), icmp(600, 3, 1, seq=77)),
            [{"result": NO_REPLY, "misfit_rsts": 1, "misfit_synacks": 1, "misfit_icmps": 1, "copies": 0}],
            {"seen_again": 1, "synack_stray_ack": 1},
            clocked=True,
        )
        for delay in DELAYS
    ),
    Sentence(
        "a challenge at two places",
        forwarded(0.02, syn(0), from_server(10, 777, 888)),
        [{"result": ON_ESTABLISHED, "challenge_acks": 1, "copies": 0}],
        {"seen_again": 1},
        clocked=True,
    ),
    Sentence(
        "refused at two places",
        forwarded(0.02, syn(0), rst(10)),
        [{"result": REJECTED, "reason": BY_RST, "misfit_rsts": 0}],
        {"seen_again": 1},
        clocked=True,
    ),
    Sentence(
        "aborted at two places",
        forwarded(0.02, syn(0), synack(10), from_client(20, flags=RST), synack(1010)),
        [{"result": ABORTED, "reset_from": 1}],
        {"seen_again": 2},
        clocked=True,
    ),
    Sentence(
        "two servers' answers at two places",
        forwarded(0.02, syn(0), synack(10), synack(20, isn=77), from_client(30, ack=78), synack(1010),
                  from_server(1040, 78, data=2)),
        [{"reason": BY_RESPONSE, "synack.seq": 77, "synack_isns": 2, "synack_count": 3, "copies": 0}],
        {"seen_again": 4},
        clocked=True,
    ),
    Sentence(
        "a forged SYN at two places",
        forwarded(0.02, syn(0), synack(10), from_client(20), syn(25, ISN + 777), from_server(30, data=1)),
        [{"reason": BY_RESPONSE, "syn.seq": ISN}, {"result": NO_REPLY, "syn.seq": ISN + 777, "syn_count": 1}],
        {"seen_again": 3},
        clocked=True,
    ),
    Sentence(
        "simultaneous open at two places",
        forwarded(0.02, syn(0), Packet(1, S.frame(SYN, SERVER_ISN)), Packet(10, C.frame(SYN | ACK, ISN,
                  SERVER_ISN + 1)), synack(11)),
        [{"result": SIMULTANEOUS, "reason": BY_ACK}],
        {"seen_again": 1, "synack_unmatched": 1},
        clocked=True,
    ),
]  # fmt: skip
