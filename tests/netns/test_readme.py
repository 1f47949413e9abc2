"""README's commands run as they stand there: on a host of the test's own that has an eth0 and traffic."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.hosts import ADDRESSES, TCP_FASTOPEN, Hosts, Service
from tests.support.patience import LONG_S, PATIENCE_S, SHORT_S
from tests.support.tracing import CHECKOUT, members
from tracer.cli.arguments import COMMANDS

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# the beginnings of commands that cannot run here, and why
NOT_RUN = {
    "git clone": "the network is not the test's",
    "sudo make install": "it changes the host",
    "sudo systemctl": "it takes a host that systemd runs; test_e2e_unit.py has the unit",
    "make deb": "it asks a package index; make deb-check tries it",
    "sudo make test": "it would run this test",
}
# what these say once they trace, and that nothing but a signal ends them
ENDLESS = ("tracing ", "tcpdump: listening on ")
EMPTY = 24  # bytes: the head of a capture


def commands() -> list[str]:
    """Every line of README's shell blocks, without comments."""
    text = "".join(BLOCK.findall((CHECKOUT / "README.md").read_text()))
    return [re.sub(r"\s+#.*", "", line) for line in text.splitlines()]


def runnable() -> list[str]:
    """Those that can run here. One whose command is not built yet is left out until it is."""
    found = [line for line in commands() if not line.startswith(tuple(NOT_RUN))]
    return [line for line in found if "tfotrace report" not in line or "report" in COMMANDS]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    try:
        hosts.join("eth0")
        yield hosts
    finally:
        hosts.close()


@pytest.fixture
def site(hosts: Hosts) -> Iterator[Service]:
    """A web server at the other end of eth0."""
    with hosts.server.inside():
        listener = socket.socket()
    with listener:
        listener.settimeout(SHORT_S)
        listener.bind((ADDRESSES[4][1], 443))
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
        listener.listen(16)
        yield Service(hosts.client, listener)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout as README has it: ./tfotrace, and a sudo for who is root already."""
    (tmp_path / "bin").mkdir()
    start = f'#!/bin/sh\nexport TFOTRACE_STARTED_AS="$0"\nexec {sys.executable} -I -m tracer "$@"\n'
    for path, text in (("tfotrace", start), ("bin/sudo", '#!/bin/sh\nexec "$@"\n')):
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o755)
    return tmp_path


def browse(site: Service) -> None:
    """Connections that work, and one that is refused."""
    for _ in range(3):
        site.exchange(fast_open=True)
    with site.client.inside():
        refused = socket.socket()
    with refused, pytest.raises(ConnectionRefusedError):
        refused.connect((site.address[0], 9))


class Typed:
    """One of README's commands, running."""

    def __init__(self, line: str, hosts: Hosts, folder: Path) -> None:
        self.line, self.folder = line, folder
        self.out, self.err = folder / "out", folder / "err"
        environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                hosts.client.command("bash", "-c", f"exec {line}"), cwd=folder, env=environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip

    def wait(self, site: Service) -> int:
        """Give it traffic once it traces and then end it as ctrl+c does; its exit status."""
        deadline = time.monotonic() + LONG_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"{self.line}: {self.said()}"
            if any(words in self.said() for words in ENDLESS):
                if " demo" not in self.line:
                    browse(site)
                while not self._has_output():
                    assert time.monotonic() < deadline, f"{self.line}: nothing is written: {self.said()}"
                    assert self.process.poll() is None, f"{self.line}: {self.said()}"
                    time.sleep(0.02)
                    if "tcpdump" in self.line:  # which writes when 4 KiB are full
                        browse(site)
                os.killpg(self.process.pid, signal.SIGINT)
                return self.process.wait(PATIENCE_S)
            time.sleep(0.02)
        return self.process.returncode

    def _has_output(self) -> bool:
        """Has it written what this traffic makes it write?"""
        if "cause ==" in self.line:
            return True  # nothing that it lets through
        written = re.findall(r"(?:-w|>) (\S+)", self.line)
        files = [self.folder / name for name in written] or [self.out]
        return all(path.exists() and path.stat().st_size > EMPTY for path in files)

    def said(self) -> str:
        return self.err.read_text()

    def kill(self) -> None:
        for pid in members(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def test_commands_that_are_not_run_are_in_the_readme() -> None:
    found = commands()
    assert all(any(line.startswith(one) for line in found) for one in NOT_RUN)
    assert len(runnable()) >= 10
    assert not [line for line in runnable() if not re.match(r"(sudo )?(\./tfotrace|tcpdump) ", line)]


def test_the_commands_of_the_readme_run(hosts: Hosts, site: Service, folder: Path) -> None:
    for line in runnable():
        typed = Typed(line, hosts, folder)
        try:
            code = typed.wait(site)
        finally:
            typed.kill()
        assert code == 0, f"{line}: {typed.said()}"
        assert "Traceback" not in typed.said(), line
        for name in re.findall(r"(?:-w|-o|>) (\S+)", line):
            assert (folder / name).stat().st_size > EMPTY, f"{line}: {name} is empty"
        if " replay " in line:
            assert typed.out.read_bytes(), f"{line}: nothing is printed"
    assert b'"event":"handshake"' in (folder / "events.jsonl").read_bytes()
