"""The programs that hear the kernel's reasons, without the rest of a run; and the kernel's own trace as their judge."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tracer.handshake.events import Events
from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype
from tracer.loader.load import Loader, LoadOptions, kernel_version
from tracer.ring.drain import RingEvents
from tracer.ring.ringbuf import Ring
from tracer.root.kernel import Kernel
from tracer.root.kernel_words import KernelWords
from tracer.vocabulary.addresses import ip_text

SYN, RST, ACK = 2, 4, 16
_LINE = re.compile(rb" (\d+)\.(\d{6}): kfree_skb: .*location=(\w+)\S*(?: \[\w+\])? reason: (\w+)")
NEAR_S = 0.02
LATE_S = 1.0
KERNEL = kernel_version(os.uname().release)
# where a kernel frees what a rule of nft drops
FILTERED_AT = "nft_do_chain" if KERNEL >= (6, 7) else "nf_hook_slow"
# and where one whose neighbour does not answer: the compiler makes the call in the latter a jump, or not
UNANSWERED_AT = ("neigh_invalidate", "arp_error_report")
# before, the trace prints a number that stands for the place, so the judge can only tell the reason
_NAMES_PLACES = KERNEL >= (6, 3)


@dataclass(frozen=True, slots=True)
class Heard:
    """One word of the kernel, as a test wants to see it."""

    src: str
    src_port: int
    dst: str
    dst_port: int
    flags: int
    reason: str
    at: str | None
    netns: int
    now_s: float


class Ear:
    """Hears from the beginning on; the calling thread must be in the namespace that counts as its own."""

    def __init__(self) -> None:
        self.loaded = Loader(LoadOptions(table_size=512, kernel_reasons=True)).result()
        self.words = KernelWords(self.loaded)
        self.kernel = Kernel(self.loaded)
        self.kernel.configure(5.0)
        self.evidence = self.words.evidence
        assert self.evidence.ring_bytes, self.loaded.words
        self._ring = Ring(self.loaded.maps["drops"], self.evidence.ring_bytes)
        self._source = RingEvents(self._ring, to_dtype(struct("drop_event")))
        self._places: dict[int, str | None] = {}

    def close(self) -> None:
        self.words.close()
        self._ring.close()
        self.loaded.close()

    def read(self) -> Events:
        return self._source.read()

    def heard(self) -> list[Heard]:
        """All words since the last call."""
        events = self.read()
        self._name(set(events["location"].tolist()) - {0})
        evidence = self.evidence
        return [
            Heard(
                ip_text(one["src"].tobytes()), int(one["src_port"]), ip_text(one["dst"].tobytes()),
                int(one["dst_port"]), int(one["tcp_flags"]),
                (evidence.reset_reasons if one["is_reset"] else evidence.drop_reasons)[int(one["reason"])],
                self._places.get(int(one["location"])), int(one["netns"]), int(one["now_ns"]) / 1e9,
            )
            for one in events
        ]  # fmt: skip

    def _name(self, addresses: set[int]) -> None:
        new = sorted(addresses - self._places.keys())
        if not new:
            return
        self.words.ask(new)
        while (answer := self.words.advance()) is None:
            pass
        self._places |= answer.names


@contextmanager
def ear() -> Iterator[Ear]:
    hears = Ear()
    try:
        yield hears
    finally:
        hears.close()


class Judge:
    """The kernel's own trace of skb:kfree_skb: (seconds, reason, place) of every freed packet of this machine.

    The place is None where the kernel's trace does not name it. Scenes of several threads may ask one.
    """

    def __init__(self, instance: Path) -> None:
        self._lock = threading.Lock()  # what one thread has read and not yet kept, another would miss
        self._instance = instance
        self._pipe = os.open(instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        self._rest = b""
        self.seen: list[tuple[float, str, str | None]] = []

    def close(self) -> None:
        os.close(self._pipe)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                if found := _LINE.search(line):
                    seconds, micros, place, reason = found.groups()
                    self.seen.append((int(seconds) + int(micros) / 1e6, reason.decode(), _place(place)))

    def agrees(self, one: Heard) -> bool:
        """Does the trace have a packet freed at that moment, for the same reason at the same place?"""
        return self.knows(one.reason, one.at, one.now_s - NEAR_S, one.now_s + NEAR_S)

    def begin(self) -> None:
        """Forget what was before."""
        with self._lock:
            self._read()
            self.seen.clear()

    def knows(self, reason: str, place: str | None = None, since_s: float = 0.0, until_s: float = float("inf")) -> bool:
        """Has it seen that since begin(), there or at any place, between these times (CLOCK_MONOTONIC)?

        It sees the whole machine, where others may lose packets for the same reason. What another CPU does at this
        moment may come a little later, so it is waited for.
        """
        deadline = time.monotonic() + LATE_S
        while not self._has(reason, place, since_s, until_s):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _has(self, reason: str, place: str | None, since_s: float, until_s: float) -> bool:
        with self._lock:
            self._read()
            return any(
                why == reason and (place is None or at in (None, place)) and since_s < seconds < until_s
                for seconds, why, at in self.seen
            )


def _place(text: bytes) -> str | None:
    return text.decode().split(".")[0] if _NAMES_PLACES else None


@contextmanager
def judge() -> Iterator[Judge]:
    """A trace of its own, which disturbs nobody else's."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tracefs", "nodev", folder], check=True)
        instance = Path(folder) / "instances" / f"tfotest-{os.getpid()}-{secrets.token_hex(3)}"
        try:
            instance.mkdir()
            try:
                (instance / "trace_clock").write_text("mono")
                (instance / "events/skb/kfree_skb/enable").write_text("1")
                reader = Judge(instance)
                try:
                    yield reader
                finally:
                    reader.close()
                    (instance / "events/skb/kfree_skb/enable").write_text("0")
            finally:
                instance.rmdir()
        finally:
            subprocess.run(["umount", folder], check=True)
