"""What hearing the kernel's reasons costs: a freed packet that is not ours, and a flood of SYNs to a closed port."""

from __future__ import annotations

import os
import socket
import statistics
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import bpf_stats
from bench.common import Row, Spread
from tests.support.flood import flooding
from tests.support.load import CLIENT, SERVER, Host, Wire, wire
from tracer.linux import bpfsys, netns
from tracer.loader import kernel_words
from tracer.loader.load import Loaded, Loader, LoadOptions
from tracer.root.kernel import Kernel
from tracer.root.kernel_words import KernelWords

FREED = 100_000  # packets
ROUND_S, ROUNDS = 1.0, 15
SETTLE_S = 0.6  # until a flood has been noticed
ACK, UNUSED = 16, 8443
MOST_SLOWER = 5.0  # per cent


@contextmanager
def _inside(host: Host) -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    netns.enter(host.path)
    try:
        yield
    finally:
        netns.enter(f"/proc/self/fd/{home}")
        os.close(home)


def _freed(hosts: Wire, loaded: Loaded, flags: int) -> float:
    """Nanoseconds that the program spends on a segment of an unknown connection that a firewall drops."""
    ids = [bpfsys.program_info(loaded.programs[kernel_words.FREED]).id]
    segment = struct.pack("!HHIIBBHHH", 40000, UNUSED, 1, 2, 5 << 4, flags, 1000, 0, 0)
    with _inside(hosts.client):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with raw, bpf_stats.counting(ids) as spent:
        for _ in range(FREED):
            raw.sendto(segment, (SERVER[4], 0))
    return spent.seconds / spent.runs * 1e9


def _refused(host: Host) -> int:
    with _inside(host):
        text = Path("/proc/thread-self/net/snmp").read_text()
    lines = [line.split() for line in text.splitlines() if line.startswith("Tcp:")]
    return int(dict(zip(*lines, strict=True))["OutRsts"])


def _rate(host: Host, seconds: float) -> float:
    """Refused SYNs a second."""
    before, began = _refused(host), time.monotonic()
    time.sleep(seconds)
    return (_refused(host) - before) / (time.monotonic() - began)


def _watched(words: KernelWords, kernel: Kernel, seconds: float) -> None:
    """As the root part does four times a second."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        words.relieve(kernel.counters()["drops_skipped"], time.monotonic())
        time.sleep(0.25)


def _mac(host: Host) -> str:
    return host.run("ip", "-br", "link", "show", "eth0").split()[2]


def measure(quick: bool) -> list[Row]:
    """The rows of this section."""
    rounds = 3 if quick else ROUNDS
    with wire() as hosts:
        loaded = Loader(LoadOptions(kernel_reasons=True)).result()
        with _inside(hosts.server):
            hosts.server.run(
                "nft", f"table inet t {{ chain c {{ type filter hook input priority 0; tcp dport {UNUSED} drop; }}; }}"
            )
            words = KernelWords(loaded)
            costs = [_freed(hosts, loaded, ACK) for _ in range(rounds)]
            words.close()
        kernel = Kernel(loaded)
        without, ratios, each, shares = [], [], [], []
        ids = [bpfsys.program_info(loaded.programs[name]).id for name in kernel_words.TRACEPOINTS]
        # the refusals find a way back
        hosts.server.run("ip", "route", "add", "default", "via", CLIENT[4])
        with flooding(hosts.client, 0, mac=_mac(hosts.server)):
            time.sleep(0.5)
            for _ in range(rounds):
                before = _rate(hosts.server, ROUND_S)
                with _inside(hosts.server):
                    words = KernelWords(loaded)
                _watched(words, kernel, SETTLE_S)
                beside = _rate(hosts.server, ROUND_S)
                with bpf_stats.counting(ids) as spent:
                    refused = _rate(hosts.server, ROUND_S)
                each.append(spent.seconds / (ROUND_S * refused) * 1e9)
                shares.append(100 * spent.seconds / ROUND_S)
                words.close()
                after = _rate(hosts.server, ROUND_S)
                without += [before, after]
                ratios.append(100 - 200 * beside / (before + after))
        loaded.close()
    slower, share = Spread.of(ratios), Spread.of(shares)
    return [
        Row("a SYN of that flood, in the programs, clock included", f"{Spread.of(each).text(0)} ns"),
        Row(
            "the programs' share of a CPU in that flood, clock included", f"{share.text(1)} %",
            f"at most {MOST_SLOWER:.0f} %", share.median <= MOST_SLOWER,
        ),
        Row("a freed segment of no tracked connection, clock included", f"{Spread.of(costs).text(0)} ns"),
        Row(
            "a flood of SYNs to a closed port, slower by",
            f"{slower.text(1)} % of {statistics.median(without):,.0f} a second",
            f"at most {MOST_SLOWER:.0f} %",
            slower.median <= MOST_SLOWER,
        ),
    ]  # fmt: skip
