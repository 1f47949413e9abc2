"""What each segment does to a handshake (DESIGN.md section 4), through the real programs."""

from __future__ import annotations

import pytest

from tests.support.decoder import ACK, FIN, RST, SYN
from tests.support.packets import Flow, ethernet
from tests.support.sentences import (
    ABORTED,
    AT_END,
    BY_ACK,
    BY_FIN,
    BY_ICMP,
    BY_NEW_SYN,
    BY_RESPONSE,
    BY_RST,
    BY_TIMEOUT,
    C6,
    ESTABLISHED,
    HALF_OPEN,
    ISN,
    NO_REPLY,
    ON_ESTABLISHED,
    REJECTED,
    SERVER_ISN,
    SIMULTANEOUS,
    TFO_REQUEST,
    UNREACHABLE,
    C,
    Interface,
    Packet,
    Sentence,
    Sweep,
    at,
    client_fin,
    from_client,
    from_server,
    icmp,
    rst,
    syn,
    synack,
    tell,
    timestamps,
)
from tests.support.testrun import Programs, Road

S = C.back


def on_vlan(*vlans: int | tuple[int, int]) -> Flow:
    """The usual client behind VLAN tags."""
    return Flow(C.src, C.dst, C.sport, C.dport, vlans)


ALONE = Flow(C.src, C.src, 5000, 5000)
OPEN_END = {"result": NO_REPLY, "reason": AT_END}
HALF_END = {"result": HALF_OPEN, "reason": AT_END}
ESTABLISHED_END = {"result": ESTABLISHED, "reason": AT_END}

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
            from_server(30, data=1),
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
        [{"result": ESTABLISHED, "syn_count": 2, "late_syns": 1, "retx": []}],
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
        [syn(10), syn(9), Sweep(3509, 0)],
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
        [
            {"result": NO_REPLY, "reason": BY_NEW_SYN, "syn.seq": ISN},
            {"result": HALF_OPEN, "reason": AT_END, "syn.seq": ISN + 9},
        ],
    ),
    Sentence(
        "also while the first waits for a response",
        [syn(0), synack(1), from_client(2), syn(500, ISN + 9)],
        [{"result": ESTABLISHED, "reason": BY_NEW_SYN}, {"result": NO_REPLY, "syn.seq": ISN + 9}],
    ),
    Sentence(
        "a SYN-ACK for another connection of the 4-tuple is counted as a stray",
        [syn(0), synack(10, -5), synack(10, (1 << 20) + 1)],
        [OPEN_END],
        {"synack_stray_ack": 2},
    ),
    Sentence(
        "a SYN-ACK that acks more than a plain SYN is odd, not judged",
        [syn(0), synack(10, 1)],
        [HALF_END],
        {"synack_odd_ack": 1},
    ),
    Sentence("a SYN-ACK without a SYN before it", [synack(10)], [], {"synack_unmatched": 1}),
]

REFUSED = [
    Sentence("an RST that acks the SYN", [syn(0), rst(10)], [{"result": REJECTED, "reason": BY_RST, "synack_ns": 0}]),
    *(
        Sentence(
            f"an RST that acks the SYN and {n} of its 100 bytes",
            [syn(0, data=100), rst(10, ack=ISN + 1 + n)],
            [{"result": REJECTED}],
        )
        for n in (0, 50, 100)
    ),
    Sentence(
        "an RST that fits nothing changes nothing",
        [
            syn(0, data=100),
            rst(10, ack=ISN),
            rst(10, ack=ISN + 102),
            rst(10, flags=RST),
            from_client(10, flags=RST | ACK, ack=0),
        ],
        [OPEN_END],
    ),
    Sentence(
        "the client's RST after the SYN-ACK: aborted",
        [syn(0), synack(10), from_client(20, flags=RST)],
        [{"result": ABORTED, "reason": BY_RST}],
    ),
    Sentence(
        "RSTs out of the window after the SYN-ACK change nothing",
        [syn(0), synack(10), from_client(20, ISN, flags=RST), rst(20, seq=SERVER_ISN - 1), rst(20, seq=1 << 31)],
        [HALF_END],
    ),
    Sentence(
        "an RST on an established connection",
        [syn(0), synack(10), from_client(20), rst(30, seq=SERVER_ISN + 1)],
        [{"result": ESTABLISHED, "reason": BY_RST}],
    ),
    *(
        Sentence(
            f"ICMP type {kind} code {code} about the SYN: unreachable",
            [syn(0), icmp(10, kind, code)],
            [{"result": UNREACHABLE, "reason": BY_ICMP, "icmp_type": kind, "icmp_code": code}],
        )
        for kind, code in ((3, 1), (3, 3), (3, 13), (11, 0), (12, 0))
    ),
    *(
        Sentence(
            f"ICMPv6 type {kind} code {code} about the SYN: unreachable",
            [syn(0, flow=C6), icmp(10, kind, code, flow=C6)],
            [{"result": UNREACHABLE, "reason": BY_ICMP, "icmp_type": kind, "icmp_code": code}],
        )
        for kind, code in ((1, 0), (1, 4), (3, 0), (4, 1))
    ),
    Sentence(
        "an ICMP error in the SYN's VLAN",
        [syn(0, flow=on_vlan(9)), icmp(10, 3, 1), icmp(11, 3, 1, flow=on_vlan(9), quoted_bytes=20)],
        [{"result": UNREACHABLE, "settled_ns": at(11)}],
    ),
    Sentence(
        "frag-needed and other ICMP never settle",
        [
            syn(0),
            icmp(10, 3, 4),  # fragmentation needed
            icmp(10, 5, 1),  # redirect
            icmp(10, 8, 0),  # echo
            icmp(10, 3, 1, seq=ISN + 1),  # about another segment
            icmp(10, 3, 1, quoted_bytes=7),  # the sequence number is cut
        ],
        [OPEN_END],
    ),
    Sentence("packet-too-big never settles", [syn(0, flow=C6), icmp(10, 2, 0, flow=C6)], [OPEN_END]),
    Sentence("an ICMP error after the SYN-ACK comes too late", [syn(0), synack(5), icmp(10, 3, 1)], [HALF_END]),
    Sentence(
        "a bare ACK for a SYN is a challenge",
        [syn(0), from_server(10, 777, 888)],
        [{"result": ON_ESTABLISHED, "reason": AT_END, "challenge_acks": 1}],
    ),
    Sentence(
        "after a challenge the client resets the old connection, and its next SYN is answered: one record",
        [
            syn(0),
            from_server(10, 777, 888),
            from_client(11, 888, flags=RST),
            syn(1000),
            synack(1010),
            from_client(1020),
            from_server(1030, data=1),
        ],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "challenge_acks": 1, "syn_count": 2, "syn_ns": at(0)}],
    ),
    Sentence(
        "data of an earlier connection is no challenge",
        [syn(0), from_server(10, 777, 888, data=100)],
        [{**OPEN_END, "challenge_acks": 0}],
    ),
    Sentence(
        "a segment that acks the SYN is only ahead of its SYN-ACK",
        [syn(0, data=10), from_server(9, ack=ISN + 11, data=3), synack(10, 10), from_client(20, ISN + 11)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "response_ns": at(9), "synack_ns": at(10)}],
    ),
    Sentence(
        "a SYN with RST or FIN is malformed and changes nothing",
        [syn(0), from_client(1, ISN, flags=SYN | FIN), from_client(1, flags=SYN | RST), rst(1, flags=SYN | RST | ACK)],
        [OPEN_END],
        {"malformed_tcp_flags": 3},
    ),
]

ENDS = [
    Sentence(
        "the client's FIN",
        [syn(0), synack(10), from_client(20), client_fin(30)],
        [{"result": ESTABLISHED, "reason": BY_FIN, "settled_ns": at(30), "ack_ns": at(20)}],
    ),
    Sentence(
        "a FIN of an earlier connection of the client's",
        [syn(0), synack(10), from_client(20), from_client(30, seq=ISN - 5000, flags=FIN | ACK)],
        [{**ESTABLISHED_END, "ack_ns": at(20)}],
    ),
    Sentence(
        "the client's FIN is its first ACK",
        [syn(0), synack(10), client_fin(20)],
        [{"result": ESTABLISHED, "reason": BY_FIN, "ack_ns": at(20)}],
    ),
    Sentence(
        "the server's FIN without data",
        [syn(0), synack(10), from_client(20), from_server(30, flags=FIN | ACK)],
        [{"result": ESTABLISHED, "reason": BY_FIN, "response_ns": 0}],
    ),
    Sentence(
        "the server's FIN before the ACK waits for it",
        [syn(0), synack(10), from_server(15, flags=FIN | ACK), from_client(20)],
        [{"result": ESTABLISHED, "reason": BY_FIN, "settled_ns": at(20)}],
    ),
    Sentence(
        "the server's FIN with data is a response",
        [syn(0), synack(10), from_client(20), from_server(30, data=3, flags=FIN | ACK)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE}],
    ),
    Sentence(
        "simultaneous open: SYNs cross, both ends send a SYN-ACK",
        [
            syn(0),
            Packet(1, S.frame(SYN, SERVER_ISN)),
            Packet(10, C.frame(SYN | ACK, ISN, SERVER_ISN + 1)),
            synack(11),
        ],
        [{"result": SIMULTANEOUS, "reason": BY_ACK, "settled_ns": at(11), "synack_ns": at(11)}],
    ),
    Sentence(
        "simultaneous open, the server's SYN-ACK first",
        [
            syn(0),
            Packet(1, S.frame(SYN, SERVER_ISN)),
            synack(10),
            Packet(11, C.frame(SYN | ACK, ISN, SERVER_ISN + 1)),
        ],
        [{"result": SIMULTANEOUS, "reason": BY_ACK, "settled_ns": at(11)}],
    ),
    Sentence(
        "crossed SYNs, then one SYN-ACK and its ACK",
        [syn(0), Packet(1, S.frame(SYN, SERVER_ISN)), synack(10), from_client(20)],
        [{"result": SIMULTANEOUS, "reason": BY_ACK, "ack_ns": at(20)}],
    ),
    Sentence(
        "a socket that connects to itself",
        [syn(0, flow=ALONE), Packet(1, ALONE.frame(SYN | ACK, ISN, ISN + 1))],
        [{"result": SIMULTANEOUS}],
    ),
]

TIMED = [
    Sentence(
        "no reply after 3.5 s",
        [syn(0), Sweep(3499, 1), Sweep(3500, 0)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT, "settled_ns": at(3500)}],
        clocked=True,
    ),
    Sentence(
        "no reply after 2.5 times the last gap between SYNs",
        [syn(0), syn(1000), Sweep(4499, 1), syn(3000), Sweep(7999, 1), syn(7000), Sweep(16999, 1), Sweep(17000, 0)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT, "syn_count": 4}],
        clocked=True,
    ),
    Sentence(
        "half open after 3.5 s, or 2.5 times the gap between SYN-ACKs",
        [syn(0), synack(100), Sweep(3599, 1), synack(2100), Sweep(7099, 1), Sweep(7100, 0)],
        [{"result": HALF_OPEN, "reason": BY_TIMEOUT, "synack_count": 2}],
        clocked=True,
    ),
    Sentence(
        "no response within the response timeout",
        [syn(0), synack(10), from_client(20), Sweep(5019, 1), Sweep(5020, 0)],
        [{"result": ESTABLISHED, "reason": BY_TIMEOUT, "response_ns": 0}],
        clocked=True,
    ),
    Sentence(
        "a late SYN after the settling is counted at the tombstone",
        [syn(0), rst(10), syn(1000), syn(2000), syn(3000, ISN)],
        [{"result": REJECTED, "syn_count": 1}],
        {"late_syns": 3},
    ),
    Sentence(
        "a SYN-ACK, RST or ICMP error for a tombstone changes nothing",
        [syn(0), rst(10), synack(20), rst(30), icmp(40, 3, 1), from_client(50)],
        [{"result": REJECTED}],
    ),
    Sentence(
        "a new ISN takes the place of a tombstone",
        [syn(0), rst(10), syn(1000, ISN + 1)],
        [{"result": REJECTED}, {"result": NO_REPLY, "reason": AT_END, "syn.seq": ISN + 1}],
    ),
    Sentence(
        "so does a SYN the other way",
        [syn(0), rst(10), Packet(1000, S.frame(SYN, 1))],
        [{"result": REJECTED}, {"result": NO_REPLY, "client_port": 443}],
    ),
    Sentence(
        "a tombstone is gone after 3 s",
        [syn(0), rst(10), Sweep(3009, 0), syn(3009), Sweep(3010, 0), syn(3011)],
        [{"result": REJECTED}, OPEN_END],
        {"late_syns": 1},
        clocked=True,
    ),
    Sentence(
        "a handshake that timed out leaves a tombstone, too",
        [syn(0), Sweep(4000, 0), syn(6000), Sweep(7000, 0), syn(7001)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT}, OPEN_END],
        {"late_syns": 1},
        clocked=True,
    ),
]

APART = [
    Sentence(
        "another VLAN is another connection",
        [syn(0, flow=on_vlan(10)), synack(1, flow=on_vlan(20)), synack(1), synack(1, flow=on_vlan(10, 20))],
        [{**OPEN_END, "vlan": [10, 0]}],
        {"synack_unmatched": 3},
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
        "more than two VLAN tags, and what is not IP, are nobody's business",
        [syn(0, flow=on_vlan(1, 2, 3)), Packet(0, ethernet(C.packet(b""))[:12] + b"\x08\x06" + bytes(46))],
        [],
    ),
]

SENTENCES = [*ORDINARY, *REPEATED, *REFUSED, *ENDS, *TIMED, *APART]


@pytest.mark.parametrize("sentence", SENTENCES, ids=str)
def test_sentence(timed: Programs, sentence: Sentence) -> None:
    tell(sentence, timed, None)


@pytest.mark.parametrize("road", list(Road))
@pytest.mark.parametrize("sentence", [s for s in SENTENCES if not s.clocked], ids=str)
def test_sentence_at_full_speed(programs: Programs, sentence: Sentence, road: Road) -> None:
    tell(sentence, programs, road)


def test_ack_of_a_settled_connection_stops_at_the_tags(timed: Programs) -> None:
    """Nothing is left in the set's tags, so its further segments are not even looked up."""
    tell(ORDINARY[0], timed, None)
    assert all(timed.tags(i) == 0 for i in range(timed.sets))
