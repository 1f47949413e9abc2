"""The judge of scripts/fidelity by itself, on hand-made segments: without it being right its agreement says nothing."""

from __future__ import annotations

import pytest

from scripts.fidelity import report, verdict
from scripts.fidelity.comparing import Compared, Disagreement, alike, hold
from scripts.fidelity.pairing import Pairing
from scripts.fidelity.report import UNKNOWN, Kind, kind_of, known
from scripts.fidelity.segments import decode_options
from tests.support.talk_cases import CASES, Case
from tests.support.talks import segments


def judged(case: Case) -> list[verdict.Fields]:
    steps = [one for one in case.steps if not one.surplus]  # tshark leaves such packets out
    found = segments(steps)
    pairing = Pairing()
    pairing.feed(found)
    return [verdict.fields(each) for each in pairing.finish(found[-1].at_ns)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_kind(case: Case) -> None:
    found = judged(case)
    assert len(found) == case.records
    for expected, fields in zip((case.expected, case.second), found, strict=False):
        assert {name: fields[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("raw", "kind", "cookie_len", "malformed"),
    [
        ("2202", 34, 0, False), ("220a4142434445464748", 34, 8, False), ("2205414243", None, 0, True),
        ("220441420101", None, 0, True), ("221441424344454647484142434445464748414201", None, 0, True),
        ("fe04f989", 254, 0, False), ("fd0cf9894142434445464748", 253, 8, False), ("fe04e2d4", None, 0, False),
        ("220241", 34, 0, False), ("0022020000", None, 0, False), ("22ff", None, 0, False),
    ],
)  # fmt: skip
def test_fast_open_options(raw: str, kind: int | None, cookie_len: int, malformed: bool) -> None:
    options = decode_options(bytes.fromhex(raw))
    assert (options.tfo_kind, len(options.cookie), options.tfo_malformed) == (kind, cookie_len, malformed)


def test_names_of_options() -> None:
    options = decode_options(bytes.fromhex("020405b40402080a000000010000000201030307"))
    assert options.names == ["mss", "sack_permitted", "timestamps", "nop", "wscale"]
    assert (options.mss, options.wscale, options.sack, options.ts_val, options.ts_ecr) == (1460, 7, True, 1, 2)


def test_values_are_alike() -> None:
    assert alike(20.0, 20.004)
    assert not alike(20.0, 20.5)
    assert not alike(20.0, None)
    assert alike({"from": "server", "after_us": 1.0}, {"from": "server", "after_us": 1.001})


def test_a_handshake_that_one_side_lacks() -> None:
    found = segments(CASES[0].steps)
    pairing = Pairing()
    pairing.feed(found)
    compared = Compared("one.pcap")
    hold(compared, pairing.finish(found[-1].at_ns), [])
    assert [(one.field, one.judge) for one in compared.disagreements] == [("missing", "established")]


def test_the_first_kind_that_fits_explains() -> None:
    one = Disagreement("a/b.pcap", "10.0.0.1:1 > 10.0.0.2:2 isn 3", "handshake.after", "silence", None, ["at_deadline"])
    kinds = [
        Kind("other", "judge", "", capture="*/c.pcap"), Kind("sweep", "judge", "", note="at_deadline"),
        Kind("all", "defect", ""),
    ]  # fmt: skip
    assert kind_of(one, kinds) == "sweep"
    assert kind_of(one, kinds[:1]) == UNKNOWN


def test_the_table_of_kinds_can_be_read() -> None:
    assert all(one.fault in ("judge", "capture", "limit", "defect") and one.reason for one in known())


def test_the_document_has_every_number_and_no_secret_of_the_machine() -> None:
    found = segments(CASES[0].steps)
    pairing = Pairing()
    pairing.feed(found)
    good, bad = Compared("a.pcap"), Compared("b.pcap")
    entries = pairing.finish(found[-1].at_ns)
    hold(good, [], [])
    hold(bad, entries, [])
    skipped = Compared("c.pcap", skipped="took more than 60 s")
    text = report.text([good, bad, skipped], "TShark 4", "tfotrace 1", "2026-01-01")
    assert "| captures | 3 |" in text
    assert "| skipped: took more than 60 s | 1 |" in text
    assert "| compared | 2, 1 of them with handshakes |" in text
    assert "| handshakes | 1, 0 of them alike in every field |" in text
    assert "| of them Fast Open attempts | 1 |" in text
    assert f"| {UNKNOWN} | ? | 1 | 1 |" in text
    assert '| b.pcap | 192.0.2.1:40000 > 198.51.100.1:443 isn 5000 | `missing` "established" / null |' in text
