"""Every kind of place to trace: lo, VLANs, an L3 device, `any`, several interfaces, groups, other namespaces."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from tests.support.hosts import (
    ADDRESSES,
    ANSWER,
    REQUEST,
    WIRE,
    Hosts,
    add_addresses,
    service,
    two_hosts,
)
from tests.support.netbox import NetBox, wait_until
from tests.support.shark import comment_is_right, shark
from tests.support.switch import TRUNK, switched
from tests.support.tracing import Run, assert_balanced, tracing
from tracer.records.record import Handshake

pytestmark = pytest.mark.root

SECOND_WIRE = "second"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def ended_well(run: Run, handshakes: int) -> None:
    assert run.stop() == 0
    assert_balanced(run.end)
    assert run.end.totals.handshakes == len(run.handshakes) == handshakes


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_lo_sees_each_packet_once(apart: Hosts, address: str) -> None:
    box = apart.client
    with tracing("lo", "--json", "--netns", box.name) as run, service(box, box, address) as web:
        ports = [web.exchange(fast_open=True), web.exchange(fast_open=True), web.exchange()]
        records = [run.wait_port(port) for port in ports]
        ended_well(run, 3)
    assert [record.tfo.outcome for record in records] == ["cookie_granted", "data_acked", "not_attempted"]
    for record in records:
        timing = record.handshake
        assert (record.vantage, record.interface, record.vlan) == ("local", "lo", ())
        assert (timing.syn_count, timing.synack_count, timing.late_syns, timing.result) == (1, 1, 0, "established")
        assert (record.client.ip, record.server.ip) == ("::1" if ":" in address else "127.0.0.1", address)


@pytest.mark.parametrize(("version", "tags"), [(4, (10,)), (6, (4095,)), (4, (100, 10)), (6, (1, 4095))])
def test_a_trunk_shows_its_tags(apart: Hosts, tags: tuple[int, ...], version: int) -> None:
    with (
        switched(apart, tags) as box,
        tracing(*TRUNK, "--json", "-w", "{folder}/f.pcapng", "--netns", box.name) as trunk,
        tracing(WIRE, "--json", "--netns", apart.client.name) as at_client,
        service(apart.client, apart.server, ADDRESSES[version][1]) as web,
    ):
        ports = [web.exchange(fast_open=True), web.exchange(fast_open=True)]
        seen = [[trunk.wait_port(port, end) for end in TRUNK] + [at_client.wait_port(port)] for port in ports]
        ended_well(trunk, 4)
        ended_well(at_client, 2)
        rows = shark(trunk.folder / "f.pcapng", "frame.protocols", "vlan.id", "frame.interface_name", "frame.comment")
    # a tag that the kernel had taken out of the frame is back in it
    assert len(rows) == 16
    assert {row["vlan.id"] for row in rows} == {str(tags[-1])}
    layers = "eth:ethertype:" + "ieee8021ad:ethertype:" * (len(tags) - 1) + "vlan:"
    assert all(row["frame.protocols"].startswith(layers) for row in rows)
    assert {row["frame.interface_name"] for row in rows} == set(TRUNK)
    assert sum(bool(row["frame.comment"]) for row in rows) == 4
    for left, right, bare in seen:
        assert (left.vlan, right.vlan, bare.vlan) == (tags, tags, ())
        assert (left.vantage, right.vantage, bare.vantage) == ("transit", "transit", "client")
        for tagged in (left, right):
            assert tagged.handshake.result == "established"
            assert (tagged.id, tagged.tfo.outcome, tagged.syn) == (bare.id, bare.tfo.outcome, bare.syn)
            delays = tagged.handshake.synack_delay_us, tagged.handshake.ack_delay_us
            assert None not in delays
            assert tagged.handshake.rtt_us == pytest.approx(sum(filter(None, delays)), abs=0.01)
    assert seen[1][0].tfo.outcome == "data_acked"


# --- a device whose packets begin with the IP header ---

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 1, 0x1000
_SYN, _ACK, _PUSH = 2, 16, 8


class Tun:
    """A tun device, and the test as the host behind it, speaking IP by hand."""

    name = "tun-test"

    def __init__(self, box: NetBox) -> None:
        with box.inside():
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self.fd, _TUNSETIFF, struct.pack("16sH22x", self.name.encode(), _IFF_TUN | _IFF_NO_PI))

    def send(self, packet: Packet) -> None:
        os.write(self.fd, bytes(packet))

    def receive(self, match: Callable[[Packet], bool]) -> Packet:
        """The first packet of the host that matches."""
        while select.select([self.fd], [], [], 30)[0]:
            data = os.read(self.fd, 65536)
            packet = (IP if data[0] >> 4 == 4 else IPv6)(data)
            if TCP in packet and match(packet[TCP]):
                return packet[TCP]
        raise AssertionError("the host did not answer")


@contextmanager
def tun(box: NetBox) -> Iterator[Tun]:
    device = Tun(box)
    try:
        add_addresses(box, device.name, ADDRESSES[4][1], ADDRESSES[6][1])
        box.run("ip", "link", "set", device.name, "up")
        yield device
    finally:
        os.close(device.fd)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("hook", ["tc", "xdp-generic"])
def test_a_tun_device_has_no_link_header(apart: Hosts, version: int, hook: str) -> None:
    box = apart.server
    peer, here = ADDRESSES[version]
    with (
        tun(box) as device,
        tracing(device.name, "--json", "-w", "{folder}/f.pcapng", "--hook", hook, "--netns", box.name) as run,
        service(box, box, here) as web,
    ):
        ip = IP(src=peer, dst=here) if version == 4 else IPv6(src=peer, dst=here)
        ends = {"sport": 40001, "dport": web.address[1]}
        device.send(
            ip / TCP(**ends, flags="S", seq=1000, options=[("MSS", 1400), (34, b""), ("NOP", None), ("NOP", None)])
        )
        synack = device.receive(lambda tcp: int(tcp.flags) & (_SYN | _ACK) == _SYN | _ACK)
        device.send(ip / TCP(**ends, flags="A", seq=1001, ack=synack.seq + 1))
        device.send(ip / TCP(**ends, flags="PA", seq=1001, ack=synack.seq + 1) / REQUEST)
        server, _ = web.listener.accept()
        with server:
            assert server.recv(len(REQUEST)) == REQUEST
            server.sendall(ANSWER)
            device.receive(lambda tcp: bytes(tcp.payload) == ANSWER)
            record = run.wait_port(40001)
        ended_well(run, 1)
        rows = shark(run.folder / "f.pcapng", "frame.encap_type", "frame.comment", "tcp.port")
    assert [row["frame.encap_type"] for row in rows] == ["7"] * 4  # WTAP_ENCAP_RAW_IP
    comment_is_right(rows[0]["frame.comment"], record)
    assert (record.tfo.request, record.tfo.outcome) == ("cookie_request", "cookie_granted")
    assert (record.handshake.result, record.vantage) == ("established", "server")
    assert (record.syn.mss, record.syn.options, record.syn.seq) == (1400, ("mss", "tfo", "nop", "nop"), 1000)
    assert record.handshake.rtt_us is not None
    assert record.synack is not None
    assert record.synack.seq == synack.seq


# --- `any`, several interfaces, names ---


def test_any_follows_interfaces_that_appear_and_vanish(apart: Hosts) -> None:
    with tracing("any", "--json", "--netns", apart.client.name) as run:
        assert [one.name for one in run.start.interfaces] == ["lo"]
        apart.join("late")
        notice = run.wait_notice("interface_added")
        assert notice.interface == "late"
        with service(apart.client, apart.server) as web:
            record = run.wait_port(web.exchange(fast_open=True))
        assert (record.interface, record.vantage, record.tfo.outcome) == ("late", "client", "cookie_granted")
        apart.client.run("ip", "link", "del", "late")
        notice = run.wait_notice("interface_gone")
        assert notice.interface == "late"
        with service(apart.client, apart.client, "127.0.0.1") as web:  # what is left is traced as before
            assert run.wait_port(web.exchange()).interface == "lo"
        apart.join("later", addressed=False)
        run.wait_for(lambda one: getattr(one, "interface", None) == "later", "a notice of the next interface")
        ended_well(run, 2)
    assert any("late has appeared" in line for line in run.said)


def test_any_survives_the_loss_of_every_interface(apart: Hosts) -> None:
    apart.client.run("ip", "link", "set", "lo", "down")
    apart.join("only", addressed=False)
    with tracing("any", "--json", "--netns", apart.client.name) as run:
        apart.client.run("ip", "link", "del", "only")
        run.wait_notice("interface_gone")
        apart.join("next")
        run.wait_notice("interface_added")
        with service(apart.client, apart.server) as web:
            assert run.wait_port(web.exchange()).interface == "next"
        ended_well(run, 1)


@pytest.fixture
def two_wires(hosts: Hosts) -> Hosts:
    """A second wire between the two, with other addresses."""
    hosts.join(SECOND_WIRE, addressed=False)
    for box, number in ((hosts.client, 1), (hosts.server, 2)):
        add_addresses(box, SECOND_WIRE, f"10.98.0.{number}", f"fd00:98::{number}")
    return hosts


def test_two_interfaces_are_traced_side_by_side(two_wires: Hosts) -> None:
    hosts = two_wires
    with tracing(WIRE, SECOND_WIRE, "--json", "--netns", hosts.client.name) as run:
        for interface, address in ((WIRE, "10.99.0.2"), (SECOND_WIRE, "10.98.0.2"), (SECOND_WIRE, "fd00:98::2")):
            with service(hosts.client, hosts.server, address) as web:
                record = run.wait_port(web.exchange(fast_open=True))
            assert (record.interface, record.server.ip, record.tfo.outcome) == (interface, address, "cookie_granted")
        ended_well(run, 3)
        assert {one.name for one in run.start.interfaces} == {WIRE, SECOND_WIRE}
        assert len({one.group for one in run.start.interfaces}) == 2


@dataclass(frozen=True)
class Asymmetric:
    """SYNs leave through WIRE, SYN-ACKs come back through SECOND_WIRE."""

    hosts: Hosts
    client = "10.97.0.1"
    server = "10.97.1.1"


@pytest.fixture
def asymmetric(two_wires: Hosts) -> Asymmetric:
    roads = Asymmetric(two_wires)
    client, server = two_wires.client, two_wires.server
    for box, own in ((client, roads.client), (server, roads.server)):
        box.run("ip", "address", "add", f"{own}/32", "dev", "lo")
    client.run("ip", "route", "add", roads.server, "via", "10.99.0.2", "dev", WIRE, "src", roads.client)
    server.run("ip", "route", "add", roads.client, "via", "10.98.0.1", "dev", SECOND_WIRE, "src", roads.server)
    return roads


def asymmetric_exchanges(roads: Asymmetric, run: Run, interface: str) -> list[Handshake]:
    client, server = roads.hosts.client, roads.hosts.server
    with service(client, server, roads.server) as web:
        ports = [web.exchange(fast_open, source=roads.client) for fast_open in (True, True, False)]
    return [run.wait_port(port, interface) for port in ports]


def test_a_group_pairs_what_comes_and_goes_by_different_roads(asymmetric: Asymmetric) -> None:
    with tracing(f"{WIRE}+{SECOND_WIRE}", "--json", "--netns", asymmetric.hosts.client.name) as run:
        records = asymmetric_exchanges(asymmetric, run, WIRE)
        ended_well(run, 3)
        assert len({one.group for one in run.start.interfaces}) == 1
        assert len(run.start.interfaces) == 2
    assert [record.tfo.outcome for record in records] == ["cookie_granted", "data_acked", "not_attempted"]
    for record in records:
        timing = record.handshake
        assert (timing.result, timing.syn_count, timing.synack_count) == ("established", 1, 1)
        assert record.synack is not None
        assert record.handshake.rtt_us is not None
    assert run.end.counters["synack_unmatched"] == 0


def test_without_a_group_each_road_is_judged_alone(asymmetric: Asymmetric) -> None:
    with tracing(WIRE, SECOND_WIRE, "--json", "--netns", asymmetric.hosts.client.name) as run:
        # nothing of the server comes past this interface, so only the client's FIN or time can settle
        records = asymmetric_exchanges(asymmetric, run, WIRE)
        ended_well(run, 3)
    assert run.end.counters["synack_unmatched"] == 3
    for record in records:
        assert (record.synack, record.handshake.synack_count, record.handshake.rtt_us) == (None, 0, None)
    # what was asked is known, what came of it is not
    assert [record.tfo.request for record in records] == ["cookie_request", "cookie_and_data", "none"]
    assert [record.tfo.outcome for record in records] == [None, None, "not_attempted"]


@pytest.mark.parametrize("how", ["name", "path", "pid"])
def test_a_namespace_by_name_path_or_process(hosts: Hosts, how: str) -> None:
    box = hosts.client
    lives_there = subprocess.Popen(box.command("sleep", "1000"))
    try:
        inode = os.stat(box.path).st_ino
        wait_until(lambda: os.stat(f"/proc/{lives_there.pid}/ns/net").st_ino == inode, "the process to be there")
        where = {"name": box.name, "path": box.path, "pid": f"pid:{lives_there.pid}"}[how]
        with tracing(WIRE, "--json", "--netns", where) as run, service(box, hosts.server) as web:
            record = run.wait_port(web.exchange())
            assert (record.vantage, record.interface) == ("client", WIRE)
            ended_well(run, 1)
    finally:
        lives_there.kill()
        lives_there.wait()


@pytest.mark.parametrize("name", ["demo", "doctor", "a+b"])
def test_an_interface_may_be_named_like_a_command_or_a_group(apart: Hosts, name: str) -> None:
    apart.join(name)
    with tracing("-i", name, "--json", "--netns", apart.client.name) as run, service(apart.client, apart.server) as web:
        assert run.wait_port(web.exchange()).interface == name
        ended_well(run, 1)


def test_a_renamed_interface_is_followed_by_its_new_name(hosts: Hosts) -> None:
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run, service(hosts.client, hosts.server) as web:
        hosts.client.run("ip", "link", "set", WIRE, "down")
        run.wait_notice("interface_down")
        hosts.client.run("ip", "link", "set", WIRE, "name", "renamed")
        run.wait_notice("interface_renamed")
        hosts.client.run("ip", "link", "set", "renamed", "up")
        run.wait_notice("interface_up")
        assert run.wait_port(web.exchange()).interface == "renamed"
        ended_well(run, 1)


def test_the_last_interface_to_vanish_ends_the_run(hosts: Hosts) -> None:
    with tracing(WIRE, "--json", "--netns", hosts.client.name) as run:
        hosts.client.run("ip", "link", "del", WIRE)
        assert run.wait_end() == 4
        kinds = [notice.kind for notice in run.notices]
        assert kinds[-1] == "interface_gone"  # before it, perhaps, that it is down
        assert run.end.exit_code == 4
        assert_balanced(run.end)
        assert "tfotrace: the last traced interface has gone" in run.said


def test_another_interface_that_is_left_goes_on(two_wires: Hosts) -> None:
    hosts = two_wires
    with tracing(WIRE, SECOND_WIRE, "--json", "--netns", hosts.client.name) as run:
        hosts.client.run("ip", "link", "del", WIRE)
        run.wait_notice("interface_gone")
        with service(hosts.client, hosts.server, "10.98.0.2") as web:
            assert run.wait_port(web.exchange(fast_open=True)).interface == SECOND_WIRE
        ended_well(run, 1)
