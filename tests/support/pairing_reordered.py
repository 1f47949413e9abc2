"""Segments that overtook each other, and SYNs whose beginning was not seen (DESIGN.md section 4)."""

from __future__ import annotations

from tests.support.decoder import ACK, FIN
from tests.support.sentences import (
    AT_END,
    BY_FIN,
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
    Sentence,
    Sweep,
    at,
    client_fin,
    from_client,
    from_server,
    rst,
    syn,
    synack,
    timestamps,
)

JOINED = {"result": ESTABLISHED, "one_way": 0, "synack_count": 1, "synacks_after_ack": 0, "synack_ns": at(10)}

OVERTAKEN = [
    Sentence(
        "the ACK some microseconds before its SYN-ACK",
        [syn(0), from_client(9.99), synack(10), from_server(20, data=5)],
        [{**JOINED, "reason": BY_RESPONSE, "response_ns": at(20), "synack.seq": SERVER_ISN, "synack_isns": 1}],
    ),
    Sentence(
        "the same over IPv6",
        [syn(0, flow=C6), from_client(9.99, flow=C6), synack(10, flow=C6), from_server(20, data=5, flow=C6)],
        [{**JOINED, "reason": BY_RESPONSE, "family": 6}],
    ),
    Sentence(
        "ACK and request before their SYN-ACK",
        [syn(0), from_client(9.98), from_client(9.99, data=100), synack(10), from_server(20, ack=ISN + 101)],
        [{**JOINED, "reason": AT_END, "request_ns": at(9.99), "request_acked": 1, "request_repeats": 0}],
    ),
    Sentence(
        "ACK and refused SYN data before their SYN-ACK",
        [syn(0, data=100), from_client(9.99, data=100), synack(10), from_server(20, ack=ISN + 101, data=1)],
        [{**JOINED, "reason": BY_RESPONSE, "request_ns": at(9.99), "synack.ack": ISN + 1}],
    ),
    Sentence(
        "the ACK after accepted SYN data before its SYN-ACK",
        [syn(0, data=100), from_client(9.99, ISN + 101), synack(10, 100), from_server(20, ack=ISN + 101)],
        [{**JOINED, "reason": AT_END, "request_ns": 0, "request_acked": 0, "synack.ack": ISN + 101}],
    ),
    Sentence(
        "ACK and first byte before their SYN-ACK: the record lacks it",
        [syn(0), from_client(9.98), from_server(9.99, data=5), synack(10)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "one_way": 1, "synack_ns": 0, "response_ns": at(9.99)}],
        {"synack_unmatched": 1},
    ),
    Sentence(
        "the client's FIN before the SYN-ACK that it answers",
        [syn(0), client_fin(9.99), synack(10), from_server(20, ack=ISN + 2, flags=FIN | ACK)],
        [{**JOINED, "reason": BY_FIN, "client_fin": 1}],
    ),
    Sentence(
        "the SYN-ACK's TSecr came too late to be seen first, the ACK's is kept",
        [syn(0, options=timestamps(1)), from_client(9.99, options=timestamps(11, 77)),
         synack(10, options=timestamps(77, 1)), from_server(20, data=5)],
        [{**JOINED, "ack_ts_ecr": 77, "synack.ts_val": 77}],
    ),
    Sentence(
        "two SYN-ACKs, the ACK of the second before it",
        [syn(0), synack(5, isn=900_000_077), from_client(9.99), synack(10), from_server(20, data=5)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "synack.seq": SERVER_ISN, "synack_ns": at(10),
          "synack_isns": 2, "synacks_after_ack": 0, "first_answer.seq": 900_000_077}],
    ),
    Sentence(
        "the SYN-ACK is never seen: the road is one way",
        [syn(0), from_client(20), from_client(21, data=100)],
        [{"result": ESTABLISHED, "reason": AT_END, "one_way": 1, "synack_count": 0, "synack_ns": 0,
          "response_ns": 0}],
    ),
    Sentence(
        "the SYN-ACK some microseconds before its SYN: one record, which lives",
        [synack(0), syn(0.01), from_client(0.1), from_client(0.2, data=100), from_server(20, ack=ISN + 101, data=5)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "response_ns": at(20), "syn_count": 1, "misfit_synacks": 0}],
        {"synack_unmatched": 1},
    ),
    Sentence(
        "the request overtakes the ACK",
        [syn(0), synack(10), from_client(20, data=100), from_client(20.01), from_server(30, ack=ISN + 101)],
        [{"result": ESTABLISHED, "ack_ns": at(20), "request_ns": at(20), "request_acked": 1, "request_repeats": 0}],
    ),
    Sentence(
        "the second part of the request overtakes the first",
        [syn(0), synack(10), from_client(20), from_client(20.01, ISN + 101, data=50), from_client(20.02, data=100)],
        [{"result": ESTABLISHED, "request_repeats": 0}],
    ),
]  # fmt: skip

# the first SYN of a capture may be the third or fourth that was sent: Linux doubles the gap each time
LATE = [
    Sentence(
        "SYNs 4, 8, 16 and 32 s apart are one handshake, the first one settled long before the last",
        [syn(0), Sweep(3500, 0), syn(4_000), Sweep(11_900, 0), syn(12_000), Sweep(27_900, 0), syn(28_000),
         Sweep(59_900, 0), syn(60_000), Sweep(61_000, 0)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT, "settled_ns": at(3500), "syn_count": 1}],
        {"late_syns": 4},
        clocked=True,
    ),
    *(
        Sentence(
            f"the first gap that is seen is {gap} s",
            [syn(0), Sweep(3600, 0), Sweep(gap * 1000 - 10, 0), syn(gap * 1000), Sweep(gap * 1000 + 10, 0),
             Sweep(gap * 3000 - 10, 0), syn(gap * 3000)],
            [{"result": NO_REPLY, "reason": BY_TIMEOUT, "syn_count": 1}],
            {"late_syns": 2},
            clocked=True,
        )
        for gap in (4, 8, 16, 32)
    ),
    Sentence(
        "a SYN after more than a minute is another attempt",
        [syn(0), Sweep(3600, 0), Sweep(68_700, 0), syn(69_000)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT}, {"result": NO_REPLY, "reason": AT_END, "syn_ns": at(69_000)}],
        clocked=True,
    ),
    Sentence(
        "from the beginning on, 1, 2, 4, 8, 16 and 32 s apart",
        [syn(0), syn(1000), syn(3000), Sweep(6900, 1), syn(7000), Sweep(14_900, 1), syn(15_000), Sweep(30_900, 1),
         syn(31_000), Sweep(62_900, 1), syn(63_000), Sweep(142_900, 1), Sweep(143_000, 0)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT, "syn_count": 7}],
        clocked=True,
    ),
    Sentence(
        "the tombstone of a handshake with retransmissions lasts for 2.5 of the last gap",
        [syn(0), syn(1000), syn(3000), Sweep(8000, 0), Sweep(12_990, 0), syn(12_990)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT, "syn_count": 3, "settled_ns": at(8000)}],
        {"late_syns": 1},
        clocked=True,
    ),
    Sentence(
        "and no longer",
        [syn(0), syn(1000), syn(3000), Sweep(8000, 0), Sweep(13_010, 0), syn(13_020), Sweep(13_030, 1)],
        [{"result": NO_REPLY, "reason": BY_TIMEOUT, "syn_count": 3},
         {"result": NO_REPLY, "reason": AT_END, "syn_count": 1, "syn_ns": at(13_020)}],
        clocked=True,
    ),
    Sentence(
        "late SYNs of a refused handshake renew its tombstone",
        [syn(0), rst(10), Sweep(2900, 0), syn(2950), Sweep(6000, 0), syn(6050), Sweep(6100, 0)],
        [{"result": REJECTED, "reason": BY_RST}],
        {"late_syns": 2},
        clocked=True,
    ),
    Sentence(
        "SYN-ACKs 1, 2 and 4 s apart keep it half open",
        [syn(0), synack(10), synack(1010), synack(3010), Sweep(7000, 1), synack(7010), Sweep(17_000, 1),
         Sweep(17_010, 0)],
        [{"result": HALF_OPEN, "synack_count": 4, "synack_isns": 1, "synack_ns": at(10)}],
        clocked=True,
    ),
]  # fmt: skip

REORDERED = [*OVERTAKEN, *LATE]
