"""The segments of handshakes, sent once or again, and what distinguishes two handshakes (DESIGN.md section 4)."""

from __future__ import annotations

from tests.support.decoder import ACK, SYN
from tests.support.packets import Flow, ethernet
from tests.support.sentences import (
    AT_END,
    BY_RESPONSE,
    BY_TIMEOUT,
    C6,
    ESTABLISHED,
    HALF_OPEN,
    ISN,
    NO_REPLY,
    SERVER_ISN,
    TFO_REQUEST,
    UNREACHABLE,
    C,
    Interface,
    Packet,
    Sentence,
    Sweep,
    at,
    from_client,
    from_server,
    icmp,
    syn,
    synack,
    timestamps,
)

S = C.back
OPEN_END = {"result": NO_REPLY, "reason": AT_END}
HALF_END = {"result": HALF_OPEN, "reason": AT_END}
ESTABLISHED_END = {"result": ESTABLISHED, "reason": AT_END}


def on_vlan(*vlans: int | tuple[int, int]) -> Flow:
    """The usual client behind VLAN tags."""
    return Flow(C.src, C.dst, C.sport, C.dport, vlans)


ORDINARY = [
    Sentence(
        "SYN, SYN-ACK, ACK and the server's first byte: established",
        [syn(0), synack(10), from_client(20), from_client(20, data=50), from_server(30, data=1)],
        [
            {
                "result": ESTABLISHED,
                "reason": BY_RESPONSE,
                "syn_ns": at(0),
                "synack_ns": at(10),
                "ack_ns": at(20),
                "response_ns": at(30),
                "settled_ns": at(30),
                "syn_count": 1,
                "synack_count": 1,
                "late_syns": 0,
                "one_way": 0,
                "family": 4,
            }
        ],
    ),
    Sentence(
        "the same over IPv6 in two VLANs",
        [
            syn(0, flow=Flow(C6.src, C6.dst, 1, 2, ((0x88A8, 5), (0x8100, 6)))),
            synack(1, flow=Flow(C6.src, C6.dst, 1, 2, ((0x88A8, 5), (0x8100, 6)))),
            from_client(2, flow=Flow(C6.src, C6.dst, 1, 2, ((0x88A8, 5), (0x8100, 6)))),
            from_server(3, data=9, flow=Flow(C6.src, C6.dst, 1, 2, ((0x88A8, 5), (0x8100, 6)))),
        ],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "family": 6, "vlan": [5, 6]}],
    ),
    Sentence(
        "the server answers TFO data before the client's ACK: settled by that ACK",
        [syn(0, data=100), synack(10, 100), from_server(12, ack=ISN + 101, data=5), from_client(20, ISN + 101)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "response_ns": at(12), "ack_ns": at(20), "settled_ns": at(20)}],
    ),
    Sentence(
        "an ACK after accepted SYN data has a sequence number beyond ISN + 1",
        [syn(0, data=100), synack(10, 100), from_client(20, ISN + 101), from_server(30, data=1)],
        [{"result": ESTABLISHED, "ack_ns": at(20), "syn.payload_len": 100, "synack.ack": ISN + 101}],
    ),
    Sentence(
        "SYN data that was not taken is sent again at ISN + 1",
        [syn(0, data=100), synack(10), from_client(20, ISN + 1, data=100), from_server(30, data=1)],
        [{"result": ESTABLISHED, "ack_ns": at(20)}],
    ),
    Sentence(
        "SYN data with a sequence number that wraps",
        [
            syn(0, 0xFFFFFFF0, data=100),
            Packet(10, S.frame(SYN | ACK, 0xFFFFFFFF, 0xFFFFFFF0 + 101 - (1 << 32))),
            from_client(20, 0xFFFFFFF0 + 101, 0),
            from_server(30, 0, data=1),
        ],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE}],
    ),
    Sentence(
        "a SYN-ACK with data is the first response, settled by the ACK of it",
        [syn(0), synack(10, data=7), from_client(20, ack=SERVER_ISN + 8)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "response_ns": at(10), "synack.payload_len": 7}],
    ),
    Sentence(
        "the ACK's TSecr is kept",
        [
            syn(0, options=timestamps(7)),
            synack(10),
            from_client(20, options=timestamps(8, 99)),
            from_server(30, data=1),
        ],
        [{"result": ESTABLISHED, "ack_ts_ecr": 99, "syn.ts_val": 7}],
    ),
    Sentence(
        "an ACK that acks nothing of this SYN-ACK leaves it half open",
        [syn(0), synack(10), from_client(20, ack=SERVER_ISN), from_client(20, ISN - 5), from_client(20, flags=0)],
        [HALF_END],
    ),
    Sentence(
        "a client that goes on without a SYN-ACK seen here is on a one-way road",
        [syn(0), from_client(20)],
        [{"result": ESTABLISHED, "one_way": 1, "synack_count": 0, "synack_ns": 0, "ack_ns": at(20)}],
    ),
    Sentence(
        "a priority tag (VID 0) names no VLAN",
        [syn(0, flow=on_vlan(0x2000)), synack(1), from_client(2), from_server(3, data=1)],
        [{"result": ESTABLISHED, "vlan": [0, 0]}],
    ),
]

REPEATED = [
    Sentence(
        "a retransmitted SYN is counted, with its time and timestamp",
        [
            syn(0, options=timestamps(7)),
            syn(1000, options=timestamps(1007)),
            syn(3000, options=timestamps(3007)),
            synack(3010),
        ],
        [
            {
                "result": HALF_OPEN,
                "syn_count": 3,
                "late_syns": 0,
                "syn_ns": at(0),
                "retx": [(1_000_000, 1007), (3_000_000, 3007)],
                "syn.ts_val": 7,
            }
        ],
        clocked=True,
    ),
    Sentence(
        "of many retransmissions the first five and the last are kept",
        [syn(0), *(syn(200 * i, options=timestamps(i)) for i in range(1, 10))],
        [
            {
                "result": NO_REPLY,
                "syn_count": 10,
                "retx": [(200_000 * i, i) for i in (1, 2, 3, 4, 5, 9)],
            }
        ],
        clocked=True,
    ),
    Sentence(
        "the first SYN's data and options are kept, a bare one follows",
        [syn(0, data=100, options=TFO_REQUEST), syn(1000), synack(1010)],
        [{"syn_count": 2, "syn.payload_len": 100, "syn.options_len": 4, "syn.cookie_len": 0, "syn.tfo_kind": 34}],
    ),
    Sentence(
        "a SYN after the SYN-ACK is late",
        [syn(0), synack(900), syn(1000), from_client(1100), from_server(1200, data=1)],
        [{"result": ESTABLISHED, "syn_count": 2, "late_syns": 1, "retx": [(1_000_000, 0)]}],
        clocked=True,
    ),
    Sentence(
        "a retransmitted SYN-ACK is counted, the first one's time and facts stay",
        [syn(0), synack(10, options=timestamps(1, 1)), synack(1010, options=timestamps(2, 1)), from_client(1020)],
        [{"result": ESTABLISHED, "synack_count": 2, "synack_ns": at(10), "ack_ns": at(1020), "synack.ts_val": 1}],
    ),
    Sentence(
        "the same SYN and SYN-ACK at a second place within 100 ms are the same segments",
        [syn(0), syn(1, egress=True), synack(10), synack(99, egress=True)],
        [{"result": HALF_OPEN, "syn_count": 1, "synack_count": 1, "egress": 0}],
        {"seen_again": 2},
        clocked=True,
    ),
    Sentence(
        "two CPUs race: the second place's SYN and SYN-ACK have the earlier time",
        [syn(10), syn(9, egress=True), synack(20), synack(19, egress=True), Sweep(3600, 0)],
        [{"result": HALF_OPEN, "reason": BY_TIMEOUT, "syn_count": 1, "synack_count": 1}],
        {"seen_again": 2},
        clocked=True,
    ),
    Sentence(
        "packets out of order in a capture do not keep a handshake open for ever",
        [syn(10), syn(8), Sweep(3510, 0)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT, "syn_count": 2}],
        clocked=True,
    ),
    Sentence(
        "after 100 ms the SYN at a second place is a retransmission",
        [syn(0, egress=True), syn(101)],
        [{"syn_count": 2, "egress": 1}],
        clocked=True,
    ),
    Sentence(
        "a SYN with a new ISN on a live 4-tuple opens a new record",
        [syn(0), syn(500, ISN + 9), Packet(510, S.frame(SYN | ACK, SERVER_ISN, ISN + 10))],
        [{**OPEN_END, "syn.seq": ISN}, {**HALF_END, "syn.seq": ISN + 9}],
    ),
    Sentence(
        "also while the first waits for a response",
        [syn(0), synack(1), from_client(2), syn(500, ISN + 9)],
        [{**ESTABLISHED_END, "syn.seq": ISN}, {**OPEN_END, "syn.seq": ISN + 9}],
    ),
    Sentence(
        "a SYN-ACK for another connection of the 4-tuple is counted as a stray",
        [syn(0), synack(10, -5), synack(10, (1 << 20) + 1)],
        [OPEN_END],
        {"synack_stray_ack": 2},
    ),
    Sentence(
        "a SYN-ACK that acks more than a plain SYN is odd and does not fit",
        [syn(0), synack(10, 1)],
        [OPEN_END],
        {"synack_odd_ack": 1},
    ),
    Sentence("a SYN-ACK without a SYN before it", [synack(10)], [], {"synack_unmatched": 1}),
]

APART = [
    Sentence(
        "a SYN in another VLAN is another connection",
        [syn(0, flow=on_vlan(10)), syn(1, flow=on_vlan(20)), syn(1), syn(1, flow=on_vlan(10, 20))],
        [{**OPEN_END, "vlan": [*vlan], "syn_count": 1} for vlan in ((10, 0), (20, 0), (0, 0), (10, 20))],
    ),
    Sentence(
        "a SYN-ACK in another VLAN is of the same connection",
        [syn(0, flow=on_vlan(10)), synack(1, flow=on_vlan(20))],
        [{**HALF_END, "vlan": [10, 0]}],
    ),
    Sentence(
        "another group is another connection",
        [Interface(group=3), syn(0), Interface(group=4), synack(1), syn(2), Interface(group=3), synack(3)],
        [{"reason": AT_END}, {"reason": AT_END}],
        {"synack_unmatched": 1},
    ),
    Sentence(
        "a device without link header",
        [Interface(no_link_header=True), *(Packet(p.at, p.frame[14:]) for p in (syn(0), synack(1), from_client(2)))],
        [ESTABLISHED_END],
    ),
    Sentence(
        "the same over IPv6",
        [
            Interface(no_link_header=True),
            *(Packet(p.at, p.frame[14:]) for p in (syn(0, flow=C6), icmp(1, 1, 0, flow=C6))),
        ],
        [{"result": UNREACHABLE, "family": 6}],
    ),
    Sentence("an interface that is not traced", [Interface(traced=False), syn(0), synack(1)], []),
    Sentence(
        "more than two VLAN tags are not read, and what is not IP is nobody's business",
        [syn(0, flow=on_vlan(1, 2, 3)), Packet(0, ethernet(C.packet(b""))[:12] + b"\x08\x06" + bytes(46))],
        [],
        {"not_read_vlan": 1},
    ),
]
