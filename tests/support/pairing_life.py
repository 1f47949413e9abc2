"""How a handshake's life goes on: the request, its ACK, what is sent again, FIN and RST (DESIGN.md section 3)."""

from __future__ import annotations

from tests.support.decoder import ACK, FIN, RST
from tests.support.sentences import (
    ABORTED,
    AT_END,
    BY_FIN,
    BY_RESPONSE,
    BY_RST,
    BY_TIMEOUT,
    ESTABLISHED,
    ISN,
    REJECTED,
    SERVER_ISN,
    Packet,
    Sentence,
    Sweep,
    at,
    client_fin,
    from_client,
    from_server,
    marked,
    rst,
    syn,
    synack,
    timestamps,
)

BY_CLIENT, BY_SERVER = 1, 2  # event.h: RESET_BY_*
OPENED: list[Packet] = [syn(0), synack(10), from_client(20)]
TAKEN: list[Packet] = [syn(0, data=100), synack(10, 100), from_client(20, ISN + 101)]
SENT = [from_client(30 + 10 * i, ISN + 1 + 3000 * i, data=3000) for i in range(30)]
UPLOAD = [
    segment for i, sent in enumerate(SENT) for segment in (sent, from_server(35 + 10 * i, ack=ISN + 1 + 3000 * (i + 1)))
]
FAR = 1 << 24  # bytes: no window is as large without scaling

REQUESTS = [
    Sentence(
        "a request and its ACK",
        [*OPENED, from_client(21, data=100), from_server(31, ack=ISN + 101)],
        [{"result": ESTABLISHED, "reason": AT_END, "ack_ns": at(20), "request_ns": at(21), "request_acked": 1,
          "request_repeats": 0, "response_ns": 0}],
    ),
    Sentence(
        "a request that nothing acks",
        [*OPENED, from_client(21, data=100), from_server(31), Sweep(5020, 0)],
        [{"result": ESTABLISHED, "reason": BY_TIMEOUT, "request_ns": at(21), "request_acked": 0}],
        clocked=True,
    ),
    Sentence(
        "no request",
        [*OPENED, from_server(30)],
        [{"result": ESTABLISHED, "request_ns": 0, "request_acked": 0, "client_fin": 0}],
    ),
    Sentence(
        "the request completes the handshake",
        [syn(0), synack(10), from_client(20, data=100), from_server(30, ack=ISN + 101, data=1)],
        [{"reason": BY_RESPONSE, "ack_ns": at(20), "request_ns": at(20), "request_acked": 1}],
    ),
    Sentence(
        "a server that speaks first has acked nothing",
        [*OPENED, from_server(30, data=1)],
        [{"reason": BY_RESPONSE, "request_ns": 0, "request_acked": 0}],
    ),
    Sentence(
        "an ACK of a part of the request",
        [*OPENED, from_client(21, data=100), from_server(31, ack=ISN + 51)],
        [{"reason": AT_END, "request_acked": 1}],
    ),
    Sentence(
        "accepted SYN data is no later request, and its ACK is the SYN-ACK's own",
        [*TAKEN, from_server(30, ack=ISN + 101), from_server(40, ack=ISN + 101, data=1)],
        [{"reason": BY_RESPONSE, "request_ns": 0, "request_acked": 0}],
    ),
    Sentence(
        "what follows accepted SYN data is the request",
        [*TAKEN, from_client(25, ISN + 101, data=50), from_server(35, ack=ISN + 151)],
        [{"reason": AT_END, "request_ns": at(25), "request_acked": 1}],
    ),
    Sentence(
        "SYN data that was not taken is the request when it comes again",
        [syn(0, data=100), synack(10), from_client(20, data=100), from_server(30, ack=ISN + 101)],
        [{"request_ns": at(20), "request_repeats": 0, "request_acked": 1}],
    ),
    Sentence(
        "so is the rest of SYN data that was partly taken",
        [syn(0, data=100), synack(10, 40), from_client(20, ISN + 41), from_client(21, ISN + 41, data=60)],
        [{"ack_ns": at(20), "request_ns": at(21), "request_repeats": 0}],
    ),
    Sentence(
        "the server speaks first, and the client's first ACK is lost to us",
        [syn(0), synack(10), from_server(11, data=50), from_client(20, ack=SERVER_ISN + 51, data=9)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "response_ns": at(11), "ack_ns": at(20),
          "request_ns": at(20)}],
    ),
    Sentence(
        "the client's first segments are lost to us",
        [syn(0), synack(10), from_client(20, ISN + 1461, data=100), from_server(30, ack=ISN + 1561)],
        [{"result": ESTABLISHED, "ack_ns": at(20), "request_acked": 1, "request_repeats": 0}],
    ),
    Sentence(
        "a server that takes SYN data first and then no more",
        [syn(0, data=100), synack(10, 100), synack(1010), from_client(1020, data=100),
         from_server(1030, ack=ISN + 101, data=1)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "synack_isns": 1, "synack_count": 2}],
        clocked=True,
    ),
    Sentence(
        "taken SYN data alone, sent once more, is no request; with the rest it is",
        [syn(0, data=100), synack(10, 40), from_client(20, ISN + 41), from_client(21, data=40),
         from_client(22, data=100)],
        [{"request_ns": at(22), "request_repeats": 0}],
    ),
]  # fmt: skip

REPEATS = [
    Sentence(
        "each time the first byte is sent again counts, however much comes with it",
        [*OPENED, from_client(21, data=100), from_client(22, ISN + 101, data=100),
         from_client(221, data=100), from_client(621, data=200), from_client(1421, data=50)],
        [{"request_ns": at(21), "request_repeats": 3, "request_acked": 0}],
        clocked=True,
    ),
    Sentence(
        "a tail sent again, as by a loss probe, does not count",
        [*OPENED, from_client(21, data=100), from_client(22, ISN + 101, data=100),
         from_client(60, ISN + 101, data=100), from_client(90, ISN + 51, data=50)],
        [{"request_repeats": 0}],
        clocked=True,
    ),
    Sentence(
        "a loss probe of a request that is one segment counts",
        [*OPENED, from_client(21, data=100), from_client(41, data=100)],
        [{"request_repeats": 1}],
        clocked=True,
    ),
    Sentence(
        "a segment that begins before the first byte and ends behind it counts, one that ends before it does not",
        [*TAKEN, from_client(25, ISN + 101, data=50), from_client(225, ISN + 51, data=50),
         from_client(625, ISN + 1, data=150), from_client(1425, ISN + 100, data=2)],
        [{"request_ns": at(25), "request_repeats": 2}],
        clocked=True,
    ),
    Sentence(
        "after accepted SYN data, what follows it is what counts",
        [*TAKEN, from_client(25, ISN + 101, data=50), from_client(225, ISN + 101, data=50),
         from_client(625, ISN + 101, data=50)],
        [{"request_ns": at(25), "request_repeats": 2, "request_acked": 0}],
        clocked=True,
    ),
    Sentence(
        "SYN data that was not taken, again and again",
        [syn(0, data=100), synack(10), from_client(20, data=100), from_client(220, data=100),
         from_client(620, data=100), from_server(700, ack=ISN + 101)],
        [{"request_ns": at(20), "request_repeats": 2, "request_acked": 1}],
        clocked=True,
    ),
    Sentence(
        "the same timestamps, but too late for a copy: Linux repeats within a millisecond of its clock",
        [syn(0, options=timestamps(1)), synack(10, options=timestamps(1, 1)), from_client(20, options=timestamps(2, 1)),
         from_client(21, data=100, options=timestamps(2, 1)), from_client(221, data=100, options=timestamps(2, 1))],
        [{"request_repeats": 1, "copies": 0}],
        clocked=True,
    ),
    Sentence(
        "keep-alives of an idle client, with and without a byte of garbage",
        [*OPENED, from_client(1000, ISN), from_server(1001), from_client(2000, ISN, data=1), from_server(2001),
         from_client(3000, ISN, data=1)],
        [{"reason": AT_END, "request_ns": 0, "request_repeats": 0, "request_acked": 0}],
        clocked=True,
    ),
    Sentence(
        "keep-alives behind accepted SYN data",
        [*TAKEN, from_client(1000, ISN + 100), from_client(2000, ISN + 100, data=1)],
        [{"request_ns": 0, "request_repeats": 0}],
        clocked=True,
    ),
    Sentence(
        "keep-alives behind a request that was acked",
        [*OPENED, from_client(21, data=100), from_server(31, ack=ISN + 101), from_client(1000, ISN + 100),
         from_client(2000, ISN + 100, data=1)],
        [{"request_ns": at(21), "request_repeats": 0, "request_acked": 1}],
        clocked=True,
    ),
    Sentence(
        "keep-alives of the server are no response",
        [*OPENED, from_server(1000, SERVER_ISN), from_server(2000, SERVER_ISN, data=1), from_client(2001)],
        [{"reason": AT_END, "response_ns": 0}],
        clocked=True,
    ),
    Sentence(
        "window probes of the client count no data",
        [*OPENED, from_client(21, data=100), from_server(31, ack=ISN + 101), from_client(231, ISN + 100)],
        [{"request_repeats": 0}],
        clocked=True,
    ),
    Sentence(
        "repeats saturate",
        [*OPENED, *(from_client(21 + 11 * i, data=100) for i in range(301))],
        [{"request_repeats": 255}],
        clocked=True,
    ),
]  # fmt: skip

SYNACKS_AGAIN = [
    Sentence(
        "a SYN-ACK again after the ACK: the server has not heard it",
        [*OPENED, synack(1010), synack(3010)],
        [{"result": ESTABLISHED, "synack_count": 3, "synacks_after_ack": 2, "synack_isns": 1, "synack_ns": at(10)}],
        clocked=True,
    ),
    Sentence(
        "the accept queue is full: the client sends its request again, the server its SYN-ACK",
        [*OPENED, from_client(21, data=5), from_client(241, data=5), from_client(651, data=5), synack(1000),
         from_client(1020), from_client(1471, data=5), synack(3000), Sweep(5020, 0)],
        [{"reason": BY_TIMEOUT, "synacks_after_ack": 2, "request_repeats": 3, "request_acked": 0}],
        clocked=True,
    ),
    Sentence(
        "a SYN-ACK again before the ACK is none after it",
        [syn(0), synack(10), synack(1010), from_client(1020)],
        [{"synack_count": 2, "synacks_after_ack": 0}],
        clocked=True,
    ),
    Sentence(
        "SYN-ACKs after the ACK saturate",
        [*OPENED, *(synack(30 + 11 * i) for i in range(300))],
        [{"synacks_after_ack": 255}],
        clocked=True,
    ),
]  # fmt: skip

HALF_CLOSED = [
    Sentence(
        "the client's FIN does not settle",
        [*OPENED, client_fin(30), Sweep(5019, 1), Sweep(5020, 0)],
        [{"result": ESTABLISHED, "reason": BY_TIMEOUT, "client_fin": 1, "request_ns": 0}],
        clocked=True,
    ),
    Sentence(
        "a client that half-closes still gets its answer",
        [*OPENED, from_client(21, data=100, flags=FIN | ACK), from_server(31, ack=ISN + 102), Sweep(1500, 1),
         from_server(1530, ack=ISN + 102, data=9)],
        [{"reason": BY_RESPONSE, "response_ns": at(1530), "request_ns": at(21), "client_fin": 1, "request_acked": 1}],
        clocked=True,
    ),
    Sentence(
        "request, FIN and answer apart",
        [*OPENED, from_client(21, data=100), client_fin(22, ISN + 101), from_server(40, ack=ISN + 102, data=9)],
        [{"reason": BY_RESPONSE, "client_fin": 1, "request_acked": 1}],
    ),
    Sentence(
        "the FIN completes the handshake",
        [syn(0), synack(10), client_fin(20), from_server(30, ack=ISN + 2, data=9)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "ack_ns": at(20), "client_fin": 1, "request_ns": 0}],
    ),
    Sentence(
        "the FIN after accepted SYN data completes the handshake",
        [syn(0, data=100), synack(10, 100), client_fin(20, ISN + 101), from_server(30, ack=ISN + 102, data=9)],
        [{"result": ESTABLISHED, "reason": BY_RESPONSE, "client_fin": 1, "request_ns": 0}],
    ),
    Sentence(
        "the FIN with the request completes the handshake",
        [syn(0), synack(10), from_client(20, data=100, flags=FIN | ACK), from_server(30, ack=ISN + 102, data=9)],
        [{"reason": BY_RESPONSE, "ack_ns": at(20), "request_ns": at(20), "client_fin": 1}],
    ),
    Sentence(
        "the client's FIN, then the server's: a health check",
        [*OPENED, client_fin(30), from_server(40, ack=ISN + 2, flags=FIN | ACK)],
        [{"reason": BY_FIN, "settled_ns": at(40), "client_fin": 1, "request_ns": 0, "response_ns": 0}],
    ),
    Sentence(
        "the client's FIN, its ACK, then the server's FIN",
        [*OPENED, client_fin(30), from_server(35, ack=ISN + 2), from_server(40, ack=ISN + 2, flags=FIN | ACK)],
        [{"reason": BY_FIN, "settled_ns": at(40), "client_fin": 1}],
    ),
    Sentence(
        "the server's FIN first",
        [*OPENED, from_server(30, flags=FIN | ACK), client_fin(40)],
        [{"reason": BY_FIN, "settled_ns": at(30), "client_fin": 0}],
    ),
    Sentence(
        "the server closes after the request without an answer",
        [*OPENED, from_client(21, data=100), from_server(31, ack=ISN + 101, flags=FIN | ACK)],
        [{"reason": BY_FIN, "client_fin": 0, "request_acked": 1, "response_ns": 0}],
    ),
    Sentence(
        "a FIN of an earlier connection is none of the client's",
        [*OPENED, client_fin(30, ISN - 5000), client_fin(31, ISN + FAR)],
        [{"reason": AT_END, "client_fin": 0}],
    ),
    Sentence(
        "a FIN sent again counts once",
        [*OPENED, client_fin(30), client_fin(230), client_fin(630)],
        [{"reason": AT_END, "client_fin": 1, "request_repeats": 0}],
        clocked=True,
    ),
]  # fmt: skip

RESETS = [
    Sentence(
        "the server's RST without any request",
        [*OPENED, marked(rst(30, seq=SERVER_ISN + 1), ttl=61)],
        [{"result": ESTABLISHED, "reason": BY_RST, "settled_ns": at(30), "reset_from": BY_SERVER, "reset_ttl": 61,
          "misfit_rsts": 0}],
    ),
    Sentence(
        "the server's RST after accepted SYN data",
        [*TAKEN, rst(30, seq=SERVER_ISN + 1, ack=ISN + 101)],
        [{"result": ESTABLISHED, "reason": BY_RST, "reset_from": BY_SERVER, "request_ns": 0, "request_acked": 0}],
    ),
    Sentence(
        "a bare RST of the server, without ACK",
        [*OPENED, from_client(21, data=100), rst(30, seq=SERVER_ISN + 1, ack=0, flags=RST)],
        [{"reason": BY_RST, "reset_from": BY_SERVER, "request_ns": at(21), "request_acked": 0}],
    ),
    Sentence(
        "the client's RST instead of a FIN",
        [*OPENED, marked(from_client(30, flags=RST | ACK), ttl=127)],
        [{"reason": BY_RST, "reset_from": BY_CLIENT, "reset_ttl": 127, "request_ns": 0}],
    ),
    Sentence(
        "the client's RST after its request",
        [*OPENED, from_client(21, data=100), from_client(30, ISN + 101, flags=RST | ACK)],
        [{"reason": BY_RST, "reset_from": BY_CLIENT, "request_ns": at(21)}],
    ),
    Sentence(
        "the client's RST after its FIN",
        [*OPENED, client_fin(30), from_client(40, ISN + 2, flags=RST)],
        [{"reason": BY_RST, "reset_from": BY_CLIENT, "client_fin": 1}],
    ),
    Sentence(
        "the client's RST in the midst of a long upload",
        [*OPENED, *UPLOAD, from_client(400, ISN + 1 + 30 * 3000, flags=RST | ACK)],
        [{"reason": BY_RST, "reset_from": BY_CLIENT, "request_acked": 1}],
    ),
    Sentence(
        "whose RST it was, before the SYN-ACK and after it",
        [syn(0), marked(rst(10), ttl=50)],
        [{"result": REJECTED, "reset_from": BY_SERVER, "reset_ttl": 50, "misfit_rsts": 0}],
    ),
    Sentence(
        "aborted by the client",
        [syn(0), synack(10), from_client(20, flags=RST)],
        [{"result": ABORTED, "reason": BY_RST, "reset_from": BY_CLIENT}],
    ),
    Sentence(
        "aborted by the server",
        [syn(0), synack(10), marked(rst(20, seq=SERVER_ISN + 1), ttl=61)],
        [{"result": ABORTED, "reason": BY_RST, "reset_from": BY_SERVER, "reset_ttl": 61}],
    ),
    Sentence(
        "aborted by the server behind its early data",
        [syn(0, data=9), synack(10, 9), from_server(12, ack=ISN + 10, data=5), rst(15, seq=SERVER_ISN + 6)],
        [{"result": ABORTED, "reset_from": BY_SERVER, "misfit_rsts": 0}],
    ),
    Sentence(
        "aborted by the server behind the SYN-ACK's data",
        [syn(0), synack(10, data=7), rst(15, seq=SERVER_ISN + 8)],
        [{"result": ABORTED, "reset_from": BY_SERVER, "misfit_rsts": 0}],
    ),
    Sentence(
        "an RST that acks the request is no ACK of it",
        [syn(0), synack(10), from_client(20, data=100), rst(30, seq=SERVER_ISN + 1, ack=ISN + 101)],
        [{"reason": BY_RST, "reset_from": BY_SERVER, "request_acked": 0}],
    ),
    Sentence(
        "a RST on a one-way road is where the client's ACK expects it",
        [syn(0), from_client(20), rst(25, seq=SERVER_ISN + 1 + FAR), rst(30, seq=SERVER_ISN + 1)],
        [{"result": ESTABLISHED, "reason": BY_RST, "one_way": 1, "reset_from": BY_SERVER, "misfit_rsts": 1,
          "settled_ns": at(30)}],
    ),
    Sentence(
        "the client's RST on a one-way road",
        [syn(0), from_client(20), from_client(30, flags=RST | ACK)],
        [{"result": ESTABLISHED, "reason": BY_RST, "one_way": 1, "reset_from": BY_CLIENT}],
    ),
    Sentence(
        "the client's RST behind an upload whose ACKs are not seen",
        [*OPENED, *SENT, from_client(400, ISN + 1 + 30 * 3000, flags=RST | ACK)],
        [{"reason": BY_RST, "reset_from": BY_CLIENT, "request_acked": 0}],
    ),
    Sentence(
        "no RST, nobody's",
        [*OPENED, from_server(30, data=1)],
        [{"reset_from": 0, "reset_ttl": 0}],
    ),
]  # fmt: skip

LIFE = [*REQUESTS, *REPEATS, *SYNACKS_AGAIN, *HALF_CLOSED, *RESETS]
