"""The dashboard: first paint, and under load CPU, response to keys, and memory, of a real run in 120x40 cells.

`./tfotrace eth0` runs as usual behind a pseudo terminal whose output is read at once; bench/traffic.py sends 20,000
handshakes a second through its interface. CPU is user and system time of the process with the dashboard: draining,
judging, the store and the screen. The response to a key ends when words come that only the new screen has, which is a
little after its first byte.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.common import CLOCK_TICKS, ROOT, Row, Spread, memory_of, process_tree
from bench.traffic import Sender, quiet_host, write_frames
from tests.support.load import Host

RATE = 20_000
WIDTH, HEIGHT = 120, 40
CPU_TARGET = 25.0  # % of one core
KEY_TARGET_MS = 100.0
PAINT_TARGET_MS = 500.0
TOTAL_TARGET = 110e6
GROWTH_TARGET = 1.02  # tolerance for memory that the allocator returns late
PATIENCE_S = 30.0
DOWN = b"\x1b[B"
SCREENS = {b"1": "Why, and what to do", b"2": "following", b"3": "servers", b"4": "Options of SYNs",
           b"5": "Balance sheet"}  # fmt: skip
SORTS = ("by Client,", "by Server,", "by Result,", "by RTT ms,", "by Cause,", "newest first")


class Terminal:
    """A run in a pseudo terminal; a thread reads its output and notes when the wanted words come."""

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self._said = folder / "stderr"
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # ./tfotrace runs compiled code: it sets that up, with -I
        with open(self._said, "wb") as err:
            self.process = subprocess.Popen(
                words, stdin=slave, stdout=slave, stderr=err, cwd=ROOT, env=environment, start_new_session=True
            )
        os.close(slave)
        self.written = 0
        self._wanted = b""
        self._heard = b""
        self._came = 0.0
        self._found = threading.Event()
        self._lock = threading.Lock()
        self._ending = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._ending:
            if not select.select([self._master], [], [], 0.5)[0]:
                continue
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # the other end is closed
                return
            now = time.monotonic()
            with self._lock:
                self.written += len(data)
                if not self._wanted:
                    continue
                self._heard += data
                if self._wanted in self._heard:
                    self._came, self._wanted, self._heard = now, b"", b""
                    self._found.set()

    @property
    def said(self) -> str:
        """Standard error."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    def press(self, key: bytes, words: str) -> float:
        """Press a key; return the milliseconds until the words come. Raises AssertionError if they do not."""
        with self._lock:
            self._wanted, self._heard = words.encode(), b""
            self._found.clear()
        began = time.monotonic()
        if key:
            os.write(self._master, key)
        if not self._found.wait(PATIENCE_S):
            raise AssertionError(f"{words!r} did not come after {key!r}; {self.said}")
        return (self._came - began) * 1000

    def close(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._ending = True
        self._thread.join()
        os.close(self._master)


def thread_seconds(pid: int) -> dict[int, float]:
    """User and system time of each thread."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        fields = Path(f"/proc/{pid}/task/{task}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        found[int(task)] = (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
    return found


class Load:
    """A run under load."""

    def __init__(self, terminal: Terminal, sender: Sender, quick: bool) -> None:
        self.terminal, self.sender = terminal, sender
        self.pid = terminal.process.pid
        self._seconds = 4 if quick else 25
        self._keys = 5 if quick else 30
        self._phase = random.Random(1)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait under load until the condition holds."""
        while not holds():
            if self.terminal.process.poll() is not None or self.sender.process.poll() is not None:
                raise AssertionError(f"the run ended before its time: {self.terminal.said}")
            time.sleep(0.02)

    def seen(self, count: int) -> None:
        """Wait until that many handshakes have been started."""
        self.until(lambda: self.sender.begun >= count)

    def cpu(self, what: str) -> Row:
        """The share of a core over some time, separately for the threads of pipeline and dashboard."""
        before, begun, written = thread_seconds(self.pid), self.sender.begun, self.terminal.written
        began = time.monotonic()
        time.sleep(self._seconds)
        lasted = time.monotonic() - began
        shares = {
            thread: 100 * (seconds - before.get(thread, 0.0)) / lasted
            for thread, seconds in thread_seconds(self.pid).items()
        }
        total, screen = sum(shares.values()), shares[self.pid]
        rate = (self.sender.begun - begun) / lasted
        output = (self.terminal.written - written) / lasted / 1000
        value = (f"{total:.1f} % of a core: dashboard {screen:.1f}, pipeline and others {total - screen:.1f}; "
                 f"{rate:,.0f} a second, {output:.0f} kB/s to the terminal")  # fmt: skip
        return Row(what, value, f"below {CPU_TARGET:.0f} %", total < CPU_TARGET)

    def _pause(self) -> None:
        time.sleep(self._phase.uniform(0.1, 0.35))  # anywhere between two pulls

    def answers(self) -> list[Row]:
        """The response to keys, each pressed many times at random moments."""
        taken: dict[str, list[float]] = {}
        for _ in range(self._keys):
            for key, words in SCREENS.items():
                self._pause()
                taken.setdefault(f"key {key.decode()}", []).append(self.terminal.press(key, words))
        self._pause()
        self.terminal.press(b"2", SCREENS[b"2"])
        for _ in range(self._keys):
            self._pause()
            taken.setdefault("key down in the list", []).append(self.terminal.press(DOWN, "not following"))
            self._pause()
            self.terminal.press(b"f", "  following")
        for number in range(self._keys):
            self._pause()
            taken.setdefault("key s (sort) in the list", []).append(
                self.terminal.press(b"s", SORTS[number % len(SORTS)])
            )
        rows = []
        for name, times in taken.items():
            spread = Spread.of(times)
            rows.append(Row(f"{name}, {len(times)} times: until the words of the changed screen are there",
                            f"{spread.text(0)} ms", f"below {KEY_TARGET_MS:.0f} ms",
                            spread.most < KEY_TARGET_MS))  # fmt: skip
        return rows

    def memory(self, at: Sequence[int]) -> tuple[list[Row], float]:
        """Private memory at these numbers of handshakes, and its last value as a share of the one before."""
        rows = []
        own: list[int] = []
        for count in at:
            self.seen(count)
            row, bytes_ = self.memory_now(f"{count:,} handshakes seen")
            rows.append(row)
            own.append(bytes_)
        return rows, own[-1] / own[-2]

    def memory_now(self, what: str) -> tuple[Row, int]:
        """Private memory of the dashboard's process, and of all processes."""
        own = memory_of([self.pid]).private
        every = memory_of(process_tree(self.pid)).private
        return Row(f"private memory, {what}", f"{own / 1e6:.1f} MB, all processes {every / 1e6:.1f} MB",
                   f"all below {TOTAL_TARGET / 1e6:.0f} MB", every < TOTAL_TARGET), own  # fmt: skip


def measure(quick: bool) -> list[Row]:
    """Rows for the dashboard."""
    with tempfile.TemporaryDirectory(prefix="tfobench-") as directory, quiet_host() as host:
        return _measure(Path(directory), host, quick)


def _first_paint(folder: Path, host: Host, quick: bool) -> Row:
    """From exec until the overview's words are on the terminal, with kernel programs kept from an earlier start."""
    times = []
    for _ in range(4 if quick else 11):
        terminal = Terminal([sys.executable, "-m", "tracer", "eth0", "--netns", host.path], folder)
        try:
            times.append(terminal.press(b"", SCREENS[b"1"]))
        finally:
            terminal.close()
    spread = Spread.of(times[1:])  # the first one warms the page cache
    return Row(f"first paint: from exec to the words of the overview, {len(times) - 1} starts",
               f"{spread.text(0)} ms", f"below {PAINT_TARGET_MS:.0f} ms", spread.median < PAINT_TARGET_MS)  # fmt: skip


def _measure(folder: Path, host: Host, quick: bool) -> list[Row]:
    first_paint = _first_paint(folder, host, quick)
    frames, ready = folder / "frames", folder / "ready"
    write_frames(frames, RATE)
    words = [sys.executable, "-m", "tracer", "eth0", "--netns", host.path, "--ready-file", str(ready)]
    terminal = Terminal(words, folder)
    sender = None
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready.exists():
            if terminal.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"tracing did not begin: {terminal.said}")
            time.sleep(0.02)
        sender = Sender(host, frames, 600)
        load = Load(terminal, sender, quick)
        rows = _under(load, quick)
    finally:
        if sender is not None:
            sender.close()
        terminal.close()
    end = terminal.said.strip().splitlines()[-1]
    rows.insert(0, first_paint)
    rows.append(Row("the load: frames not sent, time left out; what the run says at its end",
                    f"{sender.failed}, {sender.left_out * 2} ms; {end}"))  # fmt: skip
    return rows


def _under(load: Load, quick: bool) -> list[Row]:
    load.seen(100_000)
    first, _ = load.memory_now("100,000 handshakes seen")
    load.seen(120_000)
    at = [200_000, 300_000] if quick else [500_000, 1_000_000]
    overview = load.cpu("CPU, 20,000 a second and 100,000 held, overview")
    memory, growth = load.memory(at)
    load.terminal.press(b"2", SCREENS[b"2"])
    listed = load.cpu("CPU, the same, handshake list (following)")
    keys = load.answers()
    last, _ = load.memory_now(f"{load.sender.begun:,} handshakes seen, all screens and sorts shown")
    grown = Row(f"growth of the dashboard's process from {at[0]:,} to {at[1]:,}", f"{100 * (growth - 1):+.1f} %",
                f"below {100 * (GROWTH_TARGET - 1):.0f} %", growth < GROWTH_TARGET)  # fmt: skip
    return [overview, listed, *keys, first, *memory, grown, last]
