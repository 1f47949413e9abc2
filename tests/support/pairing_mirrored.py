"""Copies of a segment, as a mirror port sends them, and what is none (DESIGN.md section 3)."""

from __future__ import annotations

from tests.support.decoder import ACK, FIN
from tests.support.packets import option, padded
from tests.support.sentences import (
    AT_END,
    BY_FIN,
    BY_RESPONSE,
    BY_RST,
    C6,
    ESTABLISHED,
    HALF_OPEN,
    ISN,
    NO_REPLY,
    ON_ESTABLISHED,
    REJECTED,
    SERVER_ISN,
    TFO_REQUEST,
    Packet,
    Sentence,
    at,
    client_fin,
    from_client,
    from_server,
    icmp,
    marked,
    rst,
    syn,
    synack,
    timestamps,
)

T1, T2 = timestamps(1), timestamps(2)
COOKIE = padded(option(34, bytes(8)))


def numbered(ident: int, *packets: Packet) -> list[Packet]:
    """The packets with one IPv4 identification."""
    return [marked(packet, ident=ident) for packet in packets]


def again(packet: Packet, after_ms: float) -> Packet:
    """The same frame once more."""
    return Packet(packet.at + after_ms, packet.frame, packet.egress)


def twice(*packets: Packet, after_ms: float = 0.003) -> list[Packet]:
    """Each packet and its copy."""
    return [one for packet in packets for one in (packet, again(packet, after_ms))]


SYNS = [
    Sentence(
        f"two SYNs, {says}",
        steps,
        [{"result": NO_REPLY, "reason": AT_END, "syn_count": 2 - copies, "copies": copies,
          "retx_count": 1 - copies, "syn_ns": at(0)}],
        clocked=True,
    )
    for says, copies, steps in (
        ("timestamps alike, 9.9 ms apart", 1, [syn(0, options=T1), syn(9.9, options=T1)]),
        ("timestamps alike, 10.1 ms apart", 0, [syn(0, options=T1), syn(10.1, options=T1)]),
        ("timestamps differ", 0, [syn(0, options=T1), syn(0.5, options=T2)]),
        ("timestamps alike, IPv4 ids and TTLs differ", 1,
         [marked(syn(0, options=T1), ident=7, ttl=64), marked(syn(5, options=T1), ident=8, ttl=63)]),
        ("IPv4 ids alike, 9.9 ms apart", 1, numbered(7, syn(0), syn(9.9))),
        ("IPv4 ids alike, 10.1 ms apart", 0, numbered(7, syn(0), syn(10.1))),
        ("IPv4 ids differ", 0, [*numbered(7, syn(0)), *numbered(8, syn(0.5))]),
        ("IPv4 ids 0, 0.9 ms apart", 1, [syn(0), syn(0.9)]),
        ("IPv4 ids 0, 1.1 ms apart", 0, [syn(0), syn(1.1)]),
        ("IPv4 id 0, then another", 0, [syn(0), *numbered(8, syn(0.5))]),
        ("TTLs differ", 1, [marked(syn(0), ttl=64), marked(syn(0.5), ttl=62)]),
        ("IPv4 ids alike, TTLs differ", 1, [marked(syn(0), ident=7, ttl=64), marked(syn(5), ident=7, ttl=62)]),
        ("IPv6, timestamps alike, 9.9 ms apart", 1, [syn(0, flow=C6, options=T1), syn(9.9, flow=C6, options=T1)]),
        ("IPv6, timestamps differ", 0, [syn(0, flow=C6, options=T1), syn(0.5, flow=C6, options=T2)]),
        ("IPv6 without timestamps, 0.9 ms apart", 1, [syn(0, flow=C6), syn(0.9, flow=C6)]),
        ("IPv6 without timestamps, 1.1 ms apart", 0, [syn(0, flow=C6), syn(1.1, flow=C6)]),
        ("IPv6, hop limits differ", 1, [syn(0, flow=C6), marked(syn(0.5, flow=C6), ttl=60)]),
        ("with data, then without", 0, [syn(0, data=100), syn(0.5)]),
        ("with the option, then without", 0, [syn(0, options=COOKIE), syn(0.5)]),
        ("other options of the same length", 0,
         [syn(0, options=TFO_REQUEST), syn(0.5, options=b"\x01\x01\x01\x01")]),
        ("one asks for ECN", 0, [syn(0, flags=0xC2), syn(0.5)]),
        ("a second apart, everything else alike", 0, numbered(7, syn(0, options=T1), syn(1000, options=T1))),
    )
]  # fmt: skip

MORE_SYNS = [
    Sentence(
        "three of a kind, and a retransmission of two",
        [syn(0), syn(0.003), syn(0.006), syn(1000), syn(1000.003)],
        [{"syn_count": 2, "copies": 3, "retx": [(1_000_000, 0)], "late_syns": 0}],
        clocked=True,
    ),
    Sentence(
        "a copy some time after the SYN-ACK is no late SYN",
        [syn(0, options=T1), synack(5), syn(9, options=T1), from_client(20)],
        [{"syn_count": 1, "late_syns": 0, "copies": 1, "retx": []}],
        clocked=True,
    ),
    Sentence(
        "the same SYN at another place is no copy",
        [syn(0), syn(0.003, egress=True), synack(10), synack(10.003, egress=True)],
        [{"syn_count": 1, "synack_count": 1, "copies": 0}],
        {"seen_again": 2},
        clocked=True,
    ),
    Sentence(
        "copies at two places",
        [syn(0), syn(0.003), syn(0.02, egress=True), syn(0.023, egress=True)],
        [{"syn_count": 1, "copies": 1}],
        {"seen_again": 2},
        clocked=True,
    ),
    Sentence(
        "copies do not keep a handshake open for longer, nor do they saturate at less than 255",
        [syn(0), *(syn(0.003 * i) for i in range(1, 300))],
        [{"syn_count": 1, "copies": 255}],
        clocked=True,
    ),
    Sentence(
        "at full speed, too",
        twice(syn(0, options=T1)),
        [{"syn_count": 1, "copies": 1}],
    ),
]  # fmt: skip

OTHERS = [
    Sentence(
        "a copy of the SYN-ACK",
        [syn(0), synack(10), synack(10.9), from_client(20)],
        [{"result": ESTABLISHED, "synack_count": 1, "copies": 1, "synacks_after_ack": 0}],
        clocked=True,
    ),
    Sentence(
        "a SYN-ACK that is no copy",
        [syn(0), *numbered(7, synack(10)), *numbered(8, synack(10.5)), from_client(20)],
        [{"synack_count": 2, "copies": 0}],
        clocked=True,
    ),
    Sentence(
        "a copy of the SYN-ACK after the ACK",
        [syn(0, options=T1), synack(10, options=timestamps(5, 1)), from_client(10.05, options=timestamps(2, 5)),
         synack(15, options=timestamps(5, 1))],
        [{"result": ESTABLISHED, "synack_count": 1, "copies": 1, "synacks_after_ack": 0}],
        clocked=True,
    ),
    Sentence(
        "a copy of the ACK",
        [syn(0), synack(10), from_client(20), from_client(20.003)],
        [{"result": ESTABLISHED, "copies": 1, "ack_ns": at(20)}],
        clocked=True,
    ),
    Sentence(
        "a copy of the request",
        [syn(0), synack(10), from_client(20), from_client(21, data=100), from_client(21.003, data=100)],
        [{"copies": 1, "request_repeats": 0, "request_ns": at(21)}],
        clocked=True,
    ),
    Sentence(
        "a copy of the request by its timestamps",
        [syn(0, options=T1), synack(10, options=T1), from_client(20, data=9, options=T2),
         from_client(29.9, data=9, options=T2), from_client(30.5, data=9, options=timestamps(33))],
        [{"copies": 1, "request_repeats": 1, "request_ns": at(20)}],
        clocked=True,
    ),
    Sentence(
        "a copy of what is sent again",
        [syn(0), synack(10), from_client(20), *twice(from_client(21, data=100), from_client(221, data=100),
                                                     from_client(621, data=100))],
        [{"copies": 3, "request_repeats": 2}],
        clocked=True,
    ),
    Sentence(
        "a copy of a first byte that waits for the ACK",
        [syn(0, data=9), synack(10, 9), *twice(from_server(12, ack=ISN + 10, data=5)), from_client(20, ISN + 10)],
        [{"reason": BY_RESPONSE, "response_ns": at(12), "copies": 1}],
        clocked=True,
    ),
    Sentence(
        "a copy of the client's FIN",
        [syn(0), synack(10), from_client(20), *twice(client_fin(30)), from_server(40, ack=ISN + 2, flags=FIN | ACK)],
        [{"reason": BY_FIN, "client_fin": 1, "copies": 1}],
        clocked=True,
    ),
    Sentence(
        "a copy of a SYN-ACK that came again after the ACK",
        [syn(0), synack(10), from_client(20), *twice(synack(1010))],
        [{"synacks_after_ack": 1, "synack_count": 2, "copies": 1}],
        clocked=True,
    ),
    Sentence(
        "a copy of a challenge",
        [syn(0), *twice(from_server(10, 777, 888))],
        [{"result": ON_ESTABLISHED, "challenge_acks": 1, "copies": 1}],
        clocked=True,
    ),
    Sentence(
        "copies of what does not fit",
        [syn(0), *twice(rst(10, ack=ISN), synack(20, -5))],
        [{"result": NO_REPLY, "misfit_rsts": 1, "misfit_synacks": 1, "copies": 2}],
        {"synack_stray_ack": 1},
        clocked=True,
    ),
    Sentence(
        "a copy of the RST that refuses changes nothing",
        [syn(0), *twice(rst(10))],
        [{"result": REJECTED, "reason": BY_RST, "copies": 0}],
        clocked=True,
    ),
    Sentence(
        "a copy of the SYN that is refused already is no late SYN",
        [syn(0, options=T1), rst(1), syn(3, options=T1), rst(4)],
        [{"result": REJECTED, "syn_count": 1}],
        clocked=True,
    ),
    Sentence(
        "a copy of the ICMP error changes nothing",
        [syn(0), *twice(icmp(10, 3, 1))],
        [{"misfit_icmps": 0}],
        clocked=True,
    ),
]  # fmt: skip

WHOLE = [
    Sentence(
        "all of a handshake twice, 3 us apart, its SYN data taken",
        [*twice(
            syn(0, data=200, options=T1 + COOKIE),
            synack(20, 200, options=timestamps(9, 1)),
            from_client(20.1, ISN + 201, options=timestamps(2, 9)),
            from_server(40, ack=ISN + 201, data=2, options=timestamps(19, 2)),
        )],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "syn_count": 1, "synack_count": 1, "copies": 3,
          "response_ns": at(40), "synacks_after_ack": 0, "request_repeats": 0, "late_syns": 0}],
        clocked=True,
    ),
    Sentence(
        "the same with a retransmitted SYN and without timestamps",
        [*twice(
            *numbered(1, syn(0, data=200, options=COOKIE)), *numbered(2, syn(1000)), *numbered(1, synack(1020)),
            *numbered(3, from_client(1020.1, data=200)), after_ms=0.3,
        )],
        [{"result": ESTABLISHED, "syn_count": 2, "synack_count": 1, "copies": 4, "request_repeats": 0,
          "request_ns": at(1020.1), "retx": [(1_000_000, 0)]}],
        clocked=True,
    ),
    Sentence(
        "a mirror that is 4 ms behind: the copies come between the others",
        [syn(0, options=T1), synack(2, options=timestamps(9, 1)), from_client(2.1, options=timestamps(2, 9)),
         from_client(2.2, data=7, options=timestamps(2, 9)), syn(4, options=T1),
         synack(6, options=timestamps(9, 1)), from_client(6.1, options=timestamps(2, 9)),
         from_client(6.2, data=7, options=timestamps(2, 9)), from_server(8, ack=ISN + 8, options=timestamps(15, 2))],
        [{"result": ESTABLISHED, "syn_count": 1, "late_syns": 0, "synack_count": 1, "synacks_after_ack": 0,
          "request_repeats": 0, "request_acked": 1, "copies": 4}],
        clocked=True,
    ),
]  # fmt: skip

FALSE_FRIENDS = [
    Sentence(
        "a SYN and a SYN-ACK that are really sent again",
        [syn(0), syn(1000), synack(1010), synack(2010), from_client(2020)],
        [{"result": ESTABLISHED, "syn_count": 2, "synack_count": 2, "copies": 0}],
        clocked=True,
    ),
    Sentence(
        "ACKs that differ are none of each other",
        [syn(0), synack(10), from_client(20), from_client(20.1, ack=SERVER_ISN + 2), from_client(20.2, ISN + 2)],
        [{"result": ESTABLISHED, "copies": 0}],
        clocked=True,
    ),
    Sentence(
        "segments of a request that follow each other at once",
        [syn(0), synack(10), *(from_client(20 + 0.001 * i, ISN + 1 + 100 * i, data=100) for i in range(10))],
        [{"result": ESTABLISHED, "copies": 0, "request_repeats": 0}],
        clocked=True,
    ),
    Sentence(
        "SYN-ACKs of two servers are none of each other",
        [syn(0), synack(10), synack(10.01, isn=77), from_client(20)],
        [{"result": ESTABLISHED, "synack_count": 2, "synack_isns": 2, "copies": 0}],
        clocked=True,
    ),
    Sentence(
        "a half-open handshake whose SYN-ACK is repeated soon",
        [syn(0), *numbered(1, synack(10)), *numbered(2, synack(15))],
        [{"result": HALF_OPEN, "synack_count": 2, "copies": 0}],
        clocked=True,
    ),
]  # fmt: skip

MIRRORED = [*SYNS, *MORE_SYNS, *OTHERS, *WHOLE, *FALSE_FRIENDS]
