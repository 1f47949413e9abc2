"""scripts/fidelity in short: every kind of handshake's life as a capture, replayed, and held against the judge."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.fidelity import comparing, report, segments
from tests.support.captures import EN10MB, IPV4, NULL, SLL, handshake, pcap, pcapng
from tests.support.patience import PATIENCE_S
from tests.support.talk_cases import CASES
from tests.support.talks import PORT, packets
from tests.support.tunnels import Tunnel

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

# several connections in one capture, each so much later that the one before is settled
APART_NS = 60 * 10**9
COMPARED_TOO = ("handshake.after", "handshake.misfits", "handshake.copies", "handshake.resumed", "tfo.group")


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = [
        replace(one, at_ns=one.at_ns + number * APART_NS)
        for number, case in enumerate(CASES)
        for one in packets(case.steps, 40000 + number)
    ]
    path = tmp_path_factory.mktemp("fidelity") / "kinds.pcap"
    path.write_bytes(pcap(EN10MB, found, nano=True))
    return path


def said(compared: comparing.Compared) -> Iterator[str]:
    for one in compared.disagreements:
        yield f"{one.handshake} {one.field}: judge {one.judge}, tfotrace {one.tfotrace}"


def test_the_judge_agrees_with_every_kind(capture: Path) -> None:
    compared = comparing.compare(capture, "kinds.pcap")
    assert compared.skipped is None
    assert list(said(compared)) == []
    assert compared.handshakes == sum(case.records for case in CASES)
    assert all(compared.compared[name] >= compared.handshakes for name in COMPARED_TOO)
    assert compared.options_read == compared.options_alike > len(CASES)


def test_tshark_decodes_what_was_made(capture: Path) -> None:
    read = segments.read(capture, PATIENCE_S)
    sound = [one for case in CASES for one in case.steps if not one.surplus]
    assert len(read.segments) == len(sound)
    assert {one.src[1] for one in read.segments if one.dst[1] == PORT} == {40000 + one for one in range(len(CASES))}


@pytest.mark.parametrize("link", [IPV4, NULL, SLL])
def test_links(tmp_path: Path, link: int) -> None:
    path = tmp_path / "link.pcap"
    path.write_bytes(pcap(link, handshake(4), nano=True))
    compared = comparing.compare(path, "link.pcap")
    assert (list(said(compared)), compared.handshakes, compared.skipped) == ([], 1, None)


def test_tunnels(tmp_path: Path) -> None:
    """All kinds of lives, each in a tunnel, with those of the next one at equal addresses in another."""
    kinds = ["vxlan", "geneve", "geneve-ip", "gre", "gretap", "ipip"]
    ends = [("198.51.100.1", "198.51.100.2"), ("2001:db8:f::1", "2001:db8:f::2")]
    tunnels = [Tunnel(kind, 1 + number, at) for at in ends for number, kind in enumerate(kinds)]
    found = []
    cases = [case for case in CASES if not any(step.surplus for step in case.steps)]  # the judge reads no lengths there
    for number, case in enumerate(cases):
        one, other = tunnels[number % 12], tunnels[(number + 1) % 12]
        for packet in packets(case.steps, 40000 + number):
            later = replace(packet, at_ns=packet.at_ns + number * APART_NS)
            found += [one.wrap(later), other.wrap(replace(later, at_ns=later.at_ns + 10)), later]
            found += [tunnels[0].wrap(replace(one.wrap(later), at_ns=later.at_ns + 20))]
    path = tmp_path / "tunnels.pcap"
    path.write_bytes(pcap(EN10MB, sorted(found, key=lambda packet: packet.at_ns), nano=True))
    compared = comparing.compare(path, "tunnels.pcap")
    assert list(said(compared)) == []
    # two that only tags tell apart are one where no tag fits
    assert compared.handshakes == 4 * sum(case.records for case in cases) - 1


def test_it_writes_the_document(tmp_path: Path) -> None:
    folder = tmp_path / "captures" / "inner"
    folder.mkdir(parents=True)
    (folder / "one.pcap").write_bytes(pcap(EN10MB, handshake(4)))
    (folder / "two.pcapng").write_bytes(pcapng(EN10MB, handshake(6)))
    (folder / "notes.txt").write_text("no capture")
    output = tmp_path / "FIDELITY.md"
    words = [sys.executable, "-m", "scripts.fidelity", str(tmp_path / "captures"), "--output", str(output)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, cwd=comparing.ROOT)
    assert done.returncode == 0, done.stderr
    text = output.read_text()
    assert "| captures | 2 |" in text
    assert "| handshakes | 2, 2 of them alike in every field |" in text
    assert "None remains." in text
    assert str(tmp_path) not in text


def test_a_wrong_record_is_found(capture: Path) -> None:
    entries, _ = comparing.judged(capture)
    records = comparing.records(capture)
    assert records is not None
    records[0]["handshake"]["result"] = "half_open"
    del records[1]
    compared = comparing.Compared("kinds.pcap")
    comparing.hold(compared, entries, records)
    assert sorted(one.field for one in compared.disagreements) == ["handshake.result", "missing"]
    assert all(report.kind_of(one, report.known()) == report.UNKNOWN for one in compared.disagreements)


def test_its_tshark_has_a_name() -> None:
    assert segments.version().startswith("TShark")
