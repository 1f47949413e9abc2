"""Which of several SYN-ACKs counts, and which byte of the server's is its first (DESIGN.md sections 3 and 4)."""

from __future__ import annotations

from typing import Any

from tests.support.decoder import SYN
from tests.support.packets import option, padded
from tests.support.sentences import (
    AT_END,
    BY_RESPONSE,
    BY_TIMEOUT,
    ESTABLISHED,
    HALF_OPEN,
    ISN,
    SERVER_ISN,
    Sentence,
    Sweep,
    at,
    from_client,
    from_server,
    syn,
    synack,
    timestamps,
)

A, B, D = SERVER_ISN, 900_000_000, 0xFFFFFFF0
COOKIE = bytes.fromhex("0123456789abcdef")
NO_FIRST: dict[str, Any] = {
    "first_answer.ns": 0, "first_answer.seq": 0, "first_answer.ack": 0, "first_answer.ts_ecr": 0,
    "first_answer.has": 0, "first_answer.tfo_kind": 0, "first_answer.cookie_len": 0, "first_answer.cookie": [0] * 16,
}  # fmt: skip
SEEN, WITH_TIMESTAMPS, WITH_TFO = 1 << 0, 1 << 4, 1 << 5  # event.h: HAS_*

CHOSEN = [
    Sentence(
        "A answers, B answers the next SYN, the client takes B, A comes again, B sends data",
        [syn(0), synack(10, isn=A), syn(1000), synack(1010, isn=B), from_client(1020, ack=B + 1), synack(1030, isn=A),
         from_server(1040, B + 1, data=5)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "synack_ns": at(1010), "synack.seq": B, "ack_ns": at(1020),
          "response_ns": at(1040), "synack_isns": 2, "synack_count": 3, "synacks_after_ack": 0, "syn_count": 2,
          "late_syns": 1, "retx": [(1_000_000, 0)], "first_answer.ns": at(10), "first_answer.seq": A,
          "first_answer.ack": ISN + 1, "first_answer.has": SEEN, "copies": 0, "misfit_synacks": 0}],
        clocked=True,
    ),
    Sentence(
        "A and B answer, the client takes B: A's data is no response",
        [syn(0), synack(10, isn=A), synack(20, isn=B), from_client(30, ack=B + 1), from_server(40, A + 1, data=5),
         from_server(50, B + 1, data=5)],
        [{"reason": BY_RESPONSE, "response_ns": at(50), "synack.seq": B, "synack_isns": 2}],
    ),
    Sentence(
        "A and B answer, the client takes A",
        [syn(0), synack(10, isn=A), synack(20, isn=B), from_client(30, ack=A + 1), from_server(40, B + 1, data=5),
         from_server(50, A + 1, data=5)],
        [{"reason": BY_RESPONSE, "response_ns": at(50), "synack_ns": at(10), "synack.seq": A, "synack_isns": 2,
          **NO_FIRST}],
    ),
    Sentence(
        "B comes after the ACK of A",
        [syn(0), synack(10, isn=A), from_client(20, ack=A + 1), synack(30, isn=B), from_server(40, B + 1, data=5),
         from_server(50, A + 1, data=5)],
        [{"reason": BY_RESPONSE, "response_ns": at(50), "synack_ns": at(10), "synack.seq": A, "synack_isns": 2,
          "synacks_after_ack": 0, **NO_FIRST}],
    ),
    Sentence(
        "nobody's is taken: the first one stands",
        [syn(0), synack(10, isn=A), synack(1010, isn=B), Sweep(9000, 0)],
        [{"result": HALF_OPEN, "reason": BY_TIMEOUT, "synack_ns": at(10), "synack.seq": A, "synack_isns": 2,
          "synack_count": 2, **NO_FIRST}],
        clocked=True,
    ),
    Sentence(
        "two that take turns are two",
        [syn(0), synack(10, isn=A), synack(20, isn=B), synack(1010, isn=A), synack(1020, isn=B), from_client(1030,
         ack=A + 1)],
        [{"synack_isns": 2, "synack_count": 4, "synack.seq": A, "synack_ns": at(10), **NO_FIRST}],
        clocked=True,
    ),
    *(
        Sentence(
            f"three answer, the client takes the {name}",
            [syn(0), synack(10, isn=A), synack(20, isn=B), synack(30, isn=D),
             from_client(40, ack=taken + 1), from_server(50, taken + 1, data=5)],
            [{"reason": BY_RESPONSE, "synack_isns": 3, "synack_count": 3, "synack.seq": taken, "synack_ns": at(when),
              "first_answer.seq": 0 if taken == A else A}],
        )
        for name, taken, when in (("first", A, 10), ("third", D, 30))
    ),
    Sentence(
        "three answer, the client takes the second, which nobody remembers",
        [syn(0), synack(10, isn=A), synack(20, isn=B), synack(30, isn=D), from_client(40, ack=B + 1)],
        [{"result": HALF_OPEN, "reason": AT_END, "synack_isns": 3, "synack.seq": A, "synack_ns": at(10)}],
    ),
    Sentence(
        "one that answers twice is one",
        [syn(0), synack(10), synack(1010), from_client(1020)],
        [{"synack_isns": 1, "synack_count": 2, **NO_FIRST}],
        clocked=True,
    ),
    Sentence("nobody answers", [syn(0)], [{"synack_isns": 0, **NO_FIRST}]),
]  # fmt: skip

FIRST_ANSWERS = [
    Sentence(
        "what the first answer said of Fast Open",
        [syn(0, data=100, options=padded(option(34))), synack(10, 100, isn=A, options=timestamps(9, 77) +
         padded(option(34, COOKIE))), syn(1000), synack(1010, isn=B, options=timestamps(1, 78)),
         from_client(1020, ack=B + 1, data=100), from_server(1030, B + 1, data=1)],
        [{"synack.seq": B, "synack.ack": ISN + 1, "synack.cookie_len": 0, "synack.ts_ecr": 78,
          "first_answer.ns": at(10), "first_answer.seq": A, "first_answer.ack": ISN + 101,
          "first_answer.ts_ecr": 77, "first_answer.has": SEEN | WITH_TIMESTAMPS | WITH_TFO,
          "first_answer.tfo_kind": 34, "first_answer.cookie_len": 8, "first_answer.cookie": [*COOKIE, *bytes(8)]}],
        clocked=True,
    ),
    Sentence(
        "a cookie of 16 bytes in the experimental option",
        [syn(0, data=1, options=padded(option(254, b"\xf9\x89"))),
         synack(10, isn=A, options=padded(option(254, b"\xf9\x89" + COOKIE * 2))),
         synack(20, 1, isn=B), from_client(30, ISN + 2, B + 1)],
        [{"synack.seq": B, "synack.ack": ISN + 2, "first_answer.ack": ISN + 1, "first_answer.has": SEEN | WITH_TFO,
          "first_answer.tfo_kind": 254, "first_answer.cookie_len": 16, "first_answer.cookie": [*COOKIE * 2]}],
    ),
    Sentence(
        "A takes the data and B does not: the client's request is what B has not acked",
        [syn(0, data=100), synack(10, 100, isn=A), synack(20, isn=B), from_client(30, ISN + 1, B + 1, data=100),
         from_server(40, B + 1, ISN + 101)],
        [{"synack.seq": B, "request_ns": at(30), "request_acked": 1, "first_answer.ack": ISN + 101}],
    ),
    Sentence(
        "B takes the data and A does not",
        [syn(0, data=100), synack(10, isn=A), synack(20, 100, isn=B), from_client(30, ISN + 101, B + 1),
         from_server(40, B + 1, ISN + 101)],
        [{"synack.seq": B, "synack.ack": ISN + 101, "request_ns": 0, "request_acked": 0,
          "first_answer.ack": ISN + 1}],
    ),
]  # fmt: skip

TAILS = [
    Sentence(
        "the tail of an answer that overtook its beginning is no first response",
        [syn(0), synack(10), from_client(20), from_server(30, SERVER_ISN + 101, data=50),
         from_server(31, data=100)],
        [{"reason": BY_RESPONSE, "response_ns": at(31), "settled_ns": at(31)}],
    ),
    Sentence(
        "nor is a tail whose beginning never comes",
        [syn(0), synack(10), from_client(20), from_server(30, SERVER_ISN + 2, data=50)],
        [{"reason": AT_END, "response_ns": 0}],
    ),
    Sentence(
        "nor a tail before the client's ACK",
        [syn(0), synack(10), from_server(11, SERVER_ISN + 101, data=50), from_server(12, data=100), from_client(20)],
        [{"reason": BY_RESPONSE, "response_ns": at(12), "settled_ns": at(20)}],
    ),
    Sentence(
        "the first byte behind an ISN that wraps",
        [syn(0), synack(10, isn=0xFFFFFFFF), from_client(20, ack=0), from_server(30, 100, data=5),
         from_server(31, 0, data=100)],
        [{"reason": BY_RESPONSE, "response_ns": at(31)}],
    ),
]  # fmt: skip

REASKED = [
    Sentence(
        "SYNs after the SYN-ACK are kept until the ACK",
        [syn(0, options=timestamps(1)), synack(10), syn(1000, options=timestamps(1001)), from_client(1010),
         syn(1020, options=timestamps(1021))],
        [{"syn_count": 3, "late_syns": 2, "retx": [(1_000_000, 1001)]}],
        clocked=True,
    ),
    Sentence(
        "what each SYN asked for of ECN",
        [syn(0, flags=SYN | 0x1C0), syn(1000, flags=SYN | 0x1C0), syn(3000, flags=SYN | 0xC0), syn(7000), synack(7010)],
        [{"retx": [(1_000_000, 0), (3_000_000, 0), (7_000_000, 0)], "retx_flags": [0xC1, 0xC0, 0, 0, 0, 0],
          "result": HALF_OPEN, "reason": AT_END}],
        clocked=True,
    ),
]  # fmt: skip

ISNS = [*CHOSEN, *FIRST_ANSWERS, *TAILS, *REASKED]
