"""Several handshakes of the same addresses and ports at a time: at most two live ones (DESIGN.md section 4)."""

from __future__ import annotations

from tests.support.decoder import ACK, RST, SYN
from tests.support.sentences import (
    ABORTED,
    AT_END,
    BY_ACK,
    BY_ICMP,
    BY_NEW_SYN,
    BY_RESPONSE,
    BY_RST,
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
TWO, THREE = ISN + (1 << 20), ISN + (1 << 30)
B = 900_000_000  # the server's ISN for the second
OLD: list[Packet] = [syn(0), synack(1), from_client(2)]  # established, no response yet
OLD_LEFT = {"result": ESTABLISHED, "reason": AT_END, "syn.seq": ISN, "response_ns": 0}

SIDE_BY_SIDE = [
    Sentence(
        "a SYN with a new ISN leaves the one under way alone",
        [syn(0), syn(500, TWO), synack(510, isn=B, of=TWO), synack(520), Sweep(530, 2)],
        [{"result": HALF_OPEN, "reason": AT_END, "syn.seq": ISN, "synack.seq": SERVER_ISN, "syn_count": 1},
         {"result": HALF_OPEN, "reason": AT_END, "syn.seq": TWO, "synack.seq": B, "syn_count": 1}],
        clocked=True,
    ),
    Sentence(
        "the port is used again while the old connection seems to be alive",
        [*OLD, syn(500, TWO), synack(510, isn=B, of=TWO), from_client(520, TWO + 1, B + 1),
         from_client(521, TWO + 1, B + 1, data=50), from_server(530, B + 1, TWO + 51, data=5)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "syn.seq": TWO, "request_ns": at(521), "request_acked": 1,
          "synack.seq": B, "challenge_acks": 0, "misfit_synacks": 0},
         {**OLD_LEFT, "synack_isns": 1, "misfit_synacks": 0, "request_ns": 0, "synacks_after_ack": 0}],
    ),
    Sentence(
        "and the old one gets its answer afterwards",
        [*OLD, from_client(3, data=9), syn(500, TWO), synack(510, isn=B, of=TWO), from_client(520, TWO + 1, B + 1),
         from_server(530, ack=ISN + 10, data=5), from_server(540, B + 1, TWO + 1, data=5)],
        [{"reason": BY_RESPONSE, "syn.seq": ISN, "response_ns": at(530), "request_acked": 1},
         {"reason": BY_RESPONSE, "syn.seq": TWO, "response_ns": at(540), "request_acked": 0}],
    ),
    Sentence(
        "a port that is used again after the response",
        [*OLD, from_server(3, data=1), syn(500, TWO), synack(510, isn=B, of=TWO), from_client(520, TWO + 1, B + 1),
         from_server(530, B + 1, TWO + 1, data=1)],
        [{"reason": BY_RESPONSE, "syn.seq": ISN}, {"reason": BY_RESPONSE, "syn.seq": TWO, "resumed": 0}],
    ),
    Sentence(
        "a lower ISN is as new as a higher one",
        [syn(0, THREE), syn(500), synack(510), from_client(520), from_server(530, data=1)],
        [{"reason": BY_RESPONSE, "syn.seq": ISN}, {"result": NO_REPLY, "reason": AT_END, "syn.seq": THREE}],
    ),
    Sentence(
        "the new ISN lies within the old connection's window",
        [*OLD, from_client(3, data=50), syn(10, ISN + 9), synack(11, isn=B, of=ISN + 9),
         from_client(12, ISN + 10, B + 1), from_client(13, ISN + 10, B + 1, data=5),
         from_server(14, B + 1, ISN + 15, data=3), from_server(20, ack=ISN + 51, data=2)],
        [{"reason": BY_RESPONSE, "syn.seq": ISN + 9, "request_ns": at(13), "response_ns": at(14), "request_acked": 1},
         {"reason": BY_RESPONSE, "syn.seq": ISN, "response_ns": at(20), "request_acked": 1, "request_repeats": 0}],
    ),
    Sentence(
        "the old connection's request comes again",
        [*OLD, from_client(3, data=50), syn(10, TWO), synack(11, isn=B, of=TWO), from_client(12, TWO + 1, B + 1),
         from_client(250, data=50), from_server(260, ack=ISN + 51)],
        [{**OLD_LEFT, "request_repeats": 1, "request_acked": 1},
         {"result": ESTABLISHED, "syn.seq": TWO, "request_repeats": 0, "request_acked": 0, "request_ns": 0}],
        clocked=True,
    ),
    Sentence(
        "ACKs in another order than the SYN-ACKs",
        [syn(0), syn(1, TWO), synack(10), synack(11, isn=B, of=TWO), from_client(20, TWO + 1, B + 1), from_client(21),
         from_server(30, data=1), from_server(31, B + 1, TWO + 1, data=1)],
        [{"reason": BY_RESPONSE, "syn.seq": ISN, "ack_ns": at(21), "response_ns": at(30)},
         {"reason": BY_RESPONSE, "syn.seq": TWO, "ack_ns": at(20), "response_ns": at(31)}],
    ),
    Sentence(
        "a forged SYN is answered, and the client resets what it never asked for",
        [*OLD, syn(25, TWO), synack(26, isn=B, of=TWO), from_client(27, TWO + 1, flags=RST), from_server(30, data=1)],
        [{"result": ABORTED, "reset_from": 1, "syn.seq": TWO},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "syn.seq": ISN, "misfit_rsts": 0, "synack_isns": 1}],
    ),
    Sentence(
        "each counts its own retransmissions",
        [syn(0), syn(100, TWO), syn(1000), syn(1100, TWO), syn(3000), synack(3010), synack(3110, of=TWO, isn=B)],
        [{"syn.seq": ISN, "syn_count": 3, "synack_count": 1}, {"syn.seq": TWO, "syn_count": 2, "synack_count": 1}],
        clocked=True,
    ),
    Sentence(
        "an RST that acks the newer SYN refuses that one",
        [*OLD, syn(500, TWO), rst(510, ack=TWO + 1)],
        [{"result": REJECTED, "reason": BY_RST, "syn.seq": TWO}, {**OLD_LEFT, "misfit_rsts": 0}],
    ),
    Sentence(
        "an RST in the older one's window resets that one",
        [*OLD, syn(500, TWO), rst(510, seq=SERVER_ISN + 1)],
        [{"result": ESTABLISHED, "reason": BY_RST, "syn.seq": ISN, "reset_from": 2},
         {"result": NO_REPLY, "reason": AT_END, "syn.seq": TWO}],
    ),
    Sentence(
        "an ICMP error about the newer SYN",
        [*OLD, syn(500, TWO), icmp(510, 3, 1, seq=TWO)],
        [{"result": UNREACHABLE, "reason": BY_ICMP, "syn.seq": TWO, "misfit_icmps": 0},
         {**OLD_LEFT, "misfit_icmps": 0}],
    ),
    Sentence(
        "an ICMP error about the older SYN",
        [syn(0), syn(500, TWO), icmp(510, 3, 1)],
        [{"result": UNREACHABLE, "syn.seq": ISN}, {"result": NO_REPLY, "syn.seq": TWO, "misfit_icmps": 0}],
    ),
    Sentence(
        "the client's RST of the newer one",
        [*OLD, syn(500, TWO), synack(510, isn=B, of=TWO), from_client(520, TWO + 1, flags=RST)],
        [{"result": ABORTED, "syn.seq": TWO, "reset_from": 1}, OLD_LEFT],
    ),
    Sentence(
        "the client's FIN of the older one",
        [*OLD, syn(500, TWO), client_fin(510), from_server(520, ack=ISN + 2, data=5)],
        [{"reason": BY_RESPONSE, "syn.seq": ISN, "client_fin": 1},
         {"result": NO_REPLY, "syn.seq": TWO, "client_fin": 0}],
    ),
    Sentence(
        "a challenge ACK answers the newer SYN, the older one is established",
        [*OLD, syn(500, TWO), from_server(510), from_client(511, ISN + 1, flags=ACK)],
        [{"result": ON_ESTABLISHED, "reason": AT_END, "syn.seq": TWO, "challenge_acks": 1},
         {**OLD_LEFT, "challenge_acks": 0, "request_acked": 0}],
    ),
    Sentence(
        "a challenge ACK, the client's RST of the old connection, and the next SYN is answered",
        [*OLD, syn(500, TWO), from_server(510), from_client(511, ISN + 1, flags=RST), syn(1500, TWO),
         synack(1510, isn=B, of=TWO), from_client(1520, TWO + 1, B + 1), from_server(1530, B + 1, TWO + 1, data=1)],
        [{"result": ESTABLISHED, "reason": BY_RST, "reset_from": 1, "syn.seq": ISN, "settled_ns": at(511)},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "syn.seq": TWO, "syn_count": 2, "challenge_acks": 1}],
        clocked=True,
    ),
]  # fmt: skip

AT_MOST_TWO = [
    Sentence(
        "of three unanswered ones the oldest and the newest stay",
        [syn(0), syn(1, TWO), syn(2, THREE)],
        [{"result": NO_REPLY, "reason": BY_NEW_SYN, "syn.seq": TWO, "settled_ns": at(2)},
         {"result": NO_REPLY, "reason": AT_END, "syn.seq": ISN}, {"result": NO_REPLY, "reason": AT_END,
         "syn.seq": THREE}],
    ),
    Sentence(
        "of three the answered one and the newest stay",
        [syn(0), syn(1, TWO), synack(2, isn=B, of=TWO), syn(3, THREE)],
        [{"result": NO_REPLY, "reason": BY_NEW_SYN, "syn.seq": ISN},
         {"result": HALF_OPEN, "reason": AT_END, "syn.seq": TWO}, {"result": NO_REPLY, "reason": AT_END,
         "syn.seq": THREE}],
    ),
    Sentence(
        "of three the established one and the newest stay",
        [*OLD, syn(3, TWO), syn(4, THREE), from_server(10, data=1)],
        [{"result": NO_REPLY, "reason": BY_NEW_SYN, "syn.seq": TWO},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "syn.seq": ISN},
         {"result": NO_REPLY, "reason": AT_END, "syn.seq": THREE}],
    ),
    Sentence(
        "forged SYNs do not fill the table",
        [*OLD, *(syn(3 + i, TWO + i) for i in range(20)), Sweep(30, 2), from_server(40, data=1), Sweep(50, 1)],
        [*({"result": NO_REPLY, "reason": BY_NEW_SYN, "syn.seq": TWO + i} for i in range(19)),
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "syn.seq": ISN},
         {"result": NO_REPLY, "reason": AT_END, "syn.seq": TWO + 19}],
        clocked=True,
    ),
    Sentence(
        "one that is displaced leaves no tombstone: what follows opens again",
        [syn(0), syn(1, TWO), syn(2, THREE), Sweep(3, 2), syn(1000, TWO)],
        [{"reason": BY_NEW_SYN, "syn.seq": TWO}, {"reason": BY_NEW_SYN, "syn.seq": THREE},
         {"reason": AT_END, "syn.seq": ISN}, {"reason": AT_END, "syn.seq": TWO, "syn_count": 1}],
        clocked=True,
    ),
    Sentence(
        "a settled one makes room",
        [*OLD, syn(3, TWO), from_server(4, data=1), syn(5, THREE)],
        [{"reason": BY_RESPONSE, "syn.seq": ISN}, {"reason": AT_END, "syn.seq": TWO},
         {"reason": AT_END, "syn.seq": THREE}],
    ),
]  # fmt: skip

CROSSED = [
    Sentence(
        "simultaneous open with a SYN that is sent again on either side",
        [syn(0), Packet(1, S.frame(SYN, SERVER_ISN)), syn(1000), Packet(1001, S.frame(SYN, SERVER_ISN)),
         Packet(1010, C.frame(SYN | ACK, ISN, SERVER_ISN + 1)), synack(1011)],
        [{"result": SIMULTANEOUS, "reason": BY_ACK, "settled_ns": at(1011)}],
        clocked=True,
    ),
    Sentence(
        "simultaneous open beside an older connection of the port",
        [*OLD, syn(500, TWO), Packet(501, S.frame(SYN, B)), Packet(510, C.frame(SYN | ACK, TWO, B + 1)),
         synack(511, isn=B, of=TWO)],
        [{"result": SIMULTANEOUS, "reason": BY_ACK, "syn.seq": TWO}, OLD_LEFT],
    ),
    Sentence(
        "crossed SYNs whose other side then is refused",
        [syn(0), Packet(1, S.frame(SYN, SERVER_ISN)), rst(10)],
        [{"result": REJECTED, "reason": BY_RST, "syn.seq": ISN}],
    ),
]  # fmt: skip

ENTRIES = [*SIDE_BY_SIDE, *AT_MOST_TWO, *CROSSED]
