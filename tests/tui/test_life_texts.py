"""The detail of handshakes that went on in a way of their own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.lines import handshakes
from tracer.records.record import Handshake
from tracer.records.refusal import Misfits, Reset
from tracer.store.list_columns import COLUMNS
from tui.explain import fact_lines, verdict_lines
from tui.ladder import ladder_lines, steps
from tui.lines import Line, width

change = msgspec.structs.replace


def told(outcome: str, *, result: str = "established", group: str = "ok", **timing: Any) -> Handshake:
    """A record of the lab that says this, without an answer unless one is given."""
    found = next(one for one in handshakes() if one.tfo.outcome == outcome and one.handshake.result == result)
    lived = {"first_response_us": None, "after": None, **timing}
    return change(found, handshake=change(found.handshake, **lived), tfo=change(found.tfo, group=group))


def text(lines: list[Line]) -> str:
    """All words, as on one line."""
    return " ".join(" ".join("".join(part for part, _ in line) for line in lines).split())


RESET = Reset("server", 63_100.0, 61, 3)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (
            told("data_acked", group="failed", after="reset_by_server", settled_by="rst", reset=RESET),
            ["afterwards the server reset the connection before it sent any data",
             "reset by the server, 63.1 ms after the first SYN, TTL 61 (3 hops)"],
        ),
        (
            told("data_acked", group="failed", after="silence", request_repeats=2, request_acked=False),
            ["afterwards nothing came from the server within the time",
             "first data sent again 2 times, it was never acked"],
        ),
        (
            told("data_acked", after="response", request_repeats=1, request_acked=True),
            ["first data sent again once, it was acked"],
        ),
        (told("cookie_granted", after="closed_unused"), ["afterwards the client closed the connection"]),
        (told("data_acked", synack_isns=2), ["SYN-ACKs 2 different numbers"]),
        (told("data_acked", copies=3), ["copies 3 mirrored, not counted as retransmissions"]),
        (told("data_acked", resumed="no_reply"), ["resumed an earlier record of this id says no reply"]),
        (
            told("no_answer", result="no_reply", group="failed", misfits=Misfits(4, 0, 1)),
            ["result no reply that fits", "ignored 4 RSTs and 1 ICMP error came that do not fit"],
        ),
        (
            told("over_acked", result="aborted", group="failed", settled_by="rst", reset=change(RESET, from_="client")),
            ["result reset by the client before it was established"],
        ),
    ],
)  # fmt: skip
def test_facts(record: Handshake, says: list[str]) -> None:
    for cells in (40, 80, 200):
        shown = text(fact_lines(record, cells))
        for words in says:
            assert words in shown
        assert max(width(line) for line in fact_lines(record, cells)) <= max(cells, 56)


def test_of_a_direction_that_is_not_seen_nothing_is_said() -> None:
    shown = text(fact_lines(told("data_acked", request_repeats=2, request_acked=None), 200))
    assert "first data sent again 2 times" in shown
    assert "it was" not in shown


def test_an_ordinary_handshake_says_no_more_than_before() -> None:
    record = told("data_acked", after="response", first_response_us=500.0, copies=0, synack_isns=1, request_repeats=0)
    names = [line[0][0].strip() for line in fact_lines(record, 200)]
    assert {"afterwards", "reset", "first data", "SYN-ACKs", "ignored", "copies", "resumed"}.isdisjoint(names)


def test_a_verdict_does_not_praise_what_died() -> None:
    record = told("data_acked", group="failed", after="reset_by_server", settled_by="rst", reset=RESET)
    shown = text(verdict_lines(record, 200))
    assert "failed: TFO data accepted, then reset by server" in shown
    assert "works as intended" not in shown


def test_no_sentence_says_that_nothing_came_where_something_did() -> None:
    record = told("no_answer", result="no_reply", group="failed", misfits=Misfits(4, 0, 0))
    shown = text([*verdict_lines(record, 200), *fact_lines(record, 200), *ladder_lines(record, 60)])
    assert "4 RSTs came that do not fit" in shown
    assert "without an answer that fits" in shown
    for claim in ("got no answer", "SYN without answer", "no reset, no ICMP"):
        assert claim not in shown
    assert steps(record)[-1].label == "4 RSTs came that do not fit"


@pytest.mark.parametrize(
    ("record", "last", "direction"),
    [
        (told("data_acked", after="reset_by_server", settled_by="rst", reset=RESET), "RST from the server", "left"),
        (
            told("data_acked", after="reset_by_client", settled_by="rst", reset=change(RESET, from_="client")),
            "RST from the client", "right",
        ),
        (told("data_acked", settled_by="rst"), "reset", "note"),
        (told("data_acked", after="silence", settled_by="timeout"), "no answer seen", "note"),
        (
            told("data_acked", after="silence", settled_by="timeout", request_repeats=2, request_acked=False),
            "the first data again, 2 times, never acked", "note",
        ),
        (told("over_acked", result="aborted", settled_by="rst", reset=RESET), "RST from the server", "left"),
        (told("over_acked", result="aborted", settled_by="rst"), "RST: the client gives up", "right"),
    ],
)  # fmt: skip
def test_the_end_of_a_ladder(record: Handshake, last: str, direction: str) -> None:
    step = steps(record)[-1]
    assert (step.label, step.direction) == (last, direction)


def test_two_hosts_in_a_ladder() -> None:
    record = told("data_not_acked_new_cookie", synack_isns=2, syn_count=2)
    record = change(record, tfo=change(record.tfo, delay_us=1_000_000.0, kind=34, synack_kind=34, synack_cookie_len=8))
    assert record.synack is not None
    record = change(record, synack=change(record.synack, options=("mss",)))
    labels = [step.label for step in steps(record)]
    assert "SYN-ACK of another host" in labels
    # the cookie came from the other one, and that one answered the first SYN
    assert not any("cookie" in label for label in labels if label.startswith("SYN-ACK"))
    assert steps(record)[0].direction == "right"


def test_tunnels_are_named_where_it_was_seen() -> None:
    record = told("data_acked")
    assert "through" not in text(fact_lines(record, 200))
    assert "as transit, through vxlan, gre" in text(
        fact_lines(change(record, vantage="transit", vlan=(), through=("vxlan", "gre")), 200)
    )


def test_a_syn_that_no_interface_saw() -> None:
    one = change(told("no_answer", result="no_reply", group="failed"), interface=None, hook="kernel")
    assert "seen by no interface: the kernel dropped the SYN before" in text(fact_lines(one, 80))
    assert all(COLUMNS[name].text(one) for name in COLUMNS)
    assert verdict_lines(one, 80)
