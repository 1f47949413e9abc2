"""Captures of every kind through the real kernel programs: judged correctly or refused with a sentence."""

from __future__ import annotations

import gzip
import os
import random
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from tests.support import captures
from tests.support.captures import (
    EN10MB,
    IPV4,
    IPV6,
    LOOP,
    NULL,
    RAW,
    SLL,
    SLL2,
    START_NS,
    Packet,
    handshake,
    pcap,
    pcapng,
)  # fmt: skip
from tests.support.replays import assert_accepted, judged, replay
from tests.support.tracing import assert_balanced, decode, run
from tracer.records.record import Handshake
from tracer.records.run import End, NoticeRecord, Start

pytestmark = pytest.mark.root

NOT_ROOT = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
MS = 1_000_000
S = 1_000_000_000


@pytest.mark.parametrize(
    ("link", "nano", "order"),
    [
        (EN10MB, True, "<"), (EN10MB, False, "<"), (EN10MB, True, ">"), (EN10MB, False, ">"), (RAW, True, "<"),
        (NULL, True, "<"), (LOOP, True, "<"), (SLL, True, "<"), (SLL2, True, "<"), (IPV4, True, "<"), (IPV6, True, "<"),
    ],
)  # fmt: skip
def test_every_link_type(tmp_path: Path, link: int, nano: bool, order: str) -> None:
    versions = {IPV4: (4,), IPV6: (6,)}.get(link, (4, 6))
    packets = [one for version in versions for one in handshake(version)]
    found = judged(tmp_path, pcap(link, packets, nano=nano, order=order))
    ends = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
    assert sorted((one.client.ip, one.server.ip) for one in found) == [ends[version] for version in versions]
    for one in found:
        assert_accepted(one, nano=nano)
        assert one.interface == ("if0" if link == SLL2 else "trace.pcap")
        assert one.vantage == "transit"


@pytest.mark.parametrize("link", [EN10MB, SLL, SLL2])
def test_vlan_tags(tmp_path: Path, link: int) -> None:
    packets = [one for vlans in ((7,), (7, 4000)) for one in handshake(vlans=vlans)]
    found = judged(tmp_path, pcap(link, packets, nano=True))
    assert sorted(one.vlan for one in found) == [(7,), (7, 4000)]
    for one in found:
        assert_accepted(one)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("form", [pcap, pcapng])
def test_compressed(tmp_path: Path, form: object, compress: object) -> None:
    assert callable(form)
    assert callable(compress)
    content = form(EN10MB, handshake(), nano=True) if form is pcap else form(EN10MB, handshake())
    (one,) = judged(tmp_path, compress(content), name="trace.gz")
    assert_accepted(one)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("link", [EN10MB, SLL])
def test_pcapng_with_names_and_directions(tmp_path: Path, link: int, order: str) -> None:
    first = handshake(port=1000)
    # the same connection on a second interface a little later, as a router sees it: it is one handshake
    again = [replace(one, at_ns=one.at_ns + 20_000, interface=1, outgoing=not one.outgoing) for one in first]
    other = [replace(one, interface=1) for one in handshake(port=2000)]
    packets = sorted([*first, *again, *other], key=lambda one: one.at_ns)
    found = judged(tmp_path, pcapng(link, packets, ("eth0", "w\x1b[31mg0"), order), name="trace.pcapng")
    assert {(one.client.port, one.interface, one.handshake.syn_count) for one in found} == {
        (1000, "eth0", 1),
        (2000, "w\x1b[31mg0", 1),
    }
    for one in found:
        assert_accepted(one)


def test_several_sections_and_unnamed_interfaces(tmp_path: Path) -> None:
    content = pcapng(EN10MB, handshake(port=1000), (None,)) + pcapng(EN10MB, handshake(port=2000), ("eth1", "eth2"))
    found = judged(tmp_path, content, name="trace.pcapng")
    assert {(one.client.port, one.interface) for one in found} == {(1000, "trace.pcapng"), (2000, "eth1")}


def test_cooked_capture_of_all_interfaces(tmp_path: Path) -> None:
    """A router's `tcpdump -i any`: every packet twice, in at one interface and out at the other."""
    packets = []
    for one in handshake():
        came, went = (3, 4) if one.outgoing else (4, 3)
        packets.append(replace(one, interface=came, outgoing=False))
        packets.append(replace(one, interface=went, outgoing=True, at_ns=one.at_ns + 15_000))
    (one,) = judged(tmp_path, pcap(SLL2, packets, nano=True))
    assert_accepted(one)
    assert (one.interface, one.handshake.syn_count, one.handshake.synack_count) == ("if3", 1, 1)
    (one,) = judged(tmp_path, pcap(SLL, packets, nano=True))
    assert (one.handshake.syn_count, one.handshake.synack_count) == (1, 1)


def test_local_addresses_give_the_vantage(tmp_path: Path) -> None:
    content = pcap(EN10MB, [*handshake(4), *handshake(6)], nano=True)
    for words, vantages in (
        (("--local", "192.0.2.1", "--local", "2001:db8::/127"), ["client", "client"]),
        (("--local", "192.0.2.2"), ["server", "transit"]),
        (("--local", "192.0.2.0/24", "--local", "2001:db8::/32"), ["local", "local"]),
    ):
        found = judged(tmp_path, content, *words)
        assert [one.vantage for one in found] == vantages
    assert run("replay", str(tmp_path / "trace.pcap"), "--local", "here").code == 2


def test_start_says_what_the_capture_is_of(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcap"
    packets = [replace(one, interface=12) for one in handshake()]
    path.write_bytes(pcap(SLL2, packets, nano=True))
    _, records, _ = replay(path)
    assert isinstance(records[0], Start)
    assert [(one.name, one.hook) for one in records[0].interfaces] == [("if12", "replay")]
    assert records[0].boot_clock_offset_ns == 0


def test_it_lasted_as_long_as_the_capture(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcap"
    packets = [*handshake(), *handshake(at_ns=START_NS + 90 * S, port=40001)]
    path.write_bytes(pcap(EN10MB, packets, nano=True))
    _, records, done = replay(path)
    assert isinstance(records[-1], End)
    span_s = (packets[-1].at_ns - packets[0].at_ns) / S
    assert records[-1].duration_s == pytest.approx(span_s, abs=0.001)
    assert f"2 handshakes in {span_s:.1f} s" in done.err


def test_filters_and_counts(tmp_path: Path) -> None:
    content = pcap(EN10MB, [one for port in (1000, 2000, 3000) for one in handshake(port=port)], nano=True)
    found = judged(tmp_path, content, "--filter-record", "client.port > 1500 and http.host == www.example.org")
    assert [one.client.port for one in found] == [2000, 3000]
    done = run("replay", str(tmp_path / "trace.pcap"), "--text", "--count", "2")
    assert (done.code, len(done.out.splitlines())) == (0, 2 + 2)  # and what they say


def test_headers_cut_by_the_capture_are_told_and_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcap"
    path.write_bytes(pcap(EN10MB, handshake(), nano=True, snaplen=68))
    found, records, done = replay(path)
    assert done.code == 0
    assert not found
    said = [one.text for one in records if isinstance(one, NoticeRecord) and one.kind == "headers_cut"]
    assert len(said) == 1
    assert "2 TCP segments" in said[0]
    assert "68 bytes" in said[0]


def test_data_cut_by_the_capture_is_judged(tmp_path: Path) -> None:
    (one,) = judged(tmp_path, pcap(EN10MB, handshake(), nano=True, snaplen=96 + 20))
    assert one.tfo.outcome == "data_acked"
    assert one.payload is not None
    assert one.payload.truncated


def test_plain_handshakes_cut_to_68_bytes_are_judged(tmp_path: Path) -> None:
    packets = handshake(cookie=None, data=b"")
    bare = [Packet(one.at_ns, _without_options(one.ip), one.vlans) for one in packets]
    (one,) = judged(tmp_path, pcap(EN10MB, bare, nano=True, snaplen=68))
    assert (one.handshake.result, one.tfo.outcome) == ("established", "not_attempted")


def _without_options(ip: bytes) -> bytes:
    header = (ip[32] >> 4) * 4
    tcp = ip[20:32] + bytes([5 << 4]) + ip[33:40] + ip[20 + header :]
    return ip[:2] + struct.pack("!H", 20 + len(tcp)) + ip[4:20] + tcp


def test_out_of_order(tmp_path: Path) -> None:
    """Packets of a capture by several CPUs: a little out of order, then the two ends of a long file swapped."""
    packets: list[Packet] = []
    for number in range(50):
        packets += handshake(port=1000 + number, at_ns=START_NS + number * 100 * MS)
    rng = random.Random(7)
    shuffled = sorted(packets, key=lambda one: one.at_ns + rng.randrange(8 * MS))
    found = judged(tmp_path, pcap(EN10MB, shuffled, nano=True))
    assert {one.client.port for one in found} == set(range(1000, 1050))
    for one in found:
        assert_same_verdict(one)
    # ordered by time, what is close together is right, whatever order it came in
    half = len(packets) // 2
    found = judged(tmp_path, pcap(EN10MB, [*packets[half:], *packets[:half]], nano=True))
    assert len(found) == 50
    for one in found:
        assert_same_verdict(one)


def assert_same_verdict(one: Handshake) -> None:
    assert (one.handshake.result, one.tfo.outcome) == ("established", "data_acked")
    assert one.handshake.first_response_us == 30_000


def test_timeouts_by_the_captures_clock(tmp_path: Path) -> None:
    unanswered = handshake(port=1000)[:1]
    half_open = handshake(port=1001)[:2]
    silent = handshake(port=1002)[:3]
    a_day = handshake(port=1003, at_ns=START_NS + 86_400 * S)
    ten = handshake(port=1004, at_ns=START_NS + 10 * S)
    late = [replace(unanswered[0], at_ns=START_NS + 5 * S)]  # 1 s after it was given up: counted, no second record
    packets = [*unanswered, *half_open, *silent, *late, *ten, *a_day]
    path = tmp_path / "trace.pcap"
    path.write_bytes(pcap(EN10MB, sorted(packets, key=lambda one: one.at_ns), nano=True))
    found, records, _ = replay(path)
    assert [(one.client.port, one.handshake.result, one.handshake.settled_by) for one in found] == [
        (1000, "no_reply", "timeout"),
        (1001, "half_open", "timeout"),
        (1002, "established", "timeout"),
        (1004, "established", "response"),
        (1003, "established", "response"),
    ]
    assert isinstance(records[-1], End)
    assert records[-1].counters["late_syns"] == 1
    found, _, _ = replay(path, "--response-timeout", "100000")
    assert next(one.client.port for one in found if one.handshake.settled_by == "at_end") == 1002


def test_a_file_that_is_cut(tmp_path: Path) -> None:
    content = pcap(EN10MB, handshake(), nano=True)
    path = tmp_path / "trace.pcap"
    for cut in (content[:-5], gzip.compress(content)[:-12]):
        path.write_bytes(cut)
        found, records, done = replay(path)
        assert done.code == 0
        assert len(found) == 1
        assert any("is cut" in line for line in done.said), done.said
        assert any(isinstance(one, NoticeRecord) and one.kind == "capture_cut" for one in records)


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (pcap(105, []), 2, "link type IEEE802_11"),
        (pcap(14, []), 2, "link type number 14"),  # raw IP on OpenBSD
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 9, 9, 0, 0, 1, 1), 2, "cannot be read as a capture"),
        (pcap(EN10MB, [])[:20], 2, "cannot be read as a capture"),
        (pcapng(EN10MB, handshake())[:40] + bytes(100), 2, "cannot be read as a capture"),
        (
            captures.section() + captures.interface(105) + captures.interface(147)
            + captures.enhanced(EN10MB, handshake()[0]),
            2,
            "link type IEEE802_11 (802.11) and number 147",
        ),
        (pcap(EN10MB, handshake()) + b"\xff" * 64, 4, "cannot be read any further"),
    ],
    ids=["wifi", "openbsd", "version", "short", "damaged", "unknown", "garbage"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_sentence(tmp_path: Path, content: bytes, code: int, says: str) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    done = run("replay", str(path), "--json")
    assert done.code == code, done
    assert any(says in line for line in done.said), done.said
    assert not any("Traceback" in line for line in done.said)


def test_an_empty_capture_is_no_fault(tmp_path: Path) -> None:
    assert judged(tmp_path, pcap(EN10MB, [])) == []
    assert judged(tmp_path, pcapng(EN10MB, [])) == []


def test_who_is_not_root_is_told_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "trace.pcap"
    path.write_bytes(pcap(EN10MB, handshake()))
    with path.open("rb"):
        done = run("replay", "/dev/stdin", prefix=("sh", "-c", f'exec < {path}; exec "$@"', "sh", *NOT_ROOT))
    assert done.code == 3
    assert len(done.said) == 1
    assert "needs root" in done.said[0]
    assert "sudo" in done.said[0]


def test_recorded_events_need_no_root(tmp_path: Path) -> None:
    """Nor does `sudo -u somebody`, which says in the environment who called it."""
    path = tmp_path / "trace.pcap"
    path.write_bytes(pcap(EN10MB, handshake(), nano=True))
    _, _, recorded = replay(path)
    events = tmp_path / "events.jsonl"
    events.write_bytes(recorded.out)
    prefix = ("sh", "-c", f'exec < {events}; exec "$@"', "sh", *NOT_ROOT)
    done = run("replay", "-", "--json", prefix=prefix, env={"SUDO_UID": "1", "SUDO_GID": "1"})
    assert done.code == 0, done
    assert done.out == recorded.out


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that every account can look into, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize("kind", ["capture", "records"])
@pytest.mark.parametrize("how", ["--user", "sudo"])
def test_the_reader_is_the_user(open_folder: Path, how: str, kind: str) -> None:
    """A file is opened, and files are written, by the account of --user or behind sudo."""
    env = {"SUDO_UID": "65534", "SUDO_GID": "65534", "SUDO_USER": "nobody"} if how == "sudo" else {}
    words = ("--user", "nobody") if how == "--user" else ()
    path = open_folder / "recorded"
    path.write_bytes(pcap(EN10MB, handshake(), nano=True))
    if kind == "records":
        path.write_bytes(run("replay", str(path), "--json").out)
    done = run("replay", str(path), "--json", *words, env=env)
    assert done.code == 0, done
    (one,) = [record for record in map(decode, done.out.splitlines()) if isinstance(record, Handshake)]
    assert_accepted(one)
    denied = run("replay", str(path), "--quiet", "-w", str(open_folder / "events.jsonl"), *words, env=env)
    assert (denied.code, "Permission denied" in denied.said[-1]) == (2, True)
    path.chmod(0o600)
    refused = run("replay", str(path), "--json", *words, env=env)
    assert (refused.code, refused.out) == (2, b"")
    assert refused.said == [
        f"tfotrace: cannot read {path}: Permission denied, as user nobody: let them read it, or say --user root"
    ]
    assert run("replay", str(path), "--json", "--user", "root", env=env).code == 0


def test_short_and_odd_packets_harm_nothing(tmp_path: Path) -> None:
    """Frames of every length from nothing to a whole packet, huge ones, noise: counted or left out, no failure."""
    whole = captures.framed(EN10MB, handshake()[0])
    rng = random.Random(3)
    frames = [whole[:length] for length in range(len(whole))]
    frames += [rng.randbytes(rng.randrange(200)) for _ in range(300)]
    frames += [whole + bytes(60_000), whole + bytes(200_000)]
    head = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, EN10MB)
    for link in (EN10MB, RAW, SLL2):
        head = head[:20] + struct.pack("<I", link)
        body = b"".join(struct.pack("<IIII", 1, 0, len(one), len(one)) + one for one in frames)
        path = tmp_path / f"trace{link}"
        path.write_bytes(head + body + pcap(link, handshake(port=5), nano=True)[24:])
        found, _, done = replay(path)
        assert done.code == 0, done
        assert [one for one in found if one.client.port == 5 and one.client.ip == "192.0.2.1"]


def test_nothing_is_lost_when_the_reader_is_slow(tmp_path: Path) -> None:
    """More handshakes with data than rings hold: the root part waits."""
    packets: list[Packet] = []
    for number in range(12_000):
        packets += handshake(port=1024 + number, at_ns=START_NS + number * 100_000, data=captures.REQUEST * 20)
    path = tmp_path / "trace.pcap"
    path.write_bytes(pcap(EN10MB, sorted(packets, key=lambda one: one.at_ns), nano=True))
    done = run("replay", str(path), "--json")
    records = [decode(line) for line in done.out.splitlines()]
    assert isinstance(records[-1], End)
    assert_balanced(records[-1])
    assert (records[-1].balance.emitted, records[-1].balance.lost) == (12_000, 0)
    assert records[-1].counters["payloads_lost"] == 0
    found = [one for one in records if isinstance(one, Handshake)]
    assert sum(one.http is not None for one in found) == 12_000


def lengthened(one: Packet, by: int) -> Packet:
    """The packet with an IP header that claims `by` bytes more."""
    at = 2 if one.ip[0] >> 4 == 4 else 4
    length = int.from_bytes(one.ip[at : at + 2], "big") + by
    return replace(one, ip=one.ip[:at] + length.to_bytes(2, "big") + one.ip[at + 2 :])


CUT_OR_NOT = [262144, 128]  # the snap length; 128 bytes hold all headers
FORMS = ["pcap", "pcapng", "interfaces", "cooked"]


def in_form(form: str, packets: list[Packet], snaplen: int) -> bytes:
    if form == "pcap":
        return pcap(EN10MB, packets, nano=True, snaplen=snaplen)
    if form == "cooked":
        return pcap(SLL2, packets, nano=True, snaplen=snaplen)
    if form == "interfaces":
        packets = [replace(one, interface=number % 2) for number, one in enumerate(packets)]
    return pcapng(EN10MB, packets, ("eth0", "eth1"), snaplen=snaplen)


@pytest.mark.parametrize("snaplen", CUT_OR_NOT)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("version", [4, 6])
def test_an_ip_length_beyond_the_wire_invents_no_attempt(tmp_path: Path, version: int, form: str, snaplen: int) -> None:
    """A plain SYN whose IP length grew on the way has no data; what is cut by the snap length is all right."""
    plain = handshake(version, port=1000, cookie=None, data=b"")
    sound = handshake(version, port=2000, data=captures.REQUEST * 10)
    path = tmp_path / "trace"
    path.write_bytes(in_form(form, [lengthened(plain[0], 40), *sound], snaplen))
    found, records, _ = replay(path)
    assert [(one.client.port, one.tfo.request, one.tfo.outcome) for one in found] == [
        (2000, "cookie_and_data", "data_acked")
    ]
    assert found[0].syn.payload_len == len(captures.REQUEST * 10)
    assert found[0].payload is not None
    assert found[0].payload.truncated is (snaplen == 128)
    assert isinstance(records[-1], End)
    assert records[-1].counters["malformed_ip_length"] == 1


def test_frames_longer_than_their_packet_are_padded(tmp_path: Path) -> None:
    """Ethernet fills up to 60 bytes, some captures end with a checksum, some cut just the padding."""
    bare = [Packet(one.at_ns, _without_options(one.ip) + bytes(9)) for one in handshake(cookie=None, data=b"")[:3]]
    for snaplen in (262144, 60, 54):
        path = tmp_path / "trace.pcap"
        path.write_bytes(pcap(EN10MB, bare, nano=True, snaplen=snaplen))
        (one,), records, _ = replay(path)
        assert (one.handshake.result, one.tfo.outcome) == ("established", "not_attempted")
        assert isinstance(records[-1], End)
        assert records[-1].counters["malformed_ip_length"] == 0


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", [EN10MB, NULL, SLL2])
def test_a_packet_too_long_for_the_length_field_is_a_response(tmp_path: Path, link: int, version: int) -> None:
    """BIG TCP: the IP length is 0, the record's above 65,535 bytes."""
    *first, answer = handshake(version)
    at = 2 if version == 4 else 4
    huge = replace(answer, ip=answer.ip[:at] + bytes(2) + answer.ip[at + 2 :] + bytes(80_000))
    for snaplen in (262144, 200):
        (one,) = judged(tmp_path, pcap(link, [*first, huge], nano=True, snaplen=snaplen))
        assert_accepted(one)


def test_a_record_that_claims_less_than_it_holds(tmp_path: Path) -> None:
    """Some writers leave the original length at 0: what was captured counts."""
    content = bytearray(pcap(EN10MB, handshake(), nano=True))
    at = 24
    while at < len(content):
        (captured,) = struct.unpack_from("<I", content, at + 8)
        struct.pack_into("<I", content, at + 12, 0)
        at += 16 + captured
    (one,) = judged(tmp_path, bytes(content))
    assert_accepted(one)
