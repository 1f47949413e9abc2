"""A monitor at the router: mirror ports on which packets come once, twice, with tags, or in another order."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.netbox import NetBox
from tests.support.places import Place
from tests.support.routed import TO_CLIENT, TO_FIRST, Routed
from tests.support.stage import CLIENT_IPS

# What is mirrored there, by the router's interface. "routed": before and after routing, so with two TTLs.
MIRRORS = {"once": (TO_CLIENT,), "twice": (TO_CLIENT, TO_CLIENT), "routed": (TO_CLIENT, TO_FIRST)}
TO_SERVER_TAG, TO_CLIENT_TAG = 10, 20
# Tags of what goes to the server, and of what goes to the client: a mirror port that says the direction, and a router
# on a stick, through whose one interface each packet goes twice.
TAGGED = {
    "tagged": ((TO_SERVER_TAG,), (TO_CLIENT_TAG,)),
    "stick": ((TO_SERVER_TAG, TO_CLIENT_TAG), (TO_CLIENT_TAG, TO_SERVER_TAG)),
}
OVERTAKING = ("ack-first", "synack-first")  # the client's ACK before the SYN-ACK, the SYN-ACK before its SYN
_CLIENTS = (socket.inet_aton(CLIENT_IPS[4]), socket.inet_pton(socket.AF_INET6, CLIENT_IPS[6]))
_IP = (b"\x08\x00", b"\x86\xdd")
_SYN, _ACK = 0x02, 0x10
_OUTGOING = 4  # PACKET_OUTGOING
_ALL = 3  # ETH_P_ALL


@dataclass(frozen=True)
class _Frame:
    """What decides where a frame goes."""

    data: bytes
    to_server: bool
    ports: frozenset[bytes]
    flags: int

    @classmethod
    def of(cls, data: bytes) -> _Frame:
        is_ipv4 = data[12:14] == b"\x08\x00"
        sender, tcp = (data[26:30], data[34:]) if is_ipv4 else (data[22:38], data[54:])
        return cls(data, sender in _CLIENTS, frozenset((tcp[0:2], tcp[2:4])), tcp[13] & 0x12 if len(tcp) > 13 else 0)

    def tagged(self, tag: int) -> bytes:
        return self.data[:12] + struct.pack("!HH", 0x8100, tag) + self.data[12:]


class _Overtaking:
    """Holds back a frame of one kind, and lets the next of its connection pass if that is of another kind."""

    def __init__(self, slow: int, fast: int) -> None:
        self._slow, self._fast = slow, fast
        self._held: dict[frozenset[bytes], _Frame] = {}

    def send(self, frame: _Frame) -> list[bytes]:
        held = self._held.pop(frame.ports, None)
        if held is not None and frame.flags == self._fast:
            return [frame.data, held.data]
        before = [] if held is None else [held.data]
        if frame.flags == self._slow:
            self._held[frame.ports] = frame
            return before
        return [*before, frame.data]


class Relay:
    """Sends what comes from the first mirror port on to the others. Not every kernel has act_vlan."""

    def __init__(self, box: NetBox) -> None:
        names = [*TAGGED, *OVERTAKING]
        with box.inside():
            self._source, *ports = (
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL)) for _ in range(1 + len(names))
            )
        self._source.bind(("once", _ALL))
        self._ports = dict(zip(names, ports, strict=True))
        for name, sock in self._ports.items():
            sock.bind((f"{name}-in", _ALL))
        self._overtaking = dict(
            zip(OVERTAKING, (_Overtaking(_SYN | _ACK, _ACK), _Overtaking(_SYN, _SYN | _ACK)), strict=True)
        )
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        waiting: list[socket.socket | int] = [self._source, self._stop]
        while self._stop not in select.select(waiting, [], [])[0]:
            data, source = self._source.recvfrom(65536)
            if source[2] == _OUTGOING or data[12:14] not in _IP:
                continue
            frame = _Frame.of(data)
            for name, tags in TAGGED.items():
                for tag in tags[0] if frame.to_server else tags[1]:
                    self._ports[name].send(frame.tagged(tag))
            for name, overtaking in self._overtaking.items():
                for each in overtaking.send(frame):
                    self._ports[name].send(each)

    def close(self) -> None:
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)
        for sock in (self._source, *self._ports.values()):
            sock.close()


@contextmanager
def mirrored(hosts: Routed, folder: Path) -> Iterator[list[Place]]:
    """The monitor's interfaces, while the router mirrors to it."""
    box = NetBox()
    try:
        for name in MIRRORS:
            hosts.router.run("ip", "link", "add", f"m-{name}", "type", "veth", "peer", "name", name, "netns", box.name)
            hosts.router.run("ip", "link", "set", f"m-{name}", "up")
            box.run("ip", "link", "set", name, "up")
        for name in (*TAGGED, *OVERTAKING):
            box.make_pair(f"{name}-in", name)
        for source in (TO_CLIENT, TO_FIRST):
            ports = [f"m-{name}" for name, sources in MIRRORS.items() for one in sources if one == source]
            actions = [word for port in ports for word in ("action", "mirred", "egress", "mirror", "dev", port)]
            hosts.router.run("tc", "qdisc", "add", "dev", source, "clsact")
            for hook in ("ingress", "egress"):
                match = ("protocol", "all", "u32", "match", "u32", "0", "0")
                hosts.router.run("tc", "filter", "add", "dev", source, hook, *match, *actions)
        relay = Relay(box)
        try:
            yield [Place(name, box, name, folder / f"{name}.pcap") for name in (*MIRRORS, *TAGGED, *OVERTAKING)]
        finally:
            relay.close()
    finally:
        box.close()
