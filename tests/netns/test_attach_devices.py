"""Loopback, tun, interfaces that cannot be traced, and those that vanish."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hooks import BY_DEFAULT, FRAMES, Own
from tests.support.netbox import NetBox
from tests.support.patience import SHORT_S
from tracer.attach.attach import Hook, HookChoice, InterfaceGoneError, attach
from tracer.attach.instances import Instance
from tracer.errors import CannotTraceError
from tracer.linux import interfaces

pytestmark = pytest.mark.root

TC_CHOICES = [HookChoice.AUTO, HookChoice.CLSACT]


@pytest.mark.parametrize(
    ("choice", "hook"),
    [
        (HookChoice.AUTO, BY_DEFAULT),
        (HookChoice.CLSACT, Hook.CLSACT),
        (HookChoice.XDP, Hook.XDP_GENERIC),
        (HookChoice.XDP_GENERIC, Hook.XDP_GENERIC),
        (HookChoice.XDP_NATIVE, BY_DEFAULT),
    ],
)
def test_loopback_sees_each_packet_once(
    box: NetBox, own: Own, instance: Instance, choice: HookChoice, hook: Hook
) -> None:
    box.run("ip", "link", "set", "lo", "up")
    attachment = attach(interfaces.find("lo"), own.programs, choice, instance)
    assert attachment.hook is hook
    assert "loopback" in attachment.why
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(SHORT_S)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(FRAMES):
                sender.sendto(b"x", receiver.getsockname())
                receiver.recv(1)
    counter = own.xdp if hook is Hook.XDP_GENERIC else own.egress
    assert counter.count == FRAMES
    assert own.xdp.count + own.ingress.count + own.egress.count == FRAMES
    attachment.detach()


@contextmanager
def tun(box: NetBox) -> Iterator[int]:
    fd = os.open("/dev/net/tun", os.O_RDWR)
    try:
        import fcntl

        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH14x", b"tun0", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        box.run("ip", "addr", "add", "10.99.0.1/24", "dev", "tun0")
        box.run("ip", "link", "set", "tun0", "up")
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("choice", "hook"),
    [(HookChoice.AUTO, BY_DEFAULT), (HookChoice.CLSACT, Hook.CLSACT), (HookChoice.XDP_GENERIC, None)],
)
def test_tun_has_no_ethernet_header_and_is_traced(
    box: NetBox, own: Own, instance: Instance, choice: HookChoice, hook: Hook | None
) -> None:
    with tun(box) as fd:
        link = interfaces.find("tun0")
        assert not link.has_ethernet_header
        assert (link.is_loopback, link.untraceable, link.arp_type) == (False, None, 0xFFFE)  # ARPHRD_NONE
        attachment = attach(link, own.programs, choice, instance)
        ingress = own.xdp if attachment.hook is Hook.XDP_GENERIC else own.ingress
        assert attachment.hook is (hook or Hook.XDP_GENERIC)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("10.99.0.1", 0))
            sock.settimeout(SHORT_S)
            for _ in range(FRAMES):
                sock.sendto(b"out", ("10.99.0.2", 9))
            udp = struct.pack("!HHHH", 9, sock.getsockname()[1], 9, 0) + b"x"
            head = (
                bytes.fromhex("450000000001000040110000")
                + socket.inet_aton("10.99.0.2")
                + socket.inet_aton("10.99.0.1")
            )
            packet = bytearray(head[:2] + struct.pack("!H", 29) + head[4:] + udp)
            total = sum(struct.unpack("!10H", packet[:20]))
            packet[10:12] = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
            os.write(fd, packet)
            assert sock.recv(9) == b"x"
        assert (ingress.count, own.egress.count) == (1, FRAMES)
        attachment.detach()


def test_an_interface_without_ethernet_or_ip_is_refused_in_a_sentence(own: Own) -> None:
    can = interfaces.Interface(5, "can0", 280, True)
    with pytest.raises(CannotTraceError, match="can0 carries CAN bus frames"):
        attach(can, own.programs, HookChoice.AUTO)


@pytest.mark.parametrize("choice", [*TC_CHOICES, HookChoice.XDP, HookChoice.XDP_GENERIC])
def test_the_interface_deleted_while_attached(box: NetBox, own: Own, tmp_path: Path, choice: HookChoice) -> None:
    instance = Instance(tmp_path)
    left = interfaces.find("left")
    attachment = attach(left, own.programs, choice, instance)
    box.run("ip", "link", "del", "left")
    assert not attachment.is_intact()
    attachment.look_again()
    attachment.detach()
    attachment.detach()
    instance.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InterfaceGoneError, match="left went away"):
        attach(left, own.programs, choice)
