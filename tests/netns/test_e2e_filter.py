"""--filter with real traffic: it judges the first SYN and selects whole handshakes, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import ADDRESSES, WIRE, Hosts, service, two_hosts
from tests.support.switch import TRUNK, switched
from tests.support.syns import DLT_EN10MB, DLT_RAW, FIRST_PORT, frames, tcpdump_selects, write_capture
from tests.support.tracing import Run, assert_balanced, decode, run, tracing
from tracer.records.record import Handshake
from tracer.records.run import End

pytestmark = pytest.mark.root


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def is_whole(record: Handshake) -> bool:
    """Every packet of it was seen, those that do not match the expression too."""
    timing = record.handshake
    times = (timing.synack_delay_us, timing.ack_delay_us, timing.first_response_us)
    return timing.result == "established" and record.synack is not None and None not in times


def ended_with(tracer: Run, handshakes: int, filtered: int) -> None:
    assert tracer.stop() == 0
    assert_balanced(tracer.end)
    assert tracer.end.totals.handshakes == len(tracer.handshakes) == tracer.end.balance.opened == handshakes
    assert tracer.end.counters["filtered"] == filtered


TO_PORT = "src host {client} and dst port {port}"
FLAGS = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst port {port}"
BUT = "not dst port {other} and len > 60"


@pytest.mark.parametrize(
    ("expression", "version", "end", "hook"),
    [
        (TO_PORT, 4, "client", "tc"), (TO_PORT, 6, "server", "tc"), (TO_PORT, 6, "server", "xdp-native"),
        (FLAGS, 4, "server", "tc"), (BUT, 6, "client", "tc"), (BUT, 4, "server", "xdp-native"),
    ],
)  # fmt: skip
def test_what_is_selected_is_whole(hosts: Hosts, expression: str, version: int, end: str, hook: str) -> None:
    client, server = ADDRESSES[version]
    box = hosts.client if end == "client" else hosts.server
    with service(hosts.client, hosts.server, server) as web, service(hosts.client, hosts.server, server) as other:
        wanted = web.address[1]
        text = expression.format(client=client, port=wanted, other=other.address[1])
        with tracing(WIRE, "--json", "--hook", hook, "--netns", box.name, "--filter", text) as tracer:
            for one in (other, other):
                one.exchange()
            ports = [web.exchange(fast_open=True), web.exchange(fast_open=True), web.exchange()]
            records = [tracer.wait_port(port) for port in ports]
            ended_with(tracer, 3, 2)
    assert [record.tfo.outcome for record in records] == ["cookie_granted", "data_acked", "not_attempted"]
    assert all(is_whole(record) and record.server.port == wanted for record in records)
    assert any("2 SYNs did not match --filter" in line for line in tracer.said)


@pytest.mark.parametrize(
    ("expression", "selects"),
    [("vlan 10 and tcp dst port {port}", True), ("vlan 11", False), ("tcp dst port {port}", False), ("vlan", True)],
)
def test_a_tag_is_part_of_the_packet_wherever_it_lies(apart: Hosts, expression: str, selects: bool) -> None:
    """At the trunk's near end it is in the packet, at the far end it was moved out of it."""
    with (
        switched(apart, (10,)) as box,
        service(apart.client, apart.server) as web,
        tracing(*TRUNK, "--json", "--netns", box.name,
                "--filter", expression.format(port=web.address[1])) as tracer,
    ):  # fmt: skip
        port = web.exchange()
        records = [tracer.wait_port(port, name) for name in TRUNK] if selects else []
        ended_with(tracer, 2 * selects, 2 * (not selects))
    assert all(is_whole(record) and record.vlan == (10,) for record in records)


def test_an_expression_that_needs_a_link_header_is_refused_where_there_is_none(apart: Hosts) -> None:
    box = apart.client
    box.run("ip", "tuntap", "add", "dev", "bare", "mode", "tun")
    box.run("ip", "link", "set", "bare", "up")
    words = ("bare", "--json", "--netns", box.name, "--filter")
    done = run(*words, "ether host 02:00:00:00:00:01")
    assert (done.code, done.out, len(done.said)) == (2, b"", 1)
    assert "bare, which has no Ethernet header" in done.err
    assert run(*words, "tcp dst port 443", "--duration", "0.1").code == 0
    with tracing("any", *words[1:], "ether host 02:00:00:00:00:01") as tracer:
        assert [one.name for one in tracer.start.interfaces] == ["lo"]
        assert tracer.stop() == 0


def test_the_demo_can_be_filtered() -> None:
    with tracing("demo", "--json", "--filter", "tcp dst port 443", "--count", "8") as tracer:
        assert tracer.wait_end() == 0
    assert {record.server.port for record in tracer.handshakes} == {443}
    assert len(tracer.handshakes) == 8


@pytest.mark.parametrize(("link", "snaplen"), [(DLT_EN10MB, 262144), (DLT_EN10MB, 140), (DLT_RAW, 262144)])
def test_a_replay_selects_what_tcpdump_selects(tmp_path: Path, link: int, snaplen: int) -> None:
    syns = dict(enumerate(frames(1, 100)))
    if link == DLT_RAW:
        syns = {number: frame[14:] for number, frame in syns.items() if frame[12:14] in (b"\x08\x00", b"\x86\xdd")}
    capture = tmp_path / "syns.pcap"
    write_capture(capture, list(syns.values()), link, snaplen)
    for text in ("len > 80 and not dst port 443", "ip6 or src net 10.0.0.0/8"):
        done = run("replay", str(capture), "--json", "--filter", text)
        assert done.code == 0, done
        records = [decode(line) for line in done.out.splitlines()]
        found = {record.client.port - FIRST_PORT for record in records if isinstance(record, Handshake)}
        numbers = list(syns)
        assert found == {numbers[at] for at in tcpdump_selects(capture, text) or ()}
        end = records[-1]
        assert isinstance(end, End)
        assert_balanced(end)
        assert end.counters["filtered"] == len(syns) - len(found)
        assert 0 < len(found) < len(syns)
    refused = run("replay", str(capture), "--json", "--filter", "ether host 02:00:00:00:00:01")
    assert refused.code == (2 if link == DLT_RAW else 0), refused


def test_recorded_events_have_no_packets_to_ask(tmp_path: Path) -> None:
    recorded = tmp_path / "events.jsonl"
    recorded.write_bytes(b'{"event":"start"}\n')
    done = run("replay", str(recorded), "--json", "--filter", "tcp")
    assert (done.code, done.out, len(done.said)) == (2, b"", 1)
    assert "--filter-record" in done.err
