"""The time from the settling of a handshake until its line can be read; handshakes come one by one, at random."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from datetime import datetime, timezone
from typing import Any

from bench.common import ROOT, Row, Spread
from tests.support.load import wire

TARGET_MS = 200.0


def _settled_s(record: dict[str, Any]) -> float:
    """When the server's first byte came, in seconds since the epoch; `ts` is that of the first SYN."""
    whole, _, fraction = record["ts"].rstrip("Z").partition(".")
    syn = datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp() + float(f"0.{fraction}")
    response_us: float = record["handshake"]["first_response_us"]
    return syn + response_us / 1e6


def measure(quick: bool) -> list[Row]:
    """Rows for the delay of a record."""
    count = 10 if quick else 50
    moments = random.Random(1)
    delays: list[float] = []
    with wire() as hosts:
        words = [sys.executable, "-m", "tracer", "eth0", "--json", "--netns", hosts.server.path]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
            assert process.stdout is not None
            try:
                process.stdout.readline()  # start
                for _ in range(count):
                    time.sleep(moments.uniform(0.1, 0.4))  # at any moment between two readings of the ring
                    hosts.handshakes(1)
                    record = json.loads(process.stdout.readline())
                    now = time.time()
                    while record["event"] != "handshake":  # stats
                        record = json.loads(process.stdout.readline())
                        now = time.time()
                    delays.append((now - _settled_s(record)) * 1000)
            finally:
                process.terminate()
    spread = Spread.of(delays)
    return [Row(f"settled to readable, {count} handshakes one by one", f"{spread.text(1)} ms", "below 200 ms",
                spread.most < TARGET_MS)]  # fmt: skip
