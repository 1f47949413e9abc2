"""The cost of a packet in the programs: ns by BPF_PROG_TEST_RUN, next to an empty program and a bare hash look-up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.common import Row, empty_program, loaded_programs
from bench.floors import Floors
from bench.walk import ISN, SERVER_ISN, SYN_OPTIONS, TIMESTAMPS, RingReset, Segment, Walk, handshake
from tests.support.packets import Flow, address, ethernet, ipv4, udp
from tests.support.rawprog import SCHED_CLS, TC_ACT_UNSPEC, XDP, XDP_PASS
from tracer.linux.bpfsys import prog_test_run
from tracer.loader.load import LoadOptions
from tracer.root.kernel import Kernel

LOOPBACK = 1
SYN, ACK = 2, 16
DATA_OPTIONS = b"\x01\x01" + TIMESTAMPS
UNDER_WAY = 100  # handshakes at once, in the rows of whole ones
HANDSHAKE_TARGET_NS = 500

TRACKED = Flow(address("192.0.2.1"), address("198.51.100.2"), 40000, 443)
UNRELATED = Flow(address("192.0.2.3"), address("198.51.100.4"), 40001, 443)
UNRELATED_V6 = Flow(address("2001:db8::3"), address("2001:db8::4"), 40001, 443)
TAGGED = Flow(address("192.0.2.3"), address("198.51.100.4"), 40001, 443, (7,))


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame that is run repeatedly; `target_ns` is above the empty program, 0 means no target."""

    name: str
    frame: bytes
    target_ns: int = 0


def data(flow: Flow) -> bytes:
    """A segment with a kilobyte."""
    return flow.frame(ACK, ISN + 1, SERVER_ISN + 1, payload=bytes(1000), options=DATA_OPTIONS)


def datagram(port: int) -> bytes:
    """A large UDP packet to this port."""
    return ethernet(ipv4(UNRELATED.src, UNRELATED.dst, udp(50000, port, bytes(1400)), protocol=17))


PACKETS = [
    Packet("unrelated data segment", data(UNRELATED), 8),
    Packet("data segment of a tracked connection", data(TRACKED), 40),
    Packet("SYN, a retransmission", TRACKED.frame(SYN, ISN, options=SYN_OPTIONS)),
    Packet("SYN-ACK, a retransmission", TRACKED.back.frame(SYN | ACK, SERVER_ISN, ISN + 1, options=SYN_OPTIONS)),
    Packet(
        "ACK of a tracked connection, without data", TRACKED.frame(ACK, ISN + 1, SERVER_ISN + 1, options=DATA_OPTIONS)
    ),
    Packet("UDP", datagram(443)),
    Packet("UDP, to the port of VXLAN", datagram(4789)),
    Packet("unrelated data segment, IPv6", data(UNRELATED_V6)),
    Packet("unrelated data segment, one VLAN tag in the frame", data(TAGGED)),
]


@dataclass(frozen=True, slots=True)
class Hook:
    """The name of an attached program, and an empty one of its type."""

    name: str
    kind: str
    program: int
    nothing: int


@contextmanager
def hooks(kernel: Kernel) -> Iterator[list[Hook]]:
    """All programs that an interface can have."""
    found: list[Hook] = []
    try:
        for name in ("tc_ingress", "tc_egress", "xdp_ingress"):
            kind = name.partition("_")[0]
            nothing = empty_program(*((XDP, XDP_PASS) if kind == "xdp" else (SCHED_CLS, TC_ACT_UNSPEC)))
            found.append(Hook(name, kind, kernel.loaded.programs[name], nothing))
        yield found
    finally:
        for hook in found:
            os.close(hook.nothing)


def measure(quick: bool) -> list[Row]:
    """Rows for packets and whole handshakes: the minimum of alternating rounds, since noise only adds."""
    rounds = 5 if quick else 25
    rows: list[Row] = []
    with Floors() as floors:
        hash_ns = floors.above_empty("hash look-up", rounds)
        with loaded_programs(LoadOptions(xdp=True)) as kernel, hooks(kernel) as found:
            kernel.trace_interface(LOOPBACK, 0, True)
            _open(kernel)
            for hook in found:
                rows += [_packet_row(hook, packet, hash_ns, rounds) for packet in PACKETS]
        for payload_len, request_len in ((0, 0), (0, 517), (517, 0)):
            for name in ("tc_ingress", "xdp_ingress"):
                rows += _handshake_rows(name, payload_len, request_len, 4 * rounds)
        rows += floors.rows(rounds)
    return rows


def _open(kernel: Kernel) -> None:
    """Open an established connection that waits for the server's first byte."""
    frames = [
        TRACKED.frame(SYN, ISN, options=SYN_OPTIONS),
        TRACKED.back.frame(SYN | ACK, SERVER_ISN, ISN + 1, options=SYN_OPTIONS),
        TRACKED.frame(ACK, ISN + 1, SERVER_ISN + 1, options=DATA_OPTIONS),
    ]
    for frame in frames:
        prog_test_run(kernel.loaded.programs["tc_ingress"], frame)
    assert kernel.sweep() >= 1


def cheapest(rounds: int, *runs: Callable[[], int]) -> list[int]:
    """The minimum of `rounds` results of each, measured alternately."""
    least = [run() for run in runs]
    for _ in range(rounds - 1):
        least = [min(before, run()) for before, run in zip(least, runs, strict=True)]
    return least


def _packet_row(hook: Hook, packet: Packet, hash_ns: int, rounds: int) -> Row:
    def run(program: int) -> Callable[[], int]:
        return lambda: prog_test_run(program, packet.frame, repeat=20_000).duration_ns

    base, cost = cheapest(rounds, run(hook.nothing), run(hook.program))
    over = cost - base
    return Row(f"{hook.name}: {packet.name}", f"+{over} ns (empty {base}); {over / hash_ns:.1f} hash look-ups",
               f"at most +{packet.target_ns} ns" if packet.target_ns else "",
               over <= packet.target_ns if packet.target_ns else None)  # fmt: skip


def _handshake_rows(name: str, payload_len: int, request_len: int, rounds: int) -> list[Row]:
    segments = handshake(payload_len, request_len)
    total, parts = handshake_ns(name, segments, rounds)
    kind = f"Fast Open handshake with {payload_len} bytes in the SYN" if payload_len else "handshake"
    if request_len:
        kind += f" and a request of {request_len} bytes"
    target = f"at most +{HANDSHAKE_TARGET_NS} ns" if not payload_len and not request_len else ""
    value = f"+{total} ns"
    if parts:
        value += ": " + ", ".join(f"{one.name} +{ns}" for one, ns in zip(segments, parts, strict=True))
    return [Row(f"{name}: whole {kind}, its record included", value, target,
                total <= HANDSHAKE_TARGET_NS if target else None)]  # fmt: skip


def handshake_ns(name: str, segments: Sequence[Segment], rounds: int) -> tuple[int, list[int]]:
    """Nanoseconds of a handshake, and of each of its segments, above an empty program.

    It repeats the same UNDER_WAY connections, so caches are warm. An XDP test run changes kernel code before it starts,
    so that single segments would be measured cold: for XDP there is no second part.
    """
    with loaded_programs(LoadOptions(xdp=True)) as kernel, hooks(kernel) as found:
        kernel.trace_interface(LOOPBACK, 0, True)
        hook = next(one for one in found if one.name == name)
        with Walk(hook.kind) as walk, RingReset.of(kernel) as reset:

            def run(program: int, some: Sequence[Segment], times: int) -> Callable[[], int]:
                def one() -> int:
                    reset()
                    return walk.run(program, some, 0, UNDER_WAY, times)

                return one

            base, packet = cheapest(rounds, run(hook.nothing, segments, 25), run(hook.program, segments, 25))
            parts: list[int] = []
            if hook.kind == "tc":
                each = [run(hook.program, [segment], 1) for segment in segments]
                parts = [ns - base for ns in cheapest(rounds, *each)]
        counters = kernel.counters()
        opened = rounds * UNDER_WAY * (25 + bool(parts))
        assert counters["opened"] == counters["emitted"] == opened, counters
    return (packet - base) * len(segments), parts
