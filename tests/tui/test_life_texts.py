"""The detail of handshakes that went on in a way of their own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.lines import handshakes
from tracer.records.drop import Drop
from tracer.records.ends import Listener, Nat, NatEnd, Process
from tracer.records.record import Handshake
from tracer.records.refusal import Icmp, Misfits, Reset
from tracer.store.list_columns import COLUMNS
from tracer.words.ladder import ladder_lines, steps
from tui.explain import fact_lines, verdict_lines
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


REFUSED = {
    "result": "rejected", "settled_by": "rst", "cause": "no_listener", "cause_confidence": "certain",
    "cause_at": "this_host", "reset": change(RESET, reason="NO_SOCKET"),
}  # fmt: skip


def failed(outcome: str = "not_attempted", **timing: Any) -> Handshake:
    """A record that says this of a handshake that failed."""
    found = told(outcome, group="n/a" if outcome == "not_attempted" else "failed")
    gone = {"first_response_us": None, "after": None, "misfits": None, "cause": None, **timing}
    return change(found, handshake=change(found.handshake, **gone))


def test_the_detail_begins_with_what_happened_and_why() -> None:
    lines = verdict_lines(failed(**REFUSED), 200)
    shown = text(lines)
    assert lines[0] == (("✗ failed: refused by a reset", "failed"),)
    assert shown.startswith(
        "✗ failed: refused by a reset Cause (certain, at this host): No socket of this host listens"
    )
    assert "ordinary three-way handshake" not in shown
    assert "reset by the server, 63.1 ms after the first SYN, TTL 61 (3 hops), NO_SOCKET" in text(
        fact_lines(failed(**REFUSED), 200)
    )


def test_the_detail_says_what_a_failure_means_without_a_cause() -> None:
    assert text(verdict_lines(failed(result="no_reply"), 200)).startswith("✗ failed: no reply Nothing answered the SYN")
    shown = text(verdict_lines(failed(result="no_reply", misfits=Misfits(4, 0, 0)), 200))
    assert shown.startswith("✗ failed: no reply that fits Answers to the SYN came, but their numbers do not fit it")
    assert "Nothing answered" not in shown


def test_the_detail_of_a_slow_handshake() -> None:
    record = failed(result="established", cause="slow_answer", cause_confidence="likely", first_response_us=5.0)
    shown = text(verdict_lines(record, 200))
    assert shown.startswith(
        "~ degraded: connection established, slow answer Cause (likely): The first SYN was answered"
    )
    assert "ordinary" not in shown


def test_the_detail_says_both_of_an_attempt_that_was_refused() -> None:
    record = told("rejected", result="rejected", group="failed")
    record = change(record, handshake=change(record.handshake, **REFUSED))
    shown = text(verdict_lines(record, 200))
    assert shown.index("✗ failed: refused by a reset") < shown.index("Cause (certain") < shown.index("TFO SYN rejected")


def test_what_kernel_and_queues_said_is_among_the_facts() -> None:
    record = failed(
        result="no_reply", drop=Drop("syn", "NETFILTER_DROP", "nft_do_chain", None), icmp=Icmp(3, 13, "192.0.2.254"),
        listener=Listener("0.0.0.0", 443, 512, 511, Process(812, "nginx", 0)),
    )  # fmt: skip
    nat = Nat(NatEnd("10.0.0.1", 4), NatEnd("10.0.0.2", 8080), "0" * 16)
    changed = ("mss_changed syn 1460 > 1300", "option_stripped syn tfo")
    record = change(record, nat=nat, changed_on_host=changed, warnings=("mss_tiny", "of_a_later_version"))
    shown = text(fact_lines(record, 200))
    for words in (
        "kernel SYN dropped: NETFILTER_DROP at nft_do_chain",
        "listener accept queue of nginx[812] at 0.0.0.0:443: 512 of 511",
        "ICMP error administratively prohibited, says 192.0.2.254",
        f"other side translated: 10.0.0.1:4 > 10.0.0.2:8080 ({'0' * 16})",
        "changed here MSS of the SYN from 1460 to 1300; the Fast Open option removed from the SYN",
        "warning The MSS is below 536 bytes",
        "warning of a later version",
    ):
        assert words in shown
    for cells in (40, 80):
        assert max(width(line) for line in fact_lines(record, cells)) <= max(cells, 56)
    assert "changed here nothing" in text(fact_lines(change(record, changed_on_host=()), 200))
    evil = change(
        record,
        warnings=("a\x1b[2J",),
        changed_on_host=("mss_changed syn \x1b[2J", "\x1b[2J"),
        handshake=change(record.handshake, cause="b\x1b[2J"),
    )
    assert "\x1b" not in text([*fact_lines(evil, 80), *verdict_lines(evil, 80)])


def test_the_ladder_says_what_the_kernel_dropped() -> None:
    record = told("no_answer", result="no_reply", group="failed", misfits=None)
    dropped = Drop("syn", "NETFILTER_DROP", "nft_do_chain", None)
    record = change(record, handshake=change(record.handshake, drop=dropped))
    assert [step.label for step in steps(record)][-2:] == ["SYN dropped: NETFILTER_DROP at nft_do_chain", "no reply"]
    for cells in (30, 60):
        assert max(width(line) for line in ladder_lines(record, cells)) <= cells


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
