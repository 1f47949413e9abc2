"""`tfotrace doctor` hints at listeners in other network namespaces, as containers have them."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.support.doctor import NOBODY, find, has
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S
from tests.support.tracing import COMMAND, run, with_run_dir
from tracer.doctor.model import Level, Report
from tracer.doctor.namespaces import findings, look

pytestmark = pytest.mark.root

# A process in each namespace, listening at an address or ("-") not, and then a command; its end ends them all.
_HOST = """
import os, signal, socket, subprocess, sys
from tracer.linux import netns
words = sys.argv[1:]
while words[0] != "--":
    path, address, words = words[0], words[1], words[2:]
    ready, say = os.pipe()
    if os.fork() == 0:
        netns.enter(path)
        if address != "-":
            listener = socket.create_server((address, 8080))
        os.write(say, b".")
        signal.pause()
    assert os.read(ready, 1) == b"."
sys.exit(subprocess.run(words[1:]).returncode)
"""
# processes of other tests are not visible here
_ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-I", "-c", _HOST)


@pytest.fixture
def boxes() -> Iterator[list[NetBox]]:
    with ExitStack() as stack:
        found = []
        for _ in range(4):
            box = NetBox()
            stack.callback(box.close)
            box.run("ip", "link", "set", "lo", "up")
            found.append(box)
        yield found


def doctor(folder: Path, placed: list[str], *words: str, command: tuple[str, ...] = COMMAND) -> Report:
    prefix = [*with_run_dir(folder), *_ALONE, *placed, "--"]
    done = run("doctor", "--json", *words, prefix=prefix, command=command)
    assert done.said == []
    return msgspec.json.decode(done.out, type=Report, strict=True)


def test_listeners_of_containers(boxes: list[NetBox], tmp_path: Path) -> None:
    hidden, two, silent, own = boxes
    placed = [hidden.path, "127.0.0.1", two.path, "0.0.0.0", two.path, "-", silent.path, "-"]
    report = doctor(tmp_path / "run", placed)
    hint = find(report, "listeners", "other_namespaces")
    pid = hint.text.partition("(pid ")[2].partition(")")[0]
    name = Path(sys.executable).name
    assert hint.text == f"2 other network namespaces have listeners, e.g. {name} (pid {pid}) at 0.0.0.0:8080"
    assert (hint.level, hint.command) == (Level.INFO, f"{shlex.join(COMMAND)} doctor --netns pid:{pid}")

    report = doctor(tmp_path / "run", placed, "--netns", own.path)
    assert not has(report, "listeners", "other_namespaces"), "who names a namespace knows that there are others"
    report = doctor(tmp_path / "run", placed, command=NOBODY)
    assert not has(report, "listeners", "other_namespaces"), "these are the processes of somebody else"
    report = doctor(tmp_path / "run", [silent.path, "-"])
    assert not has(report, "listeners", "other_namespaces")


def test_the_advice_leads_to_that_namespace(boxes: list[NetBox], tmp_path: Path) -> None:
    report = doctor(tmp_path / "run", [boxes[0].path, "0.0.0.0"])
    hint = find(report, "listeners", "other_namespaces")
    assert hint.text.startswith("1 other network namespace has listeners, e.g. ")
    assert hint.command is not None
    # the processes have their numbers again: the same are started in the same order
    (where,) = (word for word in shlex.split(hint.command) if word.startswith("pid:"))
    (listener,) = doctor(tmp_path / "run", [boxes[0].path, "0.0.0.0"], "--netns", where).listeners
    assert (listener.ip, listener.port) == ("0.0.0.0", 8080)
    assert f"pid:{listener.processes[0].pid}" == where


@contextmanager
def sleeping(box: NetBox) -> Iterator[int]:
    with subprocess.Popen(box.command("sleep", "60")) as process:
        try:
            there, inside = f"/proc/{process.pid}/ns/net", os.stat(box.path).st_ino
            wait_until(lambda: os.stat(there).st_ino == inside, "the process is in its namespace")
            yield process.pid
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE_S)


def test_it_stops_and_says_so(boxes: list[NetBox]) -> None:
    with ExitStack() as stack:
        for box in boxes:
            stack.enter_context(sleeping(box))
            with box.inside():
                stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        found = look(most=3)
        assert (found.looked_at, found.stopped) == (3, True)
        found = look(longest_s=-1)
        assert (found.looked_at, found.with_listeners, found.stopped) == (0, 0, True)
        (said,) = findings(found)
        assert "there are more, not looked at" in said.text


def test_a_listener_of_a_process_elsewhere(boxes: list[NetBox]) -> None:
    """A container's DNS listens in there, but is a process of the host's; `--netns` takes any process in there."""
    box = boxes[0]
    with box.inside():
        listener = socket.create_server(("127.0.0.1", 0))
    with listener, sleeping(box) as pid:
        found = look()
        assert found.example is not None
        assert found.example.pid != os.getpid()
        (said,) = findings(found)
        if found.with_listeners == 1:  # no other test runs at the same time
            assert (found.example.name, found.example.pid) == (None, pid)
            port = listener.getsockname()[1]
            assert said.text == f"1 other network namespace has listeners, e.g. 127.0.0.1:{port}"
