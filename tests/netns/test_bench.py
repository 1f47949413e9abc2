"""bench/ leaves nothing behind, whenever it is ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.load import ROOT

PATIENCE_S = 60.0


def namespaces(pid: int) -> list[str]:
    """Those that a process made with tests/support/load.py."""
    return [path.name for path in Path("/run/netns").glob("tfo*") if f"-{pid}-" in path.name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_bench_that_is_ended_removes_its_namespaces(number: signal.Signals) -> None:
    """As by `timeout`, or by ctrl+c, while a load runs between two namespaces."""
    words = [sys.executable, "-m", "bench", "--quick", "handshake_rate"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while len(namespaces(process.pid)) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert namespaces(process.pid) == []
