"""Every kind of life that a handshake can have (DESIGN.md sections 3 and 4), and what the record must say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.talks import (
    COOKIE,
    FIN,
    ISN,
    SERVER_ISN,
    SYN,
    Step,
    client,
    mirrored,
    offers,
    opened,
    reset,
    server,
    syn,
    synack,
    tagged,
)

SAVED = 20100.0
OTHER = SERVER_ISN + 70_000_000
FORGED = ISN + 500_000_000
PLAIN = offers(None)


@dataclass(frozen=True)
class Case:
    """A connection, and some of its record's fields: by the number of the record, the first being 0."""

    name: str
    steps: Sequence[Step]
    expected: dict[str, Any]
    second: dict[str, Any] = field(default_factory=dict)
    records: int = 1


def _h(**fields: Any) -> dict[str, Any]:
    return {f"handshake.{name}": value for name, value in fields.items()}


def _t(**fields: Any) -> dict[str, Any]:
    return {f"tfo.{name}": value for name, value in fields.items()}


DIED = _t(outcome="data_acked", group="failed", rtt_saved_us=0.0)
LIFE = (
    Case(
        "response",
        [*opened(100), server(50, 500, ack=100)],
        _h(
            result="established",
            after="response",
            first_response_us=50000.0,
            first_request_us=0.0,
            connect_us=20100.0,
            request_acked=False,
            request_repeats=0,
        )
        | _t(outcome="data_acked", group="ok", rtt_saved_us=SAVED),
    ),
    Case(
        "request_after_the_handshake",
        [*opened(), client(25, 300), server(45, ack=300), server(60, 500, ack=300)],
        _h(after="response", first_request_us=25000.0, request_acked=True, first_response_us=60000.0)
        | _t(outcome="not_attempted", group="n/a"),
    ),
    Case(
        "reset_by_server",
        [*opened(100), reset(60, False, SERVER_ISN + 1, ISN + 101)],
        _h(after="reset_by_server", result="established") | DIED,
    ),
    Case(
        "reset_by_client",
        [*opened(), client(21, 100), reset(90, True, ISN + 101, SERVER_ISN + 1)],
        _h(after="reset_by_client"),
    ),
    Case("unused_and_reset", [*opened(), reset(90, True, ISN + 1, SERVER_ISN + 1)], _h(after="closed_unused")),
    Case(
        "unused_and_closed", [*opened(), client(30, flags=FIN), server(50, ack=1, flags=FIN)], _h(after="closed_unused")
    ),
    Case(
        "client_closed",
        [*opened(), client(21, 80), client(22, seq=80, flags=FIN), server(45, ack=81, flags=FIN)],
        _h(after="client_closed", request_acked=True),
    ),
    Case("server_closed", [*opened(), client(21, 80), server(45, ack=80, flags=FIN)], _h(after="server_closed")),
    Case(
        "synack_again",
        [*opened(), client(21, 80), synack(1020), client(1021, seq=80), synack(3020), client(9000, 80)],
        _h(after="synack_again", synack_count=3, ack_delay_us=100.0),
    ),
    Case(
        "silence",
        [*opened(100), client(9000, 10, seq=100)],
        _h(after="silence", request_acked=False) | _t(group="ok", rtt_saved_us=None),
    ),
    Case(
        "request_repeated",
        [
            *opened(100),
            client(30, 50, seq=100),
            client(230, 50, seq=100),
            client(640, 50, seq=100),
            client(9000, 50, seq=100),
        ],
        _h(after="silence", request_repeats=2, request_acked=False) | DIED,
    ),
    Case(
        "slow_server",
        [*opened(100), server(45, ack=100), server(4000, 500, ack=100)],
        _h(after="response") | _t(group="ok", rtt_saved_us=SAVED),
    ),
    Case("server_speaks_first", [*opened(), server(40, 90)], _h(after="response", first_request_us=None)),
    Case(
        "half_closed",
        [*opened(), client(21, 80), client(22, seq=80, flags=FIN), server(45, ack=81), server(1500, 300, ack=81)],
        _h(after="response", first_response_us=1500000.0),
    ),
    Case(
        "tail_first",
        [*opened(), client(21, 80), server(50, 100, seq=1000, ack=80), server(70, 1000, ack=80)],
        _h(first_response_us=70000.0),
    ),
)

NUMBERS = (
    Case(
        "two_isns",
        [
            syn(0, 100, offers(1000, 0, COOKIE)),
            synack(20, options=PLAIN),
            syn(1000, 0, offers(2000)),
            synack(1020, isn=OTHER, options=offers(77, 2000)),
            client(1020.1, isn=OTHER),
            synack(1030, options=PLAIN),
            client(1031, 100, isn=OTHER),
            server(1060, 200, ack=100, isn=OTHER),
        ],
        _h(synack_isns=2, first_response_us=1060000.0, answered_syn=2, synack_delay_us=20000.0)
        | _t(delay_us=1000000.0, outcome="data_not_acked")
        | {"synack.seq": OTHER},
    ),
    Case(
        "mirrored",
        mirrored([*opened(100), client(25, 40, seq=100), server(50, 500, ack=140)]),
        _h(syn_count=1, synack_count=1, copies=4, synack_delay_us=20000.0, rtt_us=SAVED) | _t(outcome="data_acked"),
    ),
    Case(
        "mirrored_by_id",
        mirrored(
            [
                replace(syn(0, options=PLAIN), ident=7),
                replace(synack(20, options=PLAIN), ident=9),
                replace(client(20.1), options=b"", ident=8),
                replace(server(50, 10), options=b"", ident=10),
            ],
            5000,
        ),
        _h(syn_count=1, synack_count=1, copies=3),
    ),
    Case(
        "sent_again",
        [syn(0, options=PLAIN), syn(1000, options=PLAIN), synack(1020, options=PLAIN), client(1021), server(1050, 9)],
        _h(syn_count=2, copies=0, synack_delay_us=None, answered_syn=None) | _t(delay_us=None),
    ),
    Case(
        "sent_again_with_timestamps",
        [
            syn(0, 100, offers(1000, 0, COOKIE)),
            syn(1000),
            synack(1020, 0, offers(77, 2000)),
            client(1021, 100),
            server(1050, 9, ack=100),
        ],
        _h(answered_syn=2, synack_delay_us=20000.0) | _t(outcome="syn_timeout_fallback", delay_us=1000000.0),
    ),
    Case(
        "fin_in_the_synack",
        [syn(0), synack(20, flags=FIN), client(20.1), client(21, 9), server(50, 9, ack=9)],
        _h(result="established", after="response"),
    ),
)

MISFITS = (
    Case(
        "rst_with_a_wrong_ack",
        [
            syn(0, options=PLAIN),
            reset(20, False, 0, ISN),
            syn(1000, options=PLAIN),
            reset(1020, False, 0, ISN),
            syn(8000, isn=FORGED),
        ],
        _h(result="no_reply", misfits={"rst": 2, "synack": 0, "icmp": 0}),
        records=2,
    ),
    Case(
        "rst_without_an_ack",
        [syn(0), reset(10, False, 0), synack(20), client(20.1), server(50, 9)],
        _h(result="established", misfits={"rst": 1, "synack": 0, "icmp": 0}),
    ),
    Case(
        "refused",
        [syn(0, 100, offers(1000, 0, COOKIE)), reset(20, False, 0, ISN + 101)],
        _h(result="rejected", misfits=None) | _t(outcome="rejected", group="failed"),
    ),
    Case(
        "synack_far_off",
        [syn(0), synack(10, 90_000_000), synack(20), client(20.1), server(50, 9)],
        _h(result="established", synack_count=1, misfits={"rst": 0, "synack": 1, "icmp": 0}),
    ),
    Case(
        "icmp_of_another",
        [syn(0), replace(syn(5, isn=FORGED), icmp=(3, 13)), synack(20), client(20.1), server(50, 9)],
        _h(result="established", misfits={"rst": 0, "synack": 0, "icmp": 1}),
    ),
    Case("unreachable", [syn(0), replace(syn(5), icmp=(3, 13))], _h(result="unreachable", misfits=None)),
    Case(
        "too_big",
        [
            syn(0, 900),
            replace(syn(5), icmp=(3, 4)),
            syn(6, 0, offers(1006)),
            synack(26, 0, offers(7, 1006)),
            client(27),
            server(50, 9),
        ],
        _h(result="established", answered_syn=2),
    ),
    Case(
        "rst_forged_later",
        [*opened(), reset(25, False, SERVER_ISN + 900_000), client(30, 9), server(50, 9, ack=9)],
        _h(after="response", misfits={"rst": 1, "synack": 0, "icmp": 0}),
    ),
    Case(
        "syn_forged_before",
        [syn(0), syn(1, isn=FORGED, options=PLAIN), synack(20), client(20.1), server(50, 9)],
        _h(result="established", after="response"),
        records=2,
    ),
    Case(
        "syn_forged_after",
        [*opened(), syn(25, isn=FORGED, options=PLAIN), client(30, 9), server(50, 9, ack=9)],
        _h(result="established", after="response"),
        records=2,
    ),
    Case(
        "challenge_ack",
        [syn(0), server(20, ack=900_000), syn(9000, isn=FORGED)],
        _h(result="syn_on_established", challenge_acks=1),
        records=2,
    ),
)

AGAIN = (
    Case(
        "goes_on_after_a_rst",
        [
            syn(0),
            reset(20, False, 0, ISN + 1),
            syn(1000),
            synack(1020, 0, offers(77, 2000)),
            client(1021),
            server(1050, 9),
        ],
        _h(result="rejected", resumed=None),
        _h(result="established", resumed="rejected"),
        2,
    ),
    Case(
        "goes_on_after_icmp",
        [
            syn(0),
            replace(syn(5), icmp=(3, 1)),
            syn(1000),
            synack(1020, 0, offers(77, 2000)),
            client(1021),
            server(1050, 9),
        ],
        _h(result="unreachable", resumed=None),
        _h(result="established", resumed="unreachable"),
        2,
    ),
    Case(
        "over_acked",
        [
            syn(0, 100, offers(1000, 0, COOKIE)),
            synack(20, 300),
            reset(20.1, True, ISN + 301),
            syn(1000),
            synack(1020, 0, offers(77, 2000)),
            client(1021, 100),
            server(1050, 9, ack=100),
        ],
        _h(result="aborted", resumed=None) | _t(outcome="over_acked", group="failed"),
        _h(result="established", resumed="aborted") | _t(outcome="data_not_acked"),
        2,
    ),
    Case(
        "aborted_for_good",
        [syn(0), synack(20), reset(20.1, True, ISN + 1), synack(1020)],
        _h(result="aborted", resumed=None),
    ),
    Case(
        "tags_by_direction",
        tagged([*opened(100), server(50, 9, ack=100)], 10, 20),
        _h(result="established", after="response") | {"vlan": [10]},
    ),
    Case(
        "router_on_a_stick",
        [
            *tagged([*opened(100), server(50, 9, ack=100)], 10, 10),
            *(replace(one, at_ms=one.at_ms + 0.01) for one in tagged([*opened(100), server(50, 9, ack=100)], 20, 20)),
        ],
        _h(result="established", copies=0) | {"vlan": [10]},
        _h(result="established") | {"vlan": [20]},
        2,
    ),
    Case(
        "half_open",
        [syn(0), synack(20), synack(1020), syn(9000, isn=FORGED)],
        _h(result="half_open", after=None),
        records=2,
    ),
    Case(
        "length_beyond_the_packet",
        [replace(syn(0), surplus=300), syn(1000), synack(1020, 0, offers(77, 2000)), client(1021), server(1050, 9)],
        _h(result="established", syn_count=1) | {"syn.payload_len": 0},
    ),
    Case(
        "simultaneous",
        [
            syn(0),
            Step(5, False, SYN, SERVER_ISN, 0, 0, offers(50)),
            replace(synack(30), options=offers(51, 1000)),
            Step(31, True, SYN | 0x10, ISN, SERVER_ISN + 1, 0, offers(1031, 50)),
        ],
        _h(result="simultaneous_open"),
    ),
)

CASES = (*LIFE, *NUMBERS, *MISFITS, *AGAIN)
