"""Who goes on after a RST, an ICMP error or a long silence: a second record of the same id (DESIGN.md section 4)."""

from __future__ import annotations

from tests.support.decoder import RST
from tests.support.packets import option, padded
from tests.support.sentences import (
    ABORTED,
    AT_END,
    BY_RESPONSE,
    BY_RST,
    BY_TIMEOUT,
    C6,
    ESTABLISHED,
    HALF_OPEN,
    ISN,
    NO_REPLY,
    REJECTED,
    SERVER_ISN,
    UNREACHABLE,
    Packet,
    Sentence,
    Sweep,
    at,
    from_client,
    from_server,
    icmp,
    rst,
    syn,
    synack,
)

COOKIE = padded(option(34, bytes(8)))


def served(ms: float) -> list[Packet]:
    """SYN-ACK, ACK and response."""
    return [synack(ms), from_client(ms + 10), from_server(ms + 20, data=1)]


GOES_ON = [
    Sentence(
        "refused, and yet a SYN-ACK comes: another stack went on",
        [syn(0), rst(10), *served(20)],
        [{"result": REJECTED, "reason": BY_RST, "resumed": 0},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "resumed": REJECTED, "syn.seq": ISN, "syn_ns": at(0),
          "synack_ns": at(20), "response_ns": at(40), "reset_from": 0}],
    ),
    Sentence(
        "the same over IPv6",
        [syn(0, flow=C6), rst(10, flow=C6), synack(20, flow=C6), from_client(30, flow=C6),
         from_server(40, data=1, flow=C6)],
        [{"result": REJECTED, "family": 6}, {"result": ESTABLISHED, "resumed": REJECTED, "family": 6}],
    ),
    Sentence(
        "refused, and the next SYN is answered",
        [syn(0), rst(10), syn(1000), *served(1010)],
        [{"result": REJECTED, "syn_count": 1},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "resumed": REJECTED, "synack_ns": at(1010)}],
        {"late_syns": 1},
        clocked=True,
    ),
    Sentence(
        "unreachable, and the next SYN is answered",
        [syn(0), icmp(10, 3, 1), syn(1000), *served(1010)],
        [{"result": UNREACHABLE, "icmp_type": 3}, {"result": ESTABLISHED, "reason": BY_RESPONSE,
                                                   "resumed": UNREACHABLE, "icmp_type": 0}],
        {"late_syns": 1},
        clocked=True,
    ),
    Sentence(
        "given up, and then the answer comes",
        [syn(0), Sweep(3600, 0), *served(4000)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT, "resumed": 0},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "resumed": NO_REPLY, "syn_ns": at(0)}],
        clocked=True,
    ),
    Sentence(
        "given up, and a late SYN is answered",
        [syn(0), Sweep(3600, 0), syn(4000), Sweep(5000, 0), *served(5010)],
        [{"result": NO_REPLY}, {"result": ESTABLISHED, "resumed": NO_REPLY}],
        {"late_syns": 1},
        clocked=True,
    ),
    Sentence(
        "aborted, then another SYN and its answer: a Linux client after its own RST",
        [syn(0), synack(10), from_client(20, flags=RST), syn(1000), *served(1010)],
        [{"result": ABORTED, "reset_from": 1, "resumed": 0},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "resumed": ABORTED, "synack_ns": at(1010), "synack_count": 1}],
        {"late_syns": 1},
        clocked=True,
    ),
    Sentence(
        "the server acks more than it got, the client resets and begins again",
        [syn(0, data=100, options=COOKIE), synack(10, 300), from_client(20, ISN + 301, flags=RST), syn(1000),
         synack(1010, isn=77), from_client(1020, ack=78, data=100), from_server(1030, 78, ISN + 101, data=1)],
        [{"result": ABORTED, "reset_from": 1, "synack.ack": ISN + 301, "syn.payload_len": 100},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "resumed": ABORTED, "synack.seq": 77, "synack_isns": 1}],
        {"late_syns": 1},
        clocked=True,
    ),
    Sentence(
        "reset by the server, but the client had not heard it and goes on",
        [syn(0), synack(10), rst(15, seq=SERVER_ISN + 1), from_client(20), from_server(30, data=1)],
        [{"result": ABORTED, "reset_from": 2},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "resumed": ABORTED, "response_ns": at(30)}],
        clocked=True,
    ),
    Sentence(
        "resumed, reset once more, and resumed once more",
        [syn(0), rst(10), synack(20), rst(30, seq=SERVER_ISN + 1), syn(1000), *served(1010)],
        [{"result": REJECTED, "resumed": 0}, {"result": ABORTED, "resumed": REJECTED, "reset_from": 2},
         {"result": ESTABLISHED, "reason": BY_RESPONSE, "resumed": ABORTED}],
        {"late_syns": 1},
        clocked=True,
    ),
    Sentence(
        "refused, and the SYN's data is taken after all",
        [syn(0, data=100, options=COOKIE), rst(10), synack(20, 100), from_client(30, ISN + 101),
         from_server(40, ack=ISN + 101, data=1)],
        [{"result": REJECTED, "syn.payload_len": 100},
         {"result": ESTABLISHED, "resumed": REJECTED, "syn.payload_len": 100, "synack.ack": ISN + 101,
          "syn.cookie_len": 8, "request_ns": 0, "request_acked": 0}],
    ),
    Sentence(
        "an RST that overtakes the SYN-ACK by some microseconds",
        [syn(0), rst(9.99), *served(10)],
        [{"result": REJECTED}, {"result": ESTABLISHED, "reason": BY_RESPONSE, "resumed": REJECTED}],
    ),
    Sentence(
        "two of one port, both refused, both answered later",
        [syn(0), syn(1, ISN + 500), rst(10), rst(11, ack=ISN + 501), syn(1000), syn(1001, ISN + 500), synack(1010),
         synack(1011, of=ISN + 500, isn=77)],
        [{"result": REJECTED, "syn.seq": ISN}, {"result": REJECTED, "syn.seq": ISN + 500},
         {"result": HALF_OPEN, "syn.seq": ISN, "resumed": REJECTED},
         {"result": HALF_OPEN, "syn.seq": ISN + 500, "resumed": REJECTED}],
        {"late_syns": 2},
        clocked=True,
    ),
    Sentence(
        "resumed, and then nothing",
        [syn(0), rst(10), synack(20), Sweep(3519, 1), Sweep(3600, 0)],
        [{"result": REJECTED}, {"result": HALF_OPEN, "reason": BY_TIMEOUT, "resumed": REJECTED}],
        clocked=True,
    ),
    Sentence(
        "resumed, and reset again",
        [syn(0), rst(10), synack(20), from_client(30, flags=RST), Sweep(40, 0)],
        [{"result": REJECTED}, {"result": ABORTED, "resumed": REJECTED, "reset_from": 1}],
        clocked=True,
    ),
    Sentence(
        "resumed while another handshake of the port begins",
        [syn(0), rst(10), syn(20, ISN + 77), *served(30)],
        [{"result": REJECTED}, {"result": ESTABLISHED, "resumed": REJECTED, "syn.seq": ISN},
         {"result": NO_REPLY, "reason": AT_END, "syn.seq": ISN + 77, "resumed": 0}],
    ),
]  # fmt: skip

STAYS_DEAD = [
    Sentence(
        "aborted, and only the SYN-ACK comes again: the client has gone",
        [syn(0), synack(10), from_client(20, flags=RST), synack(1010), synack(3010)],
        [{"result": ABORTED, "synack_count": 1}],
        clocked=True,
    ),
    Sentence(
        "and is reset again each time",
        [syn(0), synack(10), from_client(20, flags=RST), synack(1010), from_client(1020, flags=RST), synack(2010),
         from_client(2020, flags=RST)],
        [{"result": ABORTED, "reset_from": 1}],
        clocked=True,
    ),
    Sentence(
        "aborted, and another server's SYN-ACK comes late",
        [syn(0), synack(10), from_client(20, flags=RST), synack(1010, isn=77)],
        [{"result": ABORTED, "synack_isns": 1}],
        clocked=True,
    ),
    Sentence(
        "the client's ACK and the server's RST cross",
        [syn(0), synack(10), rst(10.1, seq=SERVER_ISN + 1), from_client(30), rst(30.1, seq=SERVER_ISN + 1)],
        [{"result": ABORTED, "reset_from": 2}],
        clocked=True,
    ),
    Sentence(
        "a SYN-ACK that does not fit wakes nobody",
        [syn(0), rst(10), synack(20, -5), synack(30, 1 << 20)],
        [{"result": REJECTED}],
        {"synack_stray_ack": 2},
    ),
    Sentence(
        "RSTs and ICMP errors wake nobody",
        [syn(0), rst(10), rst(30), rst(31, ack=ISN), icmp(40, 3, 1), icmp(41, 3, 1, seq=77)],
        [{"result": REJECTED, "misfit_rsts": 0}],
    ),
    Sentence(
        "nor do segments of the client alone",
        [syn(0), rst(10), from_client(50), from_client(51, data=9)],
        [{"result": REJECTED}],
    ),
    Sentence(
        "after the tombstone a SYN-ACK is nobody's",
        [syn(0), rst(10), Sweep(3100, 0), synack(3200)],
        [{"result": REJECTED}],
        {"synack_unmatched": 1},
        clocked=True,
    ),
    Sentence(
        "a half-open handshake that was given up leaves no tombstone",
        [syn(0), synack(10), Sweep(3600, 0), synack(3610)],
        [{"result": HALF_OPEN, "reason": BY_TIMEOUT}],
        {"synack_unmatched": 1},
        clocked=True,
    ),
    Sentence(
        "nothing of an ordinary record says that it was resumed",
        [syn(0), *served(10)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "resumed": 0}],
    ),
    Sentence(
        "nor of one that opens after another was settled",
        [syn(0), *served(10), syn(1000, ISN + 5000), Sweep(1001, 1)],
        [{"result": ESTABLISHED}, {"result": NO_REPLY, "reason": AT_END, "resumed": 0}],
        clocked=True,
    ),
]  # fmt: skip

RESUMED = [*GOES_ON, *STAYS_DEAD]
