"""Words for how a connection went on: in the line, in pcapng comments, for the detail."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.lines import handshakes
from tracer.records import life
from tracer.records.notes import happened
from tracer.records.record import Handshake, SynAck
from tracer.records.refusal import Misfits, Reset
from tracer.sinks.comment import comment, judged
from tracer.vocabulary.meanings import AFTERS
from tracer.vocabulary.vocabulary import AFTER_WORDS, known

change = msgspec.structs.replace
RESET = Reset("server", 63.1, 61, 3)


def told(
    outcome: str, group: str, *, result: str = "established", saved: float | None = None, **timing: Any
) -> Handshake:
    """A record of the lab that says this."""
    found = next(one for one in handshakes() if one.tfo.outcome == outcome and one.handshake.result == result)
    lived = {"first_response_us": None, "after": None, **timing}
    return change(
        found, handshake=change(found.handshake, **lived), tfo=change(found.tfo, group=group, rtt_saved_us=saved)
    )


def test_every_word_has_a_sentence() -> None:
    assert set(AFTERS) == set(known(AFTER_WORDS))


def test_data_accepted_and_then_a_reset_is_no_success() -> None:
    record = told("data_acked", "failed", saved=0.0, after="reset_by_server", reset=RESET)
    assert life.verdict(record) == "TFO data accepted, then reset by server"
    assert judged(record)[:3] == ["established", "TFO data accepted", "reset by the server after 63.1 µs"]
    assert "works as intended" not in life.explanation(record)
    assert ", saved " not in comment(record)


@pytest.mark.parametrize(
    ("group", "timing", "expected"),
    [
        ("failed", {"after": "silence", "request_repeats": 3, "request_acked": False},
         ["then silence, request repeated 3 times in vain"]),
        ("ok", {"after": "silence", "request_repeats": 1, "request_acked": False},
         ["then silence, request repeated once in vain"]),
        ("ok", {"after": "silence", "request_repeats": 2, "request_acked": True}, []),
        ("ok", {"after": "silence", "request_repeats": 0, "request_acked": False}, []),
        ("failed", {"after": None, "request_repeats": 2, "request_acked": False},
         ["then request repeated 2 times in vain"]),
        ("failed", {"after": "synack_again", "request_repeats": 2, "request_acked": False},
         ["then SYN-ACK again, request repeated 2 times in vain"]),
        ("ok", {"after": "synack_again", "request_repeats": 0, "request_acked": False}, ["then SYN-ACK again"]),
        # the server's direction is not seen
        ("ok", {"after": None, "request_repeats": 2, "request_acked": None}, []),
        ("ok", {"after": "closed_unused"}, ["closed unused"]),
        ("ok", {"after": "response", "first_response_us": 5.0}, []),
        ("ok", {"after": "server_closed", "settled_by": "fin"}, []),
        ("ok", {}, []),
        ("failed", {"after": "reset_by_server", "reset": RESET}, ["reset by the server after 63.1 µs"]),
        ("failed", {"after": "reset_by_server"}, ["then reset by server"]),
        ("ok", {"syn_count": 2, "connect_us": 1_020_000.0}, ["2 SYNs, connected after 1.02 s"]),
        ("ok", {"syn_count": 3, "synack_count": 2}, ["3 SYNs, 2 SYN-ACKs, connected after 40.0 µs"]),
        ("ok", {"synack_count": 2, "connect_us": None}, ["2 SYN-ACKs"]),
    ],
)  # fmt: skip
def test_the_line_says_how_it_went_on(group: str, timing: dict[str, Any], expected: list[str]) -> None:
    assert happened(told("data_acked", group, **{"connect_us": 40.0, **timing})) == expected


def test_a_plain_handshake_says_it_too() -> None:
    found = judged(told("not_attempted", "n/a", after="reset_by_server", reset=RESET))
    assert found[:3] == ["established", "no TFO", "reset by the server after 63.1 µs"]


def test_what_is_not_known_is_not_praised() -> None:
    assert "works as intended" in life.explanation(told("data_acked", "ok", saved=1.0, first_response_us=5.0))
    assert "not known" in life.explanation(told("data_acked", "ok", after="silence"))


def test_answers_that_do_not_fit_are_answers() -> None:
    misfits = Misfits(4, 0, 0)
    record = told("no_answer", "failed", result="no_reply", misfits=misfits, cause=None)
    assert judged(record)[:3] == [
        "no reply that fits", "TFO SYN without an answer that fits", "4 RSTs came that do not fit",
    ]  # fmt: skip
    for text in (life.verdict(record), life.explanation(record), life.result(record.handshake)):
        assert "no answer" not in text
        assert "no reset" not in text
        assert text != "no reply"
    without = told("no_answer", "failed", result="no_reply", cause=None)
    assert judged(without)[:2] == ["no reply", "TFO SYN without answer"]


@pytest.mark.parametrize(
    ("misfits", "expected"),
    [
        (Misfits(1, 0, 0), "1 RST came that does not fit"),
        (Misfits(4, 1, 2), "4 RSTs and 1 SYN-ACK and 2 ICMP errors came that do not fit"),
        (Misfits(0, 2, 0), "2 SYN-ACKs came that do not fit"),
    ],
)
def test_what_did_not_fit(misfits: Misfits, expected: str) -> None:
    assert life.misfits(misfits) == expected


def test_whose_reset_aborted_it() -> None:
    record = told("over_acked", "failed", result="aborted", reset=change(RESET, from_="client"))
    assert life.result(record.handshake) == "reset by the client before it was established"
    assert judged(record)[:3] == [
        "aborted", "TFO server acked more than was sent", "reset by the client after 63.1 µs",
    ]  # fmt: skip
    record = told("over_acked", "failed", result="aborted", reset=RESET)
    assert life.result(record.handshake) == "reset by the server before it was established"
    assert judged(record)[2] == "reset by the server after 63.1 µs"
    assert life.verdict(record) == "TFO server acked more than was sent, reset by server"
    assert life.result(change(record.handshake, reset=None)) == "reset before it was established"


def test_other_hosts_and_who_went_on_are_told() -> None:
    parts = judged(told("data_acked", "ok", synack_isns=2, resumed="no_reply"))
    assert "2 different SYN-ACKs" in parts
    assert "went on after no reply" in parts
    assert "went on after \\x1b[31m" in judged(told("data_acked", "ok", resumed="\x1b[31m"))


def test_who_lived() -> None:
    timing = told("data_acked", "ok", settled_by="fin").handshake
    assert life.lived(timing)
    # older files do not say whose FIN it was
    assert not life.lived(change(timing, copies=None))
    assert life.lived(change(timing, settled_by="timeout", request_acked=True))
    assert not life.lived(change(timing, settled_by="timeout"))
    assert not life.lived(change(timing, result="half_open"))


def test_a_record_of_an_older_version_reads() -> None:
    record = handshakes()[0]
    line = msgspec.json.decode(msgspec.json.encode(record))
    names = list(line["handshake"])
    for name in names[names.index("connect_us") :]:
        del line["handshake"][name]
    old = msgspec.convert(line, Handshake).handshake
    assert old.result == record.handshake.result
    assert {getattr(old, name) for name in names[names.index("connect_us") :]} == {None}


def test_the_reset_is_from_somebody_in_json() -> None:
    record = change(handshakes()[0], handshake=change(handshakes()[0].handshake, reset=RESET))
    text = msgspec.json.encode(record)
    assert b'"reset":{"from":"server","after_us":63.1,"ttl":61,"hops":3,"reason":null}' in text
    again = msgspec.json.decode(text, type=Handshake)
    assert again == record
    assert isinstance(again.synack, SynAck)


def test_a_challenge_ack_is_told_instead_of_what_the_server_lacks() -> None:
    for outcome in ("cookie_not_granted", "data_not_acked", "cookie_only"):
        assert "challenge ACK" in life.explanation(told(outcome, "degraded", challenge_acks=1, answered_syn=2))
        # the SYN with Fast Open was answered after all
        assert "challenge ACK" not in life.explanation(told(outcome, "degraded", challenge_acks=1, answered_syn=1))
    assert "challenge ACK" not in life.explanation(told("data_acked", "ok", challenge_acks=1, first_response_us=5.0))


def test_tunnels_that_were_read_into_are_named() -> None:
    record = told("data_acked", "ok")
    assert not any(part.startswith("through") for part in judged(record))
    assert "through vxlan, gre" in judged(msgspec.structs.replace(record, through=("vxlan", "gre")))
