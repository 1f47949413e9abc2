"""Headers and options outside the linear part of the skb are still read.

A packet socket with a virtio header sets how much of a large frame is linear (packet_alloc_skb in af_packet.c).
"""

from __future__ import annotations

import socket
import struct

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from tests.support.netbox import NetBox
from tests.support.tracing import assert_balanced, tracing

PACKET_VNET_HDR = 15
SOL_PACKET = 263
PAYLOAD = bytes(range(256)) * 20  # 5,120 bytes: frames below one page are always linear
OPTIONS = [("MSS", 8960), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 9)]
NAMES = ("mss", "sack_permitted", "timestamps", "nop", "wscale")


def send_linear(interface: str, frame: bytes, linear: int) -> None:
    """Send `frame` so that only its first `linear` bytes are in the linear part."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sock.bind((interface, 0))
        # struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
        sock.send(struct.pack("=BBHHHH", 0, 0, linear, 0, 0, 0) + frame)


def syn(port: int, version: int) -> bytes:
    ip = IP(src="192.0.2.1", dst="192.0.2.2") if version == 4 else IPv6(src="2001:db8::1", dst="2001:db8::2")
    segment = TCP(sport=port, dport=443, seq=1000, flags="S", options=OPTIONS)
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / ip / segment / PAYLOAD)


LINEAR = (14, 20, 40, 54, 60, 74, 80, 5000)


def test_everything_is_read(box: NetBox) -> None:
    """Sent on "left": egress there, ingress on "right"."""
    for name in ("left", "right"):
        box.run("ip", "link", "set", name, "mtu", "9000")
    with tracing("left", "right", "--json", "--netns", box.path) as run:
        for version in (4, 6):
            for linear in LINEAR:
                send_linear("left", syn(version * 10_000 + linear, version), linear)
        assert run.stop() == 0
        expected = {
            (side, version * 10_000 + linear) for side in ("left", "right") for version in (4, 6) for linear in LINEAR
        }
        assert {(one.interface, one.client.port) for one in run.handshakes} == expected
        for record in run.handshakes:
            assert record.syn.payload_len == len(PAYLOAD)
            assert record.syn.options == NAMES
            assert (record.syn.mss, record.syn.wscale, record.syn.ts_val) == (8960, 9, 7)
            assert record.payload is not None
            assert record.payload.captured
        assert_balanced(run.end)
        assert run.end.counters["payloads"] == len(expected)
        assert not {name: n for name, n in run.end.counters.items() if name.startswith("malformed_") and n}


def test_a_tunnel_is_told_by_ports_that_are_not_linear(box: NetBox) -> None:
    """The same for UDP, which is counted by its port, and once at each side."""
    for name in ("left", "right"):
        box.run("ip", "link", "set", name, "mtu", "9000")
    ports = {4789: "vxlan", 6081: "geneve", 443: None}
    with tracing("left", "right", "--json", "--netns", box.path) as run:
        for version in (4, 6):
            ip = IP(src="192.0.2.1", dst="192.0.2.2") if version == 4 else IPv6(src="2001:db8::1", dst="2001:db8::2")
            for port in ports:
                frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / ip / UDP(dport=port) / PAYLOAD
                for linear in LINEAR:
                    send_linear("left", bytes(frame), linear)
        assert run.stop() == 0
    sent = 2 * 2 * len(LINEAR)
    counters = run.end.counters
    assert (counters["not_read_vxlan"], counters["not_read_geneve"]) == (sent, sent)
    assert counters["not_tcp"] >= sent  # and what the kernel sends by itself
    assert not {name: n for name, n in counters.items() if name.startswith("malformed_") and n}
