"""Handshakes at a steady rate without hosts: bench/replay.c sends the frames of both ends on an interface.

At 20,000 handshakes per second two real TCP stacks take a whole small machine and disturb the measurement. Here the
kernel only sends prepared frames through the interface's egress hook, and all of tfotrace runs as usual.
"""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.common import ROOT
from tests.support.load import Host, client_hello
from tests.support.packets import Flow, address, option, padded

SOURCE = ROOT / "bench" / "replay.c"
PROGRAM = ROOT / "bench" / "build" / "replay"
TICK_US = 2000
ROUND_TICKS = 500  # a second
_ENTRY = struct.Struct("=IHHHH")
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
IP, TCP = 14, 34  # offsets in an untagged IPv4 frame
STEP = 104729  # as in replay.c

LOCAL_SERVERS, REMOTE_SERVERS, CLIENTS, NAMES = 10, 300, 8000, 1500
_SYN_OPTIONS = (
    option(2, b"\x05\xb4") + option(4) + option(8, bytes(8)) + b"\x01" + option(3, b"\x07"),
    option(2, b"\x05\xb4") + b"\x01" + option(3, b"\x08") + b"\x01\x01" + option(4),
    option(2, b"\x05\x6e") + option(4) + option(8, bytes(8)) + b"\x01" + option(3, b"\x06"),
    option(2, b"\x05\x78") + b"\x01" + option(3, b"\x06") + b"\x01\x01" + option(8, bytes(8)) + option(4),
)


@dataclass(slots=True)
class _Script:
    """A script of frames with their times."""

    random: random.Random
    frames: list[tuple[int, int, bytes]] = field(default_factory=list)

    def add(self, tick: int, frame: bytes, port_at: int, number_at: int, first: bool = False) -> None:
        """Add a frame. One that is sent in the next round belongs to the connection of the round before."""
        if tick >= ROUND_TICKS:
            changed = bytearray(frame)
            port, number = (
                struct.unpack_from("!H", changed, port_at)[0],
                struct.unpack_from("!I", changed, number_at)[0],
            )
            struct.pack_into("!H", changed, port_at, port - 1)
            struct.pack_into("!I", changed, number_at, (number - STEP) & 0xFFFFFFFF)
            frame = bytes(changed)
        head = _ENTRY.pack(tick % ROUND_TICKS, len(frame), port_at, number_at, first)
        self.frames.append((tick % ROUND_TICKS, len(self.frames), head + padded(frame, b"\0")))

    def handshake(self, tick: int, client: bytes, server: bytes, name: str) -> None:
        """Add one connection: half of them use Fast Open, most of these successfully."""
        r = self.random
        flow = Flow(client, server, r.randint(2000, 65000), 443)
        isn, other = r.getrandbits(32), r.getrandbits(32)
        trip = 1 + server[15] % 12 + r.randrange(3)  # ticks
        kind = r.choices(("normal", "asks", "accepted", "not acked", "refused"), (45, 5, 40, 8, 2))[0]
        options, payload = r.choice(_SYN_OPTIONS), b""
        if kind in ("accepted", "not acked"):
            payload = _hello(name)
            options += option(34, server[12:16] + client[12:16])
        elif kind == "asks":
            options += option(34)
        answer = r.choice(_SYN_OPTIONS)
        if kind == "asks":
            answer += option(34, server[12:16] + client[12:16])
        self.add(tick, flow.frame(SYN, isn, payload=payload, options=padded(options)), TCP, TCP + 4, True)
        acked = isn + 1 + (len(payload) if kind == "accepted" else 0)
        if kind == "refused":
            self.add(tick + trip, flow.back.frame(RST | ACK, 0, acked), TCP + 2, TCP + 8)
            return
        synack = flow.back.frame(SYN | ACK, other, acked, options=padded(answer))
        self.add(tick + trip, synack, TCP + 2, TCP + 8)
        self.add(tick + trip, flow.frame(ACK, acked, other + 1), TCP, TCP + 4)
        sent = tick + trip if kind == "accepted" else tick + 2 * trip
        self.add(sent + 1, flow.back.frame(ACK | PSH, other + 1, acked, payload=b"!" * 100), TCP + 2, TCP + 8)


_hellos: dict[str, bytes] = {}


def _hello(name: str) -> bytes:
    """A ClientHello for a name; cached."""
    found = _hellos.get(name)
    if found is None:
        found = _hellos[name] = client_hello(name)
    return found


def local_servers() -> list[str]:
    """Addresses of the traced host."""
    return [f"10.88.0.{1 + i}" for i in range(LOCAL_SERVERS)]


def write_frames(path: Path, rate: int) -> None:
    """Write one second of traffic: half to this host's servers from everywhere, half between others; few are busy."""
    r = random.Random(1)
    here = [address(one) for one in local_servers()]
    there = [address(f"198.51.{i // 250}.{1 + i % 250}") for i in range(REMOTE_SERVERS)]
    clients = [address(f"192.{i // 40000}.{i // 200 % 200}.{1 + i % 200}") for i in range(CLIENTS)]
    names = [f"host{i}.example" for i in range(NAMES)]
    busy = [1 / (1 + i) for i in range(max(len(names), len(there)))]
    script = _Script(r)
    count = rate * ROUND_TICKS * TICK_US // 1_000_000
    chosen_names = r.choices(names, busy[: len(names)], k=count)
    chosen_there = r.choices(there, busy[: len(there)], k=count)
    for n in range(count):
        server = r.choice(here) if n % 2 else chosen_there[n]
        script.handshake(n * ROUND_TICKS // count, r.choice(clients), server, chosen_names[n])
    script.frames.sort()
    path.write_bytes(b"".join(frame for _, _, frame in script.frames))


def _program() -> Path:
    PROGRAM.parent.mkdir(exist_ok=True)
    fresh = PROGRAM.with_suffix(".new")
    words = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(fresh), str(SOURCE)]
    subprocess.run(words, check=True)
    fresh.rename(PROGRAM)
    return PROGRAM


class Sender:
    """The running replay and its progress."""

    def __init__(self, host: Host, frames: Path, seconds: int) -> None:
        words = ["nsenter", f"--net={host.path}", str(_program()), "eth0", str(frames), str(TICK_US), str(ROUND_TICKS),
                 str(seconds)]  # fmt: skip
        self.begun = self.failed = self.left_out = 0
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.begun, self.failed, self.left_out = map(int, line.split())

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def quiet_host() -> Iterator[Host]:
    """A namespace with an eth0 that leads nowhere; always removed."""
    host = Host("replay")
    try:
        host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        # the other end stays down: packets that leave are dropped after the hook
        host.batch(["link set lo up", "link add eth0 type veth peer name gone", "link set eth0 up",
                    *(f"address add {one}/16 dev eth0" for one in local_servers())])  # fmt: skip
        yield host
    finally:
        host.close()
