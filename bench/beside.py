"""How much tfotrace slows a host's other traffic while a flood of SYNs arrives.

    python -m bench.beside [ROUNDS [RATE]]

200,000 SYNs a second from random sources arrive at the server's interface throughout. A TCP stream and real handshakes
take the same path, alternately without tfotrace and with it (`--json` to /dev/null on that interface); each figure with
tfotrace is divided by the mean of those without right before and after it. At the end it measures the cost of a SYN of
the flood in the kernel programs (run time, which a busy machine changes little) and prints the rows of
docs/RELIABILITY.md.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator

from bench import bpf_stats
from bench.common import Spread, end_cleanly, machine, process_tree, program_ids
from tests.support.flood import flooding
from tests.support.load import SERVER, Wire, traced, wire
from tracer.linux import netns

RATE = 200_000
STREAM_S = 3.0
HANDSHAKES = 20_000
COUNTED_S = 3.0
SMALL_TABLE = 256  # entries: fits in a CPU's own caches
TARGET = 0.90


def stream(hosts: Wire, seconds: float) -> float:
    """Bytes per second that one TCP connection transfers from client to server."""
    with _inside(hosts.server.path):
        listener = socket.create_server((SERVER[4], 0))
    with listener, _inside(hosts.client.path):
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    stop = threading.Event()

    def send() -> None:
        block = bytes(1 << 18)
        with contextlib.suppress(OSError):
            while not stop.is_set():
                sender.sendall(block)

    thread = threading.Thread(target=send)
    thread.start()
    got, began, buffer = 0, time.monotonic(), bytearray(1 << 18)
    while time.monotonic() - began < seconds:
        got += receiver.recv_into(buffer)
    took = time.monotonic() - began
    stop.set()
    receiver.close()
    thread.join()
    sender.close()
    return got / took


@contextlib.contextmanager
def _inside(path: str) -> Iterator[None]:
    with open("/proc/thread-self/ns/net", "rb") as home:
        netns.enter(path)
        try:
            yield
        finally:
            netns.enter(f"/proc/self/fd/{home.fileno()}")


def once(hosts: Wire) -> tuple[float, float]:
    """Bytes and handshakes per second."""
    return stream(hosts, STREAM_S), float(hosts.handshakes(HANDSHAKES)["rate"])


def syn_cost(hosts: Wire, *words: str) -> float:
    """Nanoseconds that the programs spend on a SYN of the flood once it has filled the table."""
    with traced(hosts.server, *words, record=False) as run:
        time.sleep(COUNTED_S)
        with bpf_stats.counting(program_ids(process_tree(run.process.pid))) as spent:
            time.sleep(COUNTED_S)
    return 1e9 * spent.seconds / spent.runs


def main(rounds: int, rate: int) -> int:
    """Returns 0 if neither is more than 10 % slower, by the median."""
    print("\n".join(machine()), flush=True)
    ratios: tuple[list[float], list[float]] = ([], [])
    without: list[tuple[float, float]] = []
    with wire() as hosts, flooding(hosts.client, rate) as flood:
        before = once(hosts)
        for _ in range(rounds):
            with traced(hosts.server, record=False) as run:
                beside = once(hosts)
                said = run.stop().narration.strip().splitlines()[-1]
            after = once(hosts)
            without += [before]
            for kind in (0, 1):
                ratios[kind].append(100 * beside[kind] * 2 / (before[kind] + after[kind]))
            shares = f"stream {ratios[0][-1]:.1f} %, handshakes {ratios[1][-1]:.1f} % of without"
            print(f"{shares}; {said}", flush=True)
            before = after
        cost_ns, in_caches_ns = syn_cost(hosts), syn_cost(hosts, "--table-size", str(SMALL_TABLE))
        flood.stop()
    met = True
    for kind, (name, unit, scale) in enumerate(
        (("TCP stream", "GB/s", 1e-9), ("handshakes", "thousand a second", 1e-3))
    ):
        spread = Spread.of(ratios[kind])
        alone = Spread.of([one[kind] * scale for one in without])
        reached = spread.median >= 100 * TARGET
        met &= reached
        print(
            f"| {name}, with tfotrace against without | {spread.text(1)} % in {rounds} rounds; {alone.text(2)} {unit} "
            f"without; {'met' if reached else 'NOT met'} | at least {100 * TARGET:.0f} % | `sudo make beside` |"
        )
    share = 100 * cost_ns * flood.rate / 1e9
    print(
        f"| a SYN of the flood, in the kernel programs | {cost_ns:.0f} ns; of {flood.rate:,.0f} a second "
        f"({rate:,} asked for) {share:.0f} % of a core; with a table of {SMALL_TABLE} entries {in_caches_ns:.0f} ns "
        "| | `sudo make beside` |"
    )
    return 0 if met else 1


if __name__ == "__main__":
    end_cleanly()
    words = [int(word) for word in sys.argv[1:]]
    sys.exit(main(words[0] if words else 9, words[1] if len(words) > 1 else RATE))
