"""What does not fit a handshake: counted where its sender means it, and never the verdict's (DESIGN.md section 4)."""

from __future__ import annotations

from typing import Any

from tests.support.decoder import ACK, FIN, RST, SYN
from tests.support.packets import option, padded
from tests.support.sentences import (
    ABORTED,
    AT_END,
    BY_ICMP,
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
    TFO_REQUEST,
    UNREACHABLE,
    C,
    Packet,
    Sentence,
    Step,
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
FAR = 1 << 24  # bytes: no window is as large without scaling
OTHER = ISN + (1 << 30)  # the ISN of a forged SYN
COOKIE = padded(option(34, bytes(8)))
NONE: dict[str, Any] = {"misfit_rsts": 0, "misfit_synacks": 0, "misfit_icmps": 0}

MISFITS = [
    Sentence(
        "RSTs that ack the SYN's own number instead of the next: Linux ignores them",
        [syn(0), rst(4, ack=ISN), syn(1020), rst(1024, ack=ISN), syn(3050), rst(3054, ack=ISN), syn(7100),
         rst(7104, ack=ISN), Sweep(17_300, 0)],
        [{**NONE, "result": NO_REPLY, "reason": BY_TIMEOUT, "misfit_rsts": 4, "reset_from": 0, "reset_ttl": 0,
          "syn_count": 4}],
        clocked=True,
    ),
    Sentence(
        "RSTs that ack less or more than was sent, or nothing",
        [syn(0, data=100), rst(10, ack=ISN), rst(11, ack=ISN + 102), rst(12, flags=RST), rst(13, ack=ISN + FAR),
         from_server(14, flags=RST, ack=0)],
        [{**NONE, "result": NO_REPLY, "misfit_rsts": 5}],
    ),
    Sentence(
        "one that fits after those that did not",
        [syn(0), rst(10, ack=ISN), rst(20, ack=ISN + 2), rst(30)],
        [{**NONE, "result": REJECTED, "reason": BY_RST, "misfit_rsts": 2, "reset_from": 2, "settled_ns": at(30)}],
    ),
    Sentence(
        "a SYN-ACK that fits after RSTs that did not",
        [syn(0), rst(5, ack=ISN), synack(10), from_client(20), from_server(30, data=1)],
        [{**NONE, "result": ESTABLISHED, "reason": BY_RESPONSE, "misfit_rsts": 1, "reset_from": 0}],
    ),
    Sentence(
        "SYN-ACKs that ack another SYN",
        [syn(0), synack(10, -5), synack(20, FAR), synack(30, -1)],
        [{**NONE, "result": NO_REPLY, "misfit_synacks": 3, "synack_count": 0, "synack_ns": 0, "synack_isns": 0}],
        {"synack_stray_ack": 3},
    ),
    Sentence(
        "a SYN-ACK that acks one byte more than a plain SYN",
        [syn(0), synack(10, 1)],
        [{**NONE, "result": NO_REPLY, "misfit_synacks": 1, "synack_count": 0, "synack_ns": 0}],
        {"synack_odd_ack": 1},
    ),
    Sentence(
        "the client resets it, as Linux does, and goes on",
        [syn(0), synack(10, 1), from_client(11, ISN + 2, flags=RST), syn(1000), synack(1010), from_client(1020),
         from_server(1030, data=1)],
        [{**NONE, "result": ESTABLISHED, "reason": BY_RESPONSE, "misfit_synacks": 1, "syn_count": 2,
          "synack_count": 1, "synack_ns": at(1010)}],
        {"synack_odd_ack": 1},
        clocked=True,
    ),
    Sentence(
        "after an attempt over-acks are judged, up to 65,535 bytes beyond the SYN's data",
        [syn(0, data=100, options=COOKIE), synack(10, 100 + 65_535)],
        [{**NONE, "result": HALF_OPEN, "synack.ack": ISN + 1 + 100 + 65_535}],
    ),
    Sentence(
        "beyond that they do not fit",
        [syn(0, data=100, options=COOKIE), synack(10, 100 + 65_536)],
        [{**NONE, "result": NO_REPLY, "misfit_synacks": 1}],
        {"synack_stray_ack": 1},
    ),
    Sentence(
        "nor does an ack below an attempt's SYN",
        [syn(0, data=100, options=COOKIE), synack(10, -1)],
        [{**NONE, "result": NO_REPLY, "misfit_synacks": 1}],
        {"synack_stray_ack": 1},
    ),
    Sentence(
        "a cookie request is an attempt",
        [syn(0, options=TFO_REQUEST), synack(10, 1)],
        [{**NONE, "result": HALF_OPEN, "synack.ack": ISN + 2}],
    ),
    Sentence(
        "ICMP errors about another segment of the addresses and ports",
        [syn(0), icmp(10, 3, 1, seq=ISN + 1), icmp(20, 3, 3, seq=ISN - 1), icmp(30, 11, 0, seq=77)],
        [{**NONE, "result": NO_REPLY, "misfit_icmps": 3, "icmp_type": 0, "icmp_code": 0}],
    ),
    Sentence(
        "ICMPv6 errors about another segment, then one about the SYN",
        [syn(0, flow=C6), icmp(10, 1, 4, seq=ISN + 1, flow=C6), icmp(20, 1, 4, flow=C6)],
        [{**NONE, "result": UNREACHABLE, "reason": BY_ICMP, "misfit_icmps": 1}],
    ),
    Sentence(
        "ICMP errors after the SYN-ACK count nowhere",
        [syn(0), synack(5), icmp(10, 3, 1, seq=ISN + 1), icmp(20, 3, 1), from_client(30), icmp(40, 3, 1, seq=77)],
        [{**NONE, "result": ESTABLISHED, "reason": AT_END}],
    ),
    Sentence(
        "RSTs of a half-open handshake that are not where they must be",
        [syn(0), synack(10), rst(20, seq=SERVER_ISN), rst(21, seq=SERVER_ISN + 2), rst(22, seq=SERVER_ISN + FAR),
         from_client(23, ISN, flags=RST), from_client(24, ISN - 77, flags=RST), from_client(25, ISN + FAR, flags=RST)],
        [{**NONE, "result": HALF_OPEN, "misfit_rsts": 6}],
    ),
    Sentence(
        "a client's RST after the SYN-ACK is where the SYN-ACK asks for it",
        [syn(0, data=100), synack(10, 50), from_client(20, ISN + 51, flags=RST)],
        [{**NONE, "result": ABORTED, "reset_from": 1}],
    ),
    Sentence(
        "RSTs of a living handshake that are not where they must be",
        [syn(0), synack(10), from_client(20), rst(21, seq=SERVER_ISN), rst(22, seq=SERVER_ISN + 2),
         rst(23, seq=SERVER_ISN + FAR), from_client(24, ISN, flags=RST), from_client(25, ISN + 1 + FAR, flags=RST),
         from_server(30, data=1)],
        [{**NONE, "result": ESTABLISHED, "reason": BY_RESPONSE, "misfit_rsts": 5, "reset_from": 0}],
    ),
    Sentence(
        "a client's RST further ahead than a window without scaling reaches",
        [syn(0), synack(10), from_client(20), from_client(30, ISN + 1 + 70_000, flags=RST), from_server(40, data=1)],
        [{**NONE, "result": ESTABLISHED, "reason": BY_RESPONSE, "misfit_rsts": 1}],
    ),
    Sentence(
        "misfits saturate",
        [syn(0), *(rst(2 + 2 * i, ack=ISN) for i in range(300)), *(synack(700 + 2 * i, -5) for i in range(300)),
         *(icmp(1400 + 2 * i, 3, 1, seq=77) for i in range(300))],
        [{"result": NO_REPLY, "misfit_rsts": 255, "misfit_synacks": 255, "misfit_icmps": 255}],
        {"synack_stray_ack": 300},
        clocked=True,
    ),
]  # fmt: skip

# a handshake in each state: what led there, and what follows
BEGINNING: list[Packet] = [syn(0, data=9, options=COOKIE)]
ANSWERED = [*BEGINNING, synack(10, 9)]
GOING = [*ANSWERED, from_client(20, ISN + 10)]
ASKING = [*GOING, from_client(21, ISN + 10, data=50)]
CLOSING = [*ASKING, client_fin(22, ISN + 60)]
STATES = {
    "the SYN waits": BEGINNING,
    "the SYN-ACK waits": ANSWERED,
    "it is established": GOING,
    "the request waits": ASKING,
    "the client has closed": CLOSING,
}
FORGED: dict[str, tuple[Packet, int]] = {
    # and how many RSTs it adds to the misfits
    "a SYN-ACK far off": (Packet(24, S.frame(SYN | ACK, 77, ISN + FAR)), 0),
    "a server's RST beyond the window": (rst(24, seq=SERVER_ISN + FAR, ack=ISN + FAR), 1),
    "a server's RST before the window": (rst(24, seq=SERVER_ISN - 1, ack=ISN), 1),
    "a client's RST beyond the window": (from_client(24, ISN + FAR, flags=RST), 1),
    "a client's RST before the window": (from_client(24, ISN - 1, flags=RST), 1),
    "a server's FIN beyond the window": (from_server(24, SERVER_ISN + FAR, ISN + 10, flags=FIN | ACK), 0),
    "a server's FIN before the window": (from_server(24, SERVER_ISN - FAR, ISN + 10, flags=FIN | ACK), 0),
    "a client's FIN beyond the window": (client_fin(24, ISN + FAR), 0),
    "a client's FIN before the window": (client_fin(24, ISN - FAR), 0),
    "a server's data beyond the window": (from_server(24, SERVER_ISN + FAR, ISN + 10, data=5), 0),
    "a client's ACK of another connection": (from_client(24, ISN - FAR, SERVER_ISN + FAR), 0),
}


def _goes_on(state: str) -> list[Packet]:
    """What a handshake in this state still needs to be answered."""
    had = STATES[state]
    rest = [synack(30, 9), from_client(40, ISN + 10), from_client(41, ISN + 10, data=50), client_fin(42, ISN + 60)]
    return [*rest[len(had) - 1 :], from_server(50, ack=ISN + 61, data=5)]


LIVES: dict[str, Any] = {
    "result": ESTABLISHED, "reason": BY_RESPONSE, "response_ns": at(50), "syn_count": 1, "synack_count": 1,
    "synack.seq": SERVER_ISN, "client_fin": 1, "request_acked": 1, "reset_from": 0, "one_way": 0, "challenge_acks": 0,
    "syn.seq": ISN, "settled_ns": at(50),
}  # fmt: skip


def _forged(name: str, state: str) -> Sentence:
    packet, rsts = FORGED[name]
    is_syn_ack = name.startswith("a SYN-ACK")
    # before the SYN-ACK the server's RSTs alone are misfits
    if state == "the SYN waits" and "client" in name:
        rsts = 0
    return Sentence(
        f"{name} while {state}",
        [*STATES[state], packet, *_goes_on(state)],
        [{**LIVES, "misfit_rsts": rsts, "misfit_synacks": int(is_syn_ack)}],
        {"synack_stray_ack": 1} if is_syn_ack else {},
    )


FORGERIES = [_forged(name, state) for name in FORGED for state in STATES]


def _forged_syn(state: str) -> Sentence:
    return Sentence(
        f"a SYN with another ISN while {state}",
        [*STATES[state], syn(24, OTHER), *_goes_on(state)],
        [LIVES, {"result": NO_REPLY, "reason": AT_END, "syn.seq": OTHER, "syn_count": 1}],
    )


def _refused_syn(state: str) -> Sentence:
    steps: list[Step] = [*STATES[state], syn(24, OTHER), rst(25, ack=OTHER + 1), *_goes_on(state)]
    return Sentence(
        f"a SYN with another ISN, refused, while {state}",
        steps,
        [{"result": REJECTED, "reason": BY_RST, "syn.seq": OTHER}, LIVES],
    )


def _syn_from_the_server(state: str) -> Sentence:
    records = [LIVES]
    if state != "the SYN waits":  # there it may be a simultaneous open
        records.append({"result": NO_REPLY, "reason": AT_END, "syn.seq": 77, "client_port": S.sport})
    return Sentence(
        f"a SYN from the server's side while {state}",
        [*STATES[state], Packet(24, S.frame(SYN, 77)), *_goes_on(state)],
        records,
    )


# the request goes unanswered, whatever these say
IN_VAIN = [
    Sentence(
        f"{name}, and the request comes again",
        [*ASKING, packet, from_client(321, ISN + 10, data=50), Sweep(5021, 0)],
        [{"result": ESTABLISHED, "reason": BY_TIMEOUT, "response_ns": 0, "request_acked": 0, "request_repeats": 1,
          "reset_from": 0, "client_fin": 0}],
        clocked=True,
    )
    for name, packet in {
        "a FIN of the server's without an ACK": from_server(24, flags=FIN),
        "the same beyond the next number": from_server(24, SERVER_ISN + 1000, flags=FIN),
        "a FIN that acks what was never sent": from_server(24, SERVER_ISN + 1000, ISN + FAR, flags=FIN | ACK),
        "data of the server's without an ACK": from_server(24, flags=0, data=5),
        "an ACK of the server's from before its SYN-ACK": from_server(24, SERVER_ISN, ISN + 61),
        "a FIN of the client's without an ACK": from_client(24, ISN + 60, flags=FIN),
    }.items()
]  # fmt: skip
TAILS = [
    Sentence(
        "after an out-of-order tail a RST before its end does not fit",
        [*ASKING, from_server(24, SERVER_ISN + 1001, ISN + 60, data=9), rst(25, seq=SERVER_ISN + 1000),
         from_server(50, ack=ISN + 60, data=5)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "misfit_rsts": 1, "reset_from": 0, "settled_ns": at(50)}],
    ),
    Sentence(
        "one at its end does",
        [*ASKING, from_server(24, SERVER_ISN + 1001, ISN + 60, data=9), rst(25, seq=SERVER_ISN + 1010)],
        [{"result": ESTABLISHED, "reason": BY_RST, "misfit_rsts": 0, "reset_from": 2, "response_ns": 0}],
    ),
]  # fmt: skip

SYNS = [forge(state) for forge in (_forged_syn, _refused_syn, _syn_from_the_server) for state in STATES]

FOREIGN = [*MISFITS, *FORGERIES, *IN_VAIN, *TAILS, *SYNS]
