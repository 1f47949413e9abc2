"""The dashboard as a real process whose terminal goes away: it ends by itself, as asked, and leaves nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.leftovers import find_leftovers
from tests.support.lines import as_lines, run_records
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S
from tests.support.tracing import COMMAND, members, with_run_dir

# run in front of a command: makes its standard input its controlling terminal
_CONTROLLED = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A pseudo-terminal with a dashboard that has painted, in a session of its own."""

    def __init__(self, words: Sequence[str], *, controlling: bool) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        taking = [sys.executable, "-c", _CONTROLLED] if controlling else []
        self.process = subprocess.Popen(
            [*taking, *words], stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd="/",
            env=os.environ | {"TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(slave)

    def wait_for(self, text: bytes) -> None:
        seen = b""
        while text not in seen.lower():
            ready, _, _ = select.select([self._master], [], [], PATIENCE_S)
            assert ready, seen[-500:]
            seen += os.read(self._master, 1 << 16)

    def is_full(self) -> bool:
        """Does a thread of the dashboard wait to write?"""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return any((one / "wchan").read_text() == "wait_woken" for one in tasks.iterdir())

    def press(self) -> None:
        """Press a key that makes it paint."""
        os.write(self._master, b"?\x1b")

    def close(self) -> None:
        """Take it away."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def ends(self) -> int:
        """The exit status, once no process of the session is left."""
        status = self.process.wait(PATIENCE_S)
        assert members(self.process.pid) == []
        return status

    def kill(self) -> None:
        self.close()
        for pid in members(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def terminal(*words: str, controlling: bool = False) -> Iterator[Terminal]:
    found = Terminal(words, controlling=controlling)
    try:
        found.wait_for(b"overview")
        yield found
    finally:
        found.kill()


@pytest.fixture
def recording(tmp_path: Path) -> str:
    (tmp_path / "events.jsonl").write_bytes(as_lines(run_records()))
    return str(tmp_path / "events.jsonl")


controlling = pytest.mark.parametrize("controlling", [True, False], ids=["controlling", "not_controlling"])


@controlling
def test_a_replay_ends(recording: str, controlling: bool) -> None:
    with terminal(*COMMAND, "replay", recording, controlling=controlling) as screen:
        screen.close()
        assert screen.ends() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_in_the_same_moment(recording: str, number: int) -> None:
    with terminal(*COMMAND, "replay", recording) as screen:
        screen.close()
        screen.process.send_signal(number)
        assert screen.ends() == 0


def test_a_terminal_that_nobody_reads_keeps_no_signal_away(recording: str) -> None:
    with terminal(*COMMAND, "replay", recording) as screen:
        wait_until(
            lambda: screen.press() or screen.is_full(),  # type: ignore[func-returns-value]
            "output that waits for a reader",
            PATIENCE_S,
        )
        screen.process.send_signal(signal.SIGTERM)
        assert screen.ends() == 0


@pytest.mark.root
@controlling
def test_a_live_run_ends_and_leaves_nothing(tmp_path: Path, controlling: bool) -> None:
    box = NetBox()
    try:
        box.run("ip", "link", "set", "lo", "up")
        words = [*with_run_dir(tmp_path / "run"), *COMMAND, "lo", "--netns", box.name]
        with terminal(*words, controlling=controlling) as screen:
            screen.close()
            assert screen.ends() == 0
        assert find_leftovers(tmp_path / "run") == []
    finally:
        box.close()
