"""What a line, a list and a comment say of a handshake that failed or was slow: never that it was ordinary."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.lines import handshakes
from tracer.records import fate
from tracer.records.drop import Drop
from tracer.records.ends import Endpoint, Listener, Nat, NatEnd, Process
from tracer.records.record import Handshake
from tracer.records.refusal import Icmp, Misfits, Reset
from tracer.sinks.comment import comment, judged
from tracer.vocabulary.causes import HANDSHAKE_CAUSES

change = msgspec.structs.replace
DROPPED = {
    "cause": "host_dropped",
    "cause_confidence": "certain",
    "cause_at": "this_host",
    "drop": Drop("syn", "NETFILTER_DROP", "nft_do_chain", None),
}
NGINX = Listener("0.0.0.0", 443, 512, 511, Process(812, "nginx", 0))
V4 = {"client": Endpoint("192.0.2.1", 1)}
REFUSED = Reset("server", 63.1, 61, 3, "NO_SOCKET")


def told(result: str, outcome: str = "not_attempted", more: dict[str, Any] | None = None, **timing: Any) -> Handshake:
    """A record of the lab with this outcome that says this of the handshake, and of itself."""
    found = next(one for one in handshakes() if one.tfo.outcome == outcome)
    plain = {"drop": None, "icmp": None, "reset": None, "misfits": None, "cause": None, "syn_count": 1, "rtt_us": None}
    timing = {"result": result, **plain, **timing}
    return change(found, handshake=change(found.handshake, **timing), tfo=change(found.tfo, cause=None), **(more or {}))


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (told("rejected", cause="no_listener", cause_confidence="certain", reset=REFUSED),
         ["rejected", "cause no listener (certain)", "reset by the server after 63.1 µs: NO_SOCKET"]),
        (told("no_reply", **DROPPED),
         ["no reply", "cause host dropped (certain)", "SYN dropped: NETFILTER_DROP at nft_do_chain"]),
        (told("no_reply", cause="accept_queue_full", cause_confidence="certain", listener=NGINX),
         ["no reply", "cause accept queue full (certain)", "accept queue of nginx[812] at 0.0.0.0:443: 512 of 511"]),
        (told("no_reply", cause="syn_queue_full", listener=change(NGINX, ip="::", process=None)),
         ["no reply", "cause syn queue full", "listener at [::]:443: 512 of 511"]),
        (told("unreachable", icmp=Icmp(3, 13, "192.0.2.254"), cause="firewall_rejected", cause_confidence="likely",
              more=V4),
         ["unreachable", "cause firewall rejected (likely)", "ICMP: administratively prohibited, says 192.0.2.254"]),
        (told("unreachable", icmp=Icmp(3, 1), more=V4), ["unreachable", "ICMP: host unreachable"]),
        (told("unreachable", icmp=Icmp(1, 1, "2001:db8::1"), more={"client": Endpoint("2001:db8::2", 1)}),
         ["unreachable", "ICMP: administratively prohibited, says 2001:db8::1"]),
        (told("unreachable", icmp=Icmp(3, 99), more=V4), ["unreachable", "ICMP: destination unreachable, code 99"]),
        (told("unreachable", icmp=Icmp(77, 1), more=V4), ["unreachable", "ICMP: type 77 code 1"]),
        (told("no_reply", cause=None, misfits=Misfits(4, 0, 0)), ["no reply that fits", "4 RSTs came that do not fit"]),
        (told("half_open", more={"nat": Nat(NatEnd("10.0.0.1", 4), NatEnd("10.0.0.2", 8080), "0" * 16)}),
         ["half open", f"translated: 10.0.0.1:4 > 10.0.0.2:8080 ({'0' * 16})"]),
        (told("half_open", more={"changed_on_host": ("mss_changed syn 1460 > 1300", "ttl_raised syn 9 > 64")}),
         ["half open", "changed here: MSS of the SYN from 1460 to 1300, TTL of the SYN from 9 to 64"]),
        (told("half_open", more={"changed_on_host": (), "warnings": ("mss_tiny",)}), ["half open", "MSS tiny"]),
        (told("half_open", more={"warnings": ("mss_tiny", "window_zero")}),
         ["half open", "MSS tiny", "window 0"]),
        (told("established", cause="slow_answer", cause_confidence="likely", more={"warnings": ("mss_tiny",)}),
         ["established", "no TFO", "cause slow answer (likely)", "MSS tiny"]),
    ],
)  # fmt: skip
def test_the_line_says_what_happened_and_why(record: Handshake, says: list[str]) -> None:
    found = judged(record)
    assert found[: len(says)] == says
    if record.handshake.result != "established":
        assert "no TFO" not in found
        assert f"tfotrace: {', '.join(says)}" in comment(record)


def test_what_fast_open_did_stays_in_the_line() -> None:
    found = judged(told("rejected", "rejected", cause="no_listener", cause_confidence="certain"))
    assert found[:3] == ["rejected", "TFO SYN rejected", "cause no listener (certain)"]


@pytest.mark.parametrize(
    ("record", "words", "standing"),
    [
        (told("rejected", cause="no_listener"), "refused: nobody listens", "failed"),
        (told("rejected", cause="refused"), "refused by the server", "failed"),
        (told("no_reply", **DROPPED), "no reply: dropped by this host: firewall", "failed"),
        (told("no_reply", cause="host_dropped"), "no reply: dropped by this host", "failed"),
        (told("half_open"), "half open", "failed"),
        (told("no_reply", cause="of_a_later_version"), "no reply: of a later version", "failed"),
        (told("established", cause="slow_answer"), "slow answer", "degraded"),
        (told("half_open", "cookie_granted"), "half open", "failed"),
        (told("rejected", "rejected", cause="no_listener"), "refused: nobody listens", "failed"),
    ],
)  # fmt: skip
def test_the_list_says_it_instead_of_what_fast_open_did(record: Handshake, words: str, standing: str) -> None:
    assert fate.told_first(record)
    assert (fate.fate(record.handshake), fate.standing(record)) == (words, standing)


@pytest.mark.parametrize(
    ("record", "standing"),
    [
        (told("established"), "n/a"),
        (told("established", "data_acked", cause="slow_answer"), "degraded"),
        (told("simultaneous_open"), "n/a"),
        (told("no_reply", "no_answer"), "failed"),
    ],
)
def test_what_fast_open_did_is_told_where_that_says_more(record: Handshake, standing: str) -> None:
    assert not fate.told_first(record)
    assert fate.standing(record) == standing


def test_a_comment_says_what_a_failure_means() -> None:
    sentence = HANDSHAKE_CAUSES["no_listener"]
    assert sentence in comment(told("rejected", cause="no_listener"))
    assert "A reset answered the SYN" in comment(told("rejected"))
    fitting = comment(told("no_reply", misfits=Misfits(1, 0, 0)))
    assert "Answers to the SYN came" in fitting
    assert "Nothing answered" not in fitting
    assert "Nothing answered" in comment(told("no_reply"))


def test_nothing_of_the_network_reaches_the_terminal_raw() -> None:
    evil = "a\x1b[2Jb"
    record = told(
        "no_reply", cause=evil, reset=Reset("server", 1.0, 64, 0, evil), drop=Drop("syn", evil, evil, None),
        listener=Listener("::", 1, 1, 1, Process(1, evil, 0)), icmp=Icmp(3, 1, evil), more={"warnings": (evil,)},
    )  # fmt: skip
    assert "\x1b" not in comment(record)
    assert "\x1b" not in fate.fate(record.handshake)
