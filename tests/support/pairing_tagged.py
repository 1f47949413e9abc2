"""VLAN tags, and SYN-ACKs with FIN (DESIGN.md section 4)."""

from __future__ import annotations

from tests.support.decoder import ACK, FIN, SYN
from tests.support.packets import Flow
from tests.support.sentences import (
    AT_END,
    BY_ICMP,
    BY_RESPONSE,
    BY_RST,
    C6,
    ESTABLISHED,
    HALF_OPEN,
    ISN,
    NO_REPLY,
    REJECTED,
    SERVER_ISN,
    UNREACHABLE,
    C,
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


def on_vlan(*vlans: int | tuple[int, int], of: Flow = C) -> Flow:
    """The usual client behind VLAN tags."""
    return Flow(of.src, of.dst, of.sport, of.dport, vlans)


TEN, TWENTY, BOTH = on_vlan(10), on_vlan(20), on_vlan(10, 20)
SERVED = {"result": ESTABLISHED, "reason": BY_RESPONSE, "one_way": 0, "syn_count": 1, "synack_count": 1}


def differing(there: Flow, back: Flow) -> list[Packet]:
    """A handshake whose directions have tags of their own."""
    return [syn(0, flow=there), synack(10, flow=back), from_client(20, flow=there), from_server(30, data=1, flow=back)]


BY_DIRECTION = [
    Sentence(
        "another tag on the way back",
        differing(TEN, TWENTY),
        [{**SERVED, "vlan": [10, 0]}],
    ),
    Sentence("a tag on the way there only", differing(TEN, C), [{**SERVED, "vlan": [10, 0]}]),
    Sentence("a tag on the way back only", differing(C, TWENTY), [{**SERVED, "vlan": [0, 0]}]),
    Sentence("another inner tag", differing(BOTH, on_vlan(10, 30)), [{**SERVED, "vlan": [10, 20]}]),
    Sentence("one tag and two", differing(TEN, BOTH), [{**SERVED, "vlan": [10, 0]}]),
    Sentence(
        "the same over IPv6",
        differing(on_vlan(10, of=C6), on_vlan(20, of=C6)),
        [{**SERVED, "vlan": [10, 0], "family": 6}],
    ),
    Sentence(
        "a RST with another tag refuses",
        [syn(0, flow=TEN), rst(10, flow=TWENTY)],
        [{"result": REJECTED, "reason": BY_RST}],
    ),
    Sentence(
        "an ICMP error with another tag",
        [syn(0, flow=TEN), icmp(10, 3, 1, flow=TWENTY)],
        [{"result": UNREACHABLE, "reason": BY_ICMP, "settled_ns": at(10)}],
    ),
    Sentence(
        "numbers that do not fit do not pair, whatever their tag",
        [syn(0, flow=TEN), synack(10, -5, flow=TWENTY)],
        [{"result": NO_REPLY, "reason": AT_END, "synack_count": 0}],
        {"synack_stray_ack": 1},
    ),
    Sentence(
        "a refused one with another tag on the way back goes on",
        [syn(0, flow=TEN), rst(10, flow=TWENTY), synack(20, flow=TWENTY)],
        [{"result": REJECTED}, {"result": HALF_OPEN, "reason": AT_END, "resumed": REJECTED, "vlan": [10, 0]}],
    ),
]

ON_A_STICK = [
    Sentence(
        "a router on a stick: every segment in with one tag and out with another",
        [syn(0, flow=TEN), syn(0.05, flow=TWENTY), synack(10, flow=TWENTY), synack(10.05, flow=TEN),
         from_client(20, flow=TEN), from_client(20.05, flow=TWENTY), from_server(30, data=1, flow=TWENTY),
         from_server(30.05, data=1, flow=TEN)],
        [{**SERVED, "vlan": [20, 0], "copies": 0, "synack_ns": at(10), "response_ns": at(30), "synacks_after_ack": 0},
         {**SERVED, "vlan": [10, 0], "copies": 0, "synack_ns": at(10.05), "response_ns": at(30.05),
          "synacks_after_ack": 0}],
    ),
    Sentence(
        "it refuses with each tag once",
        [syn(0, flow=TEN), syn(0.05, flow=TWENTY), rst(10, flow=TWENTY), rst(10.05, flow=TEN)],
        [{"result": REJECTED, "vlan": [20, 0], "settled_ns": at(10)},
         {"result": REJECTED, "vlan": [10, 0], "settled_ns": at(10.05)}],
    ),
    Sentence(
        "it sends an ICMP error on the client's side only",
        [syn(0, flow=TEN), syn(0.05, flow=TWENTY), icmp(10, 3, 1, flow=TEN)],
        [{"result": UNREACHABLE, "vlan": [10, 0]}, {"result": NO_REPLY, "vlan": [20, 0]}],
    ),
    Sentence(
        "each tag counts its own retransmissions",
        [syn(0, flow=TEN), syn(0.05, flow=TWENTY), syn(1000, flow=TEN), syn(1000.05, flow=TWENTY)],
        [{"syn_count": 2, "vlan": [10, 0], "copies": 0}, {"syn_count": 2, "vlan": [20, 0], "copies": 0}],
        clocked=True,
    ),
    Sentence(
        "the SYN is not forwarded again after it was answered with the first tag",
        [syn(0, flow=TEN), synack(10, flow=TEN), syn(10.5, flow=TWENTY)],
        [{"result": HALF_OPEN, "vlan": [10, 0]}, {"result": NO_REPLY, "vlan": [20, 0]}],
    ),
    Sentence(
        "each tag has room for two of its own",
        [*(syn(i, ISN + i, flow=flow) for i, flow in enumerate((TEN, TWENTY, C, BOTH, TEN))), Sweep(10, 5)],
        [{"result": NO_REPLY, "reason": AT_END}] * 5,
        clocked=True,
    ),
    Sentence(
        "two tenants with the same addresses and ports",
        [syn(0, flow=TEN), syn(1, ISN + 5000, flow=TWENTY), synack(10, isn=77, of=ISN + 5000, flow=TWENTY),
         synack(11, flow=TEN), from_client(20, flow=TEN), from_client(21, ISN + 5001, 78, flow=TWENTY),
         from_server(30, 78, ISN + 5001, data=1, flow=TWENTY), from_server(31, data=1, flow=TEN)],
        [{**SERVED, "vlan": [20, 0], "synack.seq": 77}, {**SERVED, "vlan": [10, 0], "synack.seq": SERVER_ISN}],
    ),
    Sentence(
        "two tenants whose ISNs are alike: the tag decides",
        [syn(0, flow=TEN), syn(1, flow=TWENTY), synack(10, isn=77, flow=TWENTY), synack(11, flow=TEN),
         from_client(20, flow=TEN), from_client(21, ack=78, flow=TWENTY), from_server(30, 78, data=1, flow=TWENTY),
         from_server(31, data=1, flow=TEN)],
        [{**SERVED, "vlan": [20, 0], "synack.seq": 77, "synack_isns": 1},
         {**SERVED, "vlan": [10, 0], "synack.seq": SERVER_ISN, "synack_isns": 1}],
    ),
]  # fmt: skip

WITH_FIN = [
    Sentence(
        "a SYN-ACK with FIN is a SYN-ACK, and its FIN is not heard: so does Linux",
        [syn(0), synack(10, flags=SYN | ACK | FIN), from_client(20)],
        [{"result": ESTABLISHED, "reason": AT_END, "synack_ns": at(10), "synack_count": 1,
          "synack.tcp_flags": SYN | ACK | FIN}],
    ),
    Sentence(
        "and what follows is the response",
        [syn(0), synack(10, flags=SYN | ACK | FIN), from_client(20), from_server(30, data=1)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "response_ns": at(30)}],
    ),
    Sentence(
        "a SYN with FIN opens nothing",
        [syn(0, flags=SYN | FIN), synack(10)],
        [],
        {"malformed_tcp_flags": 1, "synack_unmatched": 1},
    ),
    Sentence(
        "nor does it count for one that is open",
        [syn(0), syn(1000, flags=SYN | FIN)],
        [{"result": NO_REPLY, "syn_count": 1}],
        {"malformed_tcp_flags": 1},
    ),
]  # fmt: skip

TAGGED = [*BY_DIRECTION, *ON_A_STICK, *WITH_FIN]
