"""Records of the same size through bcc's own Python callbacks, as its tools read them: perf buffer and ring buffer.

A program sends them by BPF_PROG_TEST_RUN while nobody reads. Then bcc calls back for each record, and the callback
casts it with ctypes. The barest callback only counts by result, which is less than any tool does. The other one adds up
the minimum for a summary of Fast Open, only a part of what tfotrace judges: request, acked data, two durations.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Row, Spread
from tests.support.events import event_dtype
from tracer.ipc.event_header import BPF_DIR
from tracer.linux import bpfsys

SOURCE = Path(__file__).with_name("bcc_callback.bpf.c")
PERF_PAGES = 2048  # of each CPU: 8 MiB, a power of two
COUNT = 10_000  # records of a round
TIMES_TARGET = 20


class BccCallbacks:
    """A context with the loaded programs and their open buffers. Each round adds a rate to each list."""

    def __init__(self) -> None:
        self.perf: list[float] = []
        self.ring: list[float] = []
        self.judging: list[float] = []
        self._results: Counter[int] = Counter()
        self._asked: Counter[tuple[int, int, bool]] = Counter()
        self._acked: Counter[int] = Counter()
        self._spent_ns = [0, 0]
        self._judge = False
        self._lost = 0
        self._type: Any = ctypes.POINTER(np.ctypeslib.as_ctypes_type(event_dtype()))

    def __enter__(self) -> BccCallbacks:
        os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR)
        from bcc import BPF  # type: ignore[import-untyped,unused-ignore]

        self._bpf: Any = BPF(text=SOURCE.read_text(), cflags=[f"-I{BPF_DIR}"])
        self._programs = {name: self._bpf.load_func(name, BPF.SCHED_CLS).fd for name in ("send_perf", "send_ring")}
        self._bpf["perf"].open_perf_buffer(self._on_record, page_cnt=PERF_PAGES, lost_cb=self._on_loss)
        self._bpf["ring"].open_ring_buffer(self._on_record)
        return self

    def __exit__(self, *_: object) -> None:
        self._bpf.cleanup()

    def round(self) -> None:
        """Fill and read each buffer once, the perf buffer with both callbacks."""
        self._judge = False
        self.perf.append(self._rate("send_perf", lambda: self._bpf.perf_buffer_poll(timeout=0)))
        self.ring.append(self._rate("send_ring", self._bpf.ring_buffer_consume))
        self._judge = True
        self.judging.append(self._rate("send_perf", lambda: self._bpf.perf_buffer_poll(timeout=0)))

    def _rate(self, program: str, read: Any) -> float:
        self._results.clear()
        bpfsys.prog_test_run(self._programs[program], bytes(64), repeat=COUNT)
        spent = 0.0
        while (seen := self._results.total()) < COUNT and not self._lost:
            began = time.thread_time()
            read()
            spent += time.thread_time() - began
            assert self._results.total() > seen, "bcc has nothing left and did not call back for all"
        assert not self._lost, f"{self._lost} records did not fit"
        return COUNT / spent

    def _on_record(self, _where: Any, data: Any, _size: int) -> None:
        event = ctypes.cast(data, self._type).contents
        self._results[event.result] += 1
        if self._judge:
            syn, synack = event.syn, event.synack
            self._asked[syn.tfo_kind, syn.cookie_len, syn.payload_len > 0] += 1
            self._acked[(synack.ack - syn.seq - 1) & 0xFFFFFFFF] += 1
            self._spent_ns[0] += event.synack_ns - event.syn_ns
            self._spent_ns[1] += event.response_ns - event.syn_ns

    def _on_loss(self, count: int) -> None:
        self._lost += count

    def rows(self, reading: list[float], adding: list[float]) -> list[Row]:
        """The rows, compared with the rates of our ring reader and of ring to aggregates, measured alternately."""
        judging, bare, limit = (
            Spread.of([our_rate / rate for our_rate, rate in zip(ours, theirs, strict=True)])
            for ours, theirs in ((adding, self.judging), (adding, self.perf), (reading, self.judging))
        )
        return [
            Row("bcc's callback, perf buffer: cast by ctypes, one sum", f"{Spread.of(self.perf).text(0)} a second"),
            Row("bcc's callback, ring buffer: the same", f"{Spread.of(self.ring).text(0)} a second"),
            Row("bcc's callback, perf buffer: request, bytes acked, two durations added up",
                f"{Spread.of(self.judging).text(0)} a second"),
            Row("ring to aggregates against the latter, in turn", f"{judging.text(1)} times",
                f"at least {TIMES_TARGET} times", judging.median >= TIMES_TARGET),
            Row("ring to aggregates against the barest callback, in turn", f"{bare.text(1)} times"),
            Row("the most there is: the ring reader alone, which copies records, against the callback with sums",
                f"{limit.text(1)} times"),
        ]  # fmt: skip
