"""What ends a handshake: refusals, FIN and RST, time (DESIGN.md section 4)."""

from __future__ import annotations

from tests.support.decoder import ACK, FIN, RST, SYN
from tests.support.packets import Flow
from tests.support.sentences import (
    ABORTED,
    AT_END,
    BY_ACK,
    BY_FIN,
    BY_ICMP,
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
    UNREACHABLE,
    C,
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
)

S = C.back
ALONE = Flow(C.src, C.src, 5000, 5000)
OPEN_END = {"result": NO_REPLY, "reason": AT_END}
HALF_END = {"result": HALF_OPEN, "reason": AT_END}
ESTABLISHED_END = {"result": ESTABLISHED, "reason": AT_END}


def on_vlan(*vlans: int | tuple[int, int]) -> Flow:
    """The usual client behind VLAN tags."""
    return Flow(C.src, C.dst, C.sport, C.dport, vlans)


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
        "an ICMP error without the SYN's VLAN tag, then one with it",
        [syn(0, flow=on_vlan(9)), icmp(10, 3, 1), icmp(11, 3, 1, flow=on_vlan(9), quoted_bytes=20)],
        [{"result": UNREACHABLE, "settled_ns": at(10)}],
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
        clocked=True,
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
        [{**ESTABLISHED_END, "ack_ns": at(20), "client_fin": 1}],
    ),
    Sentence(
        "a FIN of an earlier connection of the client's",
        [syn(0), synack(10), from_client(20), from_client(30, seq=ISN - 5000, flags=FIN | ACK)],
        [{**ESTABLISHED_END, "ack_ns": at(20)}],
    ),
    Sentence(
        "the client's FIN is its first ACK",
        [syn(0), synack(10), client_fin(20)],
        [{**ESTABLISHED_END, "ack_ns": at(20), "client_fin": 1}],
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
        clocked=True,
    ),
    Sentence(
        "an RST or ICMP error for a tombstone changes nothing",
        [syn(0), rst(10), rst(30), icmp(40, 3, 1), from_client(50)],
        [{"result": REJECTED}],
    ),
    Sentence(
        "a SYN-ACK for a tombstone makes a second record",
        [syn(0), rst(10), synack(20), rst(30), icmp(40, 3, 1), from_client(50)],
        [{"result": REJECTED}, {**ESTABLISHED_END, "resumed": REJECTED, "misfit_rsts": 1}],
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
        [syn(0), rst(10), Sweep(3009, 0), Sweep(3010, 0), syn(3011)],
        [{"result": REJECTED}, OPEN_END],
        clocked=True,
    ),
    Sentence(
        "a late SYN renews it: it lasts for 3 s or 2.5 times the gap between SYNs",
        [syn(0), rst(10), syn(3009), Sweep(10_500, 0), syn(10_500)],
        [{"result": REJECTED}],
        {"late_syns": 2},
        clocked=True,
    ),
    Sentence(
        "a handshake that timed out leaves a tombstone, too",
        [syn(0), Sweep(4000, 0), syn(6000), Sweep(7000, 0), syn(7001)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT}],
        {"late_syns": 2},
        clocked=True,
    ),
]
