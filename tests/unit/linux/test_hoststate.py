"""Counters and sysctls are read in the kernel's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tracer.causes.kernel_evidence import KernelEvidence
from tracer.ipc.messages import Host
from tracer.linux import hoststate


def test_counters_are_those_of_tcp_ext(tmp_path: Path) -> None:
    file = tmp_path / "netstat"
    file.write_text(
        "TcpExt: SyncookiesSent TCPFastOpenActive Unwanted TCPFastOpenPassive\n"
        "TcpExt: 1 22 3 44\n"
        "IpExt: TCPFastOpenActive\n"
        "IpExt: 99\n"
    )
    assert hoststate.read_counters(file) == {"SyncookiesSent": 1, "TCPFastOpenActive": 22, "TCPFastOpenPassive": 44}


def test_a_missing_file_is_no_counters(tmp_path: Path) -> None:
    assert hoststate.read_counters(tmp_path / "none") == {}


def test_the_running_kernel_has_the_fast_open_counters() -> None:
    counters = hoststate.read_counters()
    assert {name for name in hoststate.COUNTERS if name.startswith("TCPFastOpen")} <= counters.keys()


def test_sysctls_that_are_missing_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "tcp_fastopen").write_text("1027\n")
    assert hoststate.read_sysctls(tmp_path) == {"tcp_fastopen": "1027"}


def test_a_look_that_was_under_way_is_neither_before_nor_after() -> None:
    evidence = KernelEvidence()
    for begun, over, overflows in ((10, 12, 0), (20, 29, 0), (40, 41, 1)):
        evidence.add(Host({"TCPFastOpenListenOverflow": overflows}, {"tcp_fastopen": "3"}, over, 0, begun))
    times = np.array([25], np.uint64)  # while the second look was read
    seen = evidence.around(times, times + np.uint64(1))
    assert (seen.known.tolist(), seen.overflows.tolist()) == ([True], [1])
    assert evidence.latest_ns == 40
    assert not evidence.around(times, times + np.uint64(16)).known.any()  # answered after the last one began
