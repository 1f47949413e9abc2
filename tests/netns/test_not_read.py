"""Handshakes that are not read do not pass in silence: live inside a real VXLAN, by raw frames, and in captures."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from tests.support.captures import EN10MB, SLL, START_NS, Packet, handshake, pcap
from tests.support.hosts import WIRE, Hosts, add_addresses, service
from tests.support.netbox import NetBox, wait_until
from tests.support.packets import address, ethernet, ipv4, tcp_header, udp
from tests.support.patience import PATIENCE_S
from tests.support.tracing import Finished, assert_balanced, decode, run, tracing
from tracer.records.run import End

pytestmark = pytest.mark.root

A, B = address("192.0.2.1"), address("192.0.2.2")
INSIDE = ("198.51.100.1", "198.51.100.2")
INNER = ipv4(A, B, tcp_header(40000, 443, 1000, 0, 2))
NOT_READ = "tfotrace: not read: "


def add_vxlan(hosts: Hosts) -> None:
    """A VXLAN from host to host over the wire."""
    remotes = ("10.99.0.2", "10.99.0.1")
    for box, remote, inside in zip((hosts.client, hosts.server), remotes, INSIDE, strict=True):
        words = ["ip", "link", "add", "vxlan7", "type", "vxlan", "id", "7", "dstport", "4789", "remote", remote]
        made = subprocess.run(box.command(*words, "dev", WIRE), capture_output=True, text=True, check=False)
        if "Unknown device type" in made.stderr:
            pytest.skip("this kernel has no VXLAN")
        assert made.returncode == 0, made.stderr
        box.run("ip", "link", "set", "vxlan7", "up")
        add_addresses(box, "vxlan7", inside)


def told(said: list[str]) -> str:
    """The one sentence on what was not read."""
    (found,) = (line for line in said if line.startswith(NOT_READ))
    return found


def test_a_vxlan_is_told_at_the_wire_and_read_at_its_own_interface(apart: Hosts) -> None:
    apart.join()
    add_vxlan(apart)
    with service(apart.client, apart.server, INSIDE[1]) as web:
        with tracing(WIRE, "--json", "--prometheus", "0", "--netns", apart.client.name) as run:
            web.exchange()
            urls: list[str] = []

            def announced() -> bool:
                urls[:] = [word for line in run.said for word in line.split() if word.startswith("http://")]
                return bool(urls)

            wait_until(announced, "the address of the metrics", PATIENCE_S)
            counted = 'tfotrace_not_read_total{kind="vxlan"}'

            def exported() -> bool:  # the counters come once a second
                with urllib.request.urlopen(urls[0], timeout=PATIENCE_S) as answer:
                    lines = answer.read().decode().splitlines()
                return any(line.startswith(counted) and float(line.split()[-1]) > 5 for line in lines)

            wait_until(exported, "the metric", PATIENCE_S)
            assert run.stop() == 0
        assert_balanced(run.end)
        assert run.end.totals.handshakes == 0
        assert run.end.not_read is not None
        frames = run.end.not_read["vxlan"]
        assert set(run.end.not_read) == {"vxlan"}
        assert frames == run.end.counters["not_read_vxlan"] > 5
        assert told(run.said).startswith(f"{NOT_READ}{frames} frames inside VXLAN. ")
        assert "the tunnel's own interface (vxlan0, say)" in told(run.said)
        assert any("packets seen: " in line and f"{frames} not read" in line for line in run.said)
        # as the sentence advises
        with tracing("any", "--json", "--netns", apart.client.name) as run:
            one = run.wait_port(web.exchange())
            assert run.stop() == 0
        assert one.interface == "vxlan7"
        assert run.end.not_read is not None
        assert run.end.not_read["vxlan"] > 5


FRAMES = {
    "gre": ethernet(ipv4(A, B, b"\0\0\x08\0" + INNER, protocol=47)),
    "geneve": ethernet(ipv4(A, B, udp(50000, 6081, bytes(60)), protocol=17)),
    "gtp": ethernet(ipv4(A, B, udp(2152, 2152, bytes(60)), protocol=17)),
    "ipip": ethernet(ipv4(A, B, INNER, protocol=4)),
    "mpls": ethernet(b"\0\1\1\x40" + INNER, kind=0x8847),
    "pppoe": ethernet(b"\x11\0\0\7\0\x2a\0\x21" + INNER, kind=0x8864),
    "vlan": ethernet(INNER, [10, 20, 30]),
    "sgt": ethernet(b"\1\1\0\1\0\7\x08\0" + INNER, [10], 0x8909),
}
OTHERS = [ethernet(ipv4(A, B, bytes(60), protocol=50)), ethernet(bytes(60), kind=0x8863)]


@pytest.mark.parametrize("hook", ["tc", "xdp"])
def test_every_kind_is_told_where_it_leaves_and_where_it_arrives(box: NetBox, hook: str) -> None:
    """Of a frame with three tags the kernel takes one out before tc sees it at the other end."""
    with tracing("left", "right", "--json", "--hook", hook, "--netns", box.path) as run:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("left", 0))
            for number, frame in enumerate(FRAMES.values(), 1):
                for _ in range(number):
                    sock.send(frame)
            for frame in OTHERS:
                sock.send(frame)
        assert run.stop() == 0
    expected = {kind: 2 * number for number, kind in enumerate(FRAMES, 1)}
    assert run.end.not_read == expected
    assert list(run.end.not_read) == sorted(expected, key=lambda kind: -expected[kind])
    assert told(run.said).startswith(
        f"{NOT_READ}16 frames inside Cisco SGT, 14 inside 3+ VLAN tags, 12 inside PPPoE, 10 inside MPLS, "
    )
    assert not [name for name, count in run.end.counters.items() if name.startswith("malformed_") and count]


# --- captures ---


def replayed(tmp_path: Path, content: bytes) -> tuple[End, Finished]:
    path = tmp_path / "trace.pcap"
    path.write_bytes(content)
    done = run("replay", str(path), "--json")
    assert done.code == 0, done
    end = decode(done.out.splitlines()[-1])
    assert isinstance(end, End)
    assert end.balance is not None
    return end, done


def test_a_replay_tells_what_it_did_not_read(tmp_path: Path) -> None:
    packets = [Packet(START_NS + number, INNER, (10, 20, 30)) for number in range(3)]
    end, done = replayed(tmp_path, pcap(EN10MB, [*handshake(), *packets]))
    assert (end.totals.handshakes, end.not_read) == (1, {"vlan": 3})
    assert told(done.said) == (
        f"{NOT_READ}3 frames inside 3+ VLAN tags. Handshakes in there are not among these: a replay reads "
        "into GRE, VXLAN, GENEVE and IP in IP, and into nothing else"
    )
    # the recording says it again, and so do two of them
    recorded = tmp_path / "events.jsonl"
    for times, frames in ((1, 3), (2, 6)):
        recorded.write_bytes(done.out * times)
        again = run("replay", str(recorded), "--json")
        last = decode(again.out.splitlines()[-1])
        assert isinstance(last, End)
        assert last.not_read == {"vlan": frames}
        assert told(again.said).startswith(f"{NOT_READ}{frames} frames inside 3+ VLAN tags. ")


def test_cooked_captures_tell_it_too(tmp_path: Path) -> None:
    end, _ = replayed(tmp_path, pcap(SLL, [Packet(START_NS, INNER, (10, 20, 30)), *handshake()]))
    assert (end.totals.handshakes, end.not_read) == (1, {"vlan": 1})


def test_a_capture_without_the_beginning_says_so(tmp_path: Path) -> None:
    _, synack, *rest = handshake()
    end, done = replayed(tmp_path, pcap(EN10MB, rest))
    assert (end.totals.handshakes, end.not_read) == (0, {})
    assert "tfotrace: 2 packets seen: 2 TCP without SYN" in done.said
    assert done.said[-2:] == [
        "tfotrace: the capture has no SYN: it began after the connections did, or was filtered",
        "tfotrace: nothing lost",
    ]
    _, done = replayed(tmp_path, pcap(EN10MB, [synack, *rest]))
    assert "tfotrace: 3 packets seen: 2 TCP without SYN, 1 SYN-ACK" in done.said


def test_a_capture_of_malformed_segments_says_so(tmp_path: Path) -> None:
    bad = bytearray(ipv4(A, B, tcp_header(40000, 443, 1000, 0, 2)))
    bad[32] = 0xF0  # data offset of 60 bytes
    too_long = bytearray(INNER)
    too_long[2:4] = b"\x05\xdc"
    packets = [Packet(START_NS + number, bytes(bad)) for number in range(3)]
    _, done = replayed(tmp_path, pcap(EN10MB, packets))
    assert "tfotrace: 3 packets seen: 3 malformed (a TCP data offset beyond the segment)" in done.said
    _, done = replayed(tmp_path, pcap(EN10MB, [*packets, Packet(START_NS + 9, bytes(too_long))]))
    assert "tfotrace: 4 packets seen: 4 malformed (mostly a TCP data offset beyond the segment)" in done.said


def test_a_capture_without_packets_says_so(tmp_path: Path) -> None:
    _, done = replayed(tmp_path, pcap(EN10MB, []))
    assert done.said[-2:] == ["tfotrace: no packet was read", "tfotrace: nothing lost"]


def test_every_packet_is_one_of_what_is_told(tmp_path: Path) -> None:
    """The parts add up to the packets, whatever there is."""
    frames = [*(frame[14:] for frame in (FRAMES["gtp"], FRAMES["gtp"], OTHERS[0])), handshake()[2].ip]
    end, done = replayed(tmp_path, pcap(EN10MB, [Packet(START_NS + at, ip) for at, ip in enumerate(frames)]))
    (line,) = (line for line in done.said if " packets seen: " in line)
    seen, _, parts = line.removeprefix("tfotrace: ").partition(" packets seen: ")
    counts: Counter[str] = Counter()
    for part in parts.split(", "):
        number, _, what = part.partition(" ")
        counts[what] += int(number)
    assert counts.total() == int(seen) == end.counters["packets"] == len(frames)
