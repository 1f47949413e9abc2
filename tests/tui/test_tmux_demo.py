"""`tfotrace demo` in a real terminal (tmux): every screen, every key, resizing, leaving. Needs root."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.netbox import NetBox

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

CHECKOUT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0


class Terminal:
    """A separate tmux server with one window that runs `tfotrace demo` and then prints its exit status."""

    def __init__(self, folder: Path, width: int, height: int, words: str = "demo") -> None:
        assert shutil.which("tmux"), "tmux is missing: sudo make setup installs it"
        self._folder = folder
        self._socket = folder / "tmux"
        quoted = shlex.quote(str(folder))
        script = (
            f"cd {quoted}; trap : INT; stty -g >before; "
            f"{shlex.quote(str(CHECKOUT / 'tfotrace'))} {words} 2>stderr; echo $? >status; "
            "stty -g >after; echo LEFT; exec sleep 1000"
        )
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), script)

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self._socket), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    def keys(self, *names: str) -> None:
        """Press keys, by tmux's names."""
        self._tmux("send-keys", *names)

    def type(self, text: str) -> None:
        """Type a text."""
        self._tmux("send-keys", "-l", text)

    def resize(self, width: int, height: int) -> None:
        """Another size."""
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self) -> str:
        """What is on it."""
        return self._tmux("capture-pane", "-p")

    def until(self, holds: Callable[[str], object], what: str) -> str:
        """Wait for something to be on the screen."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            text = self.screen()
            if holds(text):
                return text
            if time.monotonic() >= deadline:
                state = self._tmux("display-message", "-p", "#{pane_width}x#{pane_height} #{pane_current_command}")
                pytest.fail(f"timed out waiting for {what}; {state} on the screen:\n{text}\n{self.said()}")
            time.sleep(0.1)

    def shows(self, words: str) -> str:
        """Wait for words."""
        return self.until(lambda text: words in text, words)

    def said(self) -> str:
        """Standard error."""
        path = self._folder / "stderr"
        return path.read_text() if path.exists() else ""

    def ended(self) -> int:
        """Wait for the end; returns the exit status. The terminal must be restored."""
        text = self.shows("LEFT")
        assert "Traceback" not in text + self.said()
        assert (self._folder / "after").read_text() == (self._folder / "before").read_text()
        assert self._tmux("display-message", "-p", "#{alternate_on} #{mouse_any_flag} #{cursor_flag}").split() == [
            "0", "0", "1"
        ]  # fmt: skip
        return int((self._folder / "status").read_text())

    def close(self) -> None:
        """End the programs of this server, and it."""
        subprocess.run(["tmux", "-S", str(self._socket), "kill-server"], check=False, capture_output=True, timeout=30)


@pytest.fixture(params=[(120, 40), (80, 24)], ids=["120x40", "80x24"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path, *request.param)
    yield made
    made.close()


def is_filled(text: str) -> bool:
    """Is there something on nearly every line?"""
    lines = text.splitlines()
    return sum(bool(line.strip(" │╭╮╰╯─")) for line in lines) > len(lines) * 0.5


def test_every_screen_and_key(terminal: Terminal, tmp_path: Path) -> None:
    terminal.until(lambda text: "Fast Open works" in text and is_filled(text), "the overview full of traffic")
    for key, words in (("3", "servers"), ("4", "Results of handshakes"), ("5", "Balance sheet"), ("2", "following")):
        terminal.keys(key)
        terminal.until(lambda text, words=words: words in text and is_filled(text), f"{words}, filled")
    terminal.keys("/")
    terminal.shows("filter:")
    terminal.type("group ==")
    terminal.shows("✗ not valid")
    terminal.type(" failed")
    terminal.shows("✓ valid")
    terminal.keys("Enter")
    # the list may be drawn once more as it was before the filter reaches it
    some = re.compile(r"(?<![\d,])([1-9][\d,]*) of (?!\1 )[\d,]+ shown")
    text = terminal.until(some.search, "some are shown, not all")
    assert not re.search(r"✓ (data acked|cookie granted)", text)
    terminal.keys("e")
    terminal.until(lambda _: list(tmp_path.glob("tfotrace-*.jsonl")), "an exported file")
    terminal.keys("Escape")
    terminal.until(lambda text: "filter:" not in text, "the filter is gone")
    terminal.keys("Down", "Down")
    terminal.shows("not following")
    terminal.keys("f")
    terminal.until(lambda text: "not following" not in text, "following again")
    terminal.keys("s")  # the list is by time at first
    terminal.shows("A to Z")
    terminal.keys("S")
    terminal.shows("Z to A")
    terminal.keys("Home", "Enter")
    terminal.until(lambda text: "SYN" in text and "client" in text and "server" in text, "a ladder")
    terminal.keys("n")
    terminal.shows("Handshake 2 of")
    terminal.keys("y")
    terminal.shows("copied handshake")
    terminal.keys("Escape")
    terminal.shows("Z to A")
    terminal.keys("c")
    terminal.shows("[x] Time")
    terminal.keys("Escape")
    terminal.until(lambda text: "[x] Time" not in text, "the list again")
    terminal.keys("Space")
    terminal.until(lambda text: re.search(r"paused \+[1-9]", text), "new ones counted while paused")
    terminal.keys("Space")
    terminal.until(lambda text: "paused" not in text, "going on")
    terminal.keys("?")
    terminal.shows("Help: Handshakes")
    terminal.keys("Escape")  # and no other key with it: that would be alt and this key
    terminal.until(lambda text: "Help: Handshakes" not in text, "the help is gone")
    terminal.keys("3")
    terminal.shows("servers")
    terminal.keys("Enter")
    terminal.until(lambda text: "server.ip ==" in text and "shown" in text, "the handshakes of a peer")
    terminal.keys("1")
    for _ in range(4):
        terminal.keys("t")
        terminal.shows("theme:")
    terminal.keys("x")
    terminal.shows("Forget all handshakes")
    terminal.keys("y")
    terminal.until(lambda text: "Forget all" not in text, "the overview after clearing")
    terminal.keys("C-p")
    terminal.shows("Search for commands")
    terminal.keys("Escape")
    terminal.until(lambda text: "Search for commands" not in text, "the palette is gone")
    terminal.resize(20, 5)
    terminal.shows("q Quit")
    terminal.resize(120, 40)
    terminal.shows("Why, and what to do")
    terminal.keys("q")
    assert terminal.ended() == 0
    assert re.search(r"[0-9] handshakes(: .*,)? in ", terminal.said())


@pytest.mark.parametrize("when", ["before traffic", "running", "in the filter"])
def test_ctrl_c_at_any_moment(tmp_path: Path, when: str) -> None:
    terminal = Terminal(tmp_path, 80, 24)
    try:
        terminal.shows("Why, and what to do")
        if when != "before traffic":
            terminal.shows("Fast Open works")
        if when == "in the filter":
            terminal.keys("2", "/")
            terminal.shows("filter:")
        terminal.keys("C-c")
        assert terminal.ended() == 0
    finally:
        terminal.close()


def test_the_interface_goes_while_the_dashboard_runs(tmp_path: Path) -> None:
    box = NetBox()
    terminal = None
    try:
        box.make_pair()
        terminal = Terminal(tmp_path, 100, 30, f"left --netns {box.path}")
        terminal.shows("left tcx")
        box.run("ip", "link", "del", "left")
        terminal.shows("the last traced interface has gone")
        terminal.keys("5")  # the view stays
        terminal.shows("Balance sheet")
        terminal.keys("q")
        assert terminal.ended() == 4
        assert "the last traced interface has gone" in terminal.said()
    finally:
        if terminal is not None:
            terminal.close()
        box.close()


def test_an_alarm_is_for_what_was_named_and_as_long_as_it_is_gone(tmp_path: Path) -> None:
    box = NetBox()
    terminals: list[Terminal] = []
    try:
        box.make_pair()
        box.make_pair("veth1", "veth2")
        for number, words in enumerate(("left right veth1", "any")):
            folder = tmp_path / str(number)
            folder.mkdir()
            terminals.append(Terminal(folder, 100, 30, f"{words} --netns {box.path}"))
            terminals[-1].until(lambda text: "veth1" in text and "tcx" in text, "the dashboard")
        named, any_of_them = terminals
        box.run("ip", "link", "del", "veth1")
        named.shows("Not traced now: veth1 (5 Health says why).")
        text = any_of_them.until(lambda text: "veth" not in text, "two interfaces")
        assert "Not traced" not in text
        box.make_pair("veth1", "veth3")
        named.until(lambda text: "Not traced" not in text and "veth1 by tcx" in text, "no alarm any more")
        text = any_of_them.until(lambda text: "veth3 by tcx" in text, "the new ones")
        assert "Not traced" not in text
        any_of_them.keys("5")
        any_of_them.shows("veth3 has appeared and is traced")
    finally:
        for terminal in terminals:
            terminal.close()
        box.close()
