"""A switch with a trunk: traffic with VLAN tags between two hosts that do not know about them."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.hosts import ADDRESSES, WIRE, Hosts, add_addresses
from tests.support.netbox import NetBox

TRUNK = ("left", "right")
_TAGS = {b"\x81\x00", b"\x88\xa8"}
_OUTGOING = 4  # PACKET_OUTGOING


class Switch:
    """Two ports and a trunk between them: it tags every frame on the way in and untags it on the way out.

    Not every kernel has 802.1Q devices. Frames with tags in them, as a sender without offload makes them, every
    kernel has; at the trunk's far end it moves the outer tag out of the packet before anybody looks.
    """

    def __init__(self, box: NetBox, tags: tuple[int, ...]) -> None:
        first = 0x88A8 if len(tags) == 2 else 0x8100
        kinds = (first, 0x8100)
        self._tagging = b"".join(
            struct.pack("!HH", kind, 5 << 13 | tag) for kind, tag in zip(kinds, tags, strict=False)
        )
        with box.inside():
            self._ports, self._trunk = [
                [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in range(2)] for _ in range(2)
            ]
            for sock, name in zip([*self._ports, *self._trunk], ("to-client", "to-server", *TRUNK), strict=True):
                sock.bind((name, 3))
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        roads = {port: (trunk, self._tagged) for port, trunk in zip(self._ports, self._trunk, strict=True)}
        roads |= {trunk: (port, self._bare) for port, trunk in zip(self._ports, self._trunk, strict=True)}
        waiting: list[socket.socket | int] = [*roads, self._stop]
        while self._stop not in (ready := select.select(waiting, [], [])[0]):
            for sock in (one for one in ready if isinstance(one, socket.socket)):
                frame, source = sock.recvfrom(65536)
                if source[2] != _OUTGOING:
                    out, change = roads[sock]
                    out.send(change(frame))

    def _tagged(self, frame: bytes) -> bytes:
        return frame[:12] + self._tagging + frame[12:]

    def _bare(self, frame: bytes) -> bytes:
        while frame[12:14] in _TAGS:
            frame = frame[:12] + frame[16:]
        return frame

    def close(self) -> None:
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)
        for sock in (*self._ports, *self._trunk):
            sock.close()


@contextmanager
def switched(hosts: Hosts, tags: tuple[int, ...]) -> Iterator[NetBox]:
    """The two hosts with a switch between them, in the namespace that this yields."""
    box = NetBox()
    try:
        box.make_pair(*TRUNK)
        for host, number, port in ((hosts.client, 0, "to-client"), (hosts.server, 1, "to-server")):
            host.run("ip", "link", "add", WIRE, "type", "veth", "peer", "name", port, "netns", box.name)
            host.run("ethtool", "-K", WIRE, "tx", "off")  # whoever copies a frame needs its checksum in it
            host.run("ip", "link", "set", WIRE, "up")
            box.run("ip", "link", "set", port, "up")
            add_addresses(host, WIRE, ADDRESSES[4][number], ADDRESSES[6][number])
        switch = Switch(box, tags)
        try:
            yield box
        finally:
            switch.close()
    finally:
        box.close()
