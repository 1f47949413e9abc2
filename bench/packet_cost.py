"""What a packet costs in the programs: ns by BPF_PROG_TEST_RUN, beside an empty program of the same type."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench.common import Row, Spread, empty_program, loaded_programs
from tests.support.packets import Flow, address, ethernet, ipv4, option, padded
from tests.support.rawprog import SCHED_CLS, TC_ACT_UNSPEC, XDP, XDP_PASS
from tracer.bpfsys import prog_test_run
from tracer.kernel import Kernel
from tracer.load import LoadOptions

LOOPBACK = 1
REPEAT = 1_000_000
SYN, ACK = 2, 16
ISN, SERVER_ISN = 1000, 5000
SYN_OPTIONS = padded(option(2, b"\x05\xb4") + option(4) + option(8, bytes(8)) + b"\x01" + option(3, b"\x07"))
DATA_OPTIONS = b"\x01\x01" + option(8, bytes(8))

TRACKED = Flow(address("192.0.2.1"), address("198.51.100.2"), 40000, 443)
UNRELATED = Flow(address("192.0.2.3"), address("198.51.100.4"), 40001, 443)
UNRELATED_V6 = Flow(address("2001:db8::3"), address("2001:db8::4"), 40001, 443)
TAGGED = Flow(address("192.0.2.3"), address("198.51.100.4"), 40001, 443, (7,))


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame that is run again and again; `target_ns` above the empty program, 0 where none is set."""

    name: str
    frame: bytes
    target_ns: float = 0


def data(flow: Flow) -> bytes:
    """A segment with a kilobyte."""
    return flow.frame(ACK, ISN + 1, SERVER_ISN + 1, payload=bytes(1000), options=DATA_OPTIONS)


PACKETS = [
    Packet("unrelated data segment", data(UNRELATED), 8),
    Packet("data segment of a tracked connection", data(TRACKED), 40),
    Packet("SYN, a retransmission", TRACKED.frame(SYN, ISN, options=SYN_OPTIONS)),
    Packet("SYN-ACK, a retransmission", TRACKED.back.frame(SYN | ACK, SERVER_ISN, ISN + 1, options=SYN_OPTIONS)),
    Packet("UDP", ethernet(ipv4(address("192.0.2.3"), address("198.51.100.4"), bytes(200), protocol=17))),
    Packet("unrelated data segment, IPv6", data(UNRELATED_V6)),
    Packet("unrelated data segment, one VLAN tag in the frame", data(TAGGED)),
]


def _open(kernel: Kernel, program: str) -> None:
    """A connection that has been established and waits for the server's first byte."""
    frames = [
        TRACKED.frame(SYN, ISN, options=SYN_OPTIONS),
        TRACKED.back.frame(SYN | ACK, SERVER_ISN, ISN + 1, options=SYN_OPTIONS),
        TRACKED.frame(ACK, ISN + 1, SERVER_ISN + 1, options=DATA_OPTIONS),
    ]
    for frame in frames:
        prog_test_run(kernel.loaded.programs[program], frame)
    assert kernel.sweep() >= 1


def measure(quick: bool) -> list[Row]:
    """Rows for packets; each packet alternates with the empty program."""
    rounds = 3 if quick else 7
    repeat = REPEAT // 10 if quick else REPEAT
    rows: list[Row] = []
    with loaded_programs(LoadOptions(xdp=True)) as kernel:
        kernel.trace_interface(LOOPBACK, 0, True)
        _open(kernel, "tc_ingress")
        for program, kind, verdict in (("tc_ingress", SCHED_CLS, TC_ACT_UNSPEC), ("xdp_ingress", XDP, XDP_PASS)):
            nothing = empty_program(kind, verdict)
            try:
                rows += [
                    _row(program, kernel.loaded.programs[program], nothing, packet, rounds, repeat)
                    for packet in PACKETS
                ]
            finally:
                os.close(nothing)
    return rows


def _row(name: str, program: int, nothing: int, packet: Packet, rounds: int, repeat: int) -> Row:
    empty, ours = [], []
    for _ in range(rounds):
        empty.append(prog_test_run(nothing, packet.frame, repeat=repeat).duration_ns)
        ours.append(prog_test_run(program, packet.frame, repeat=repeat).duration_ns)
    base, cost = Spread.of(empty).median, Spread.of(ours).median
    target = packet.target_ns
    return Row(f"{name}: {packet.name}", f"{cost:.0f} ns, empty {base:.0f}, so {cost - base:+.0f}",
               f"at most +{target:.0f} ns" if target else "", cost - base <= target if target else None)  # fmt: skip
