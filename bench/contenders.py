"""What is measured side by side: nothing, tfotrace in its forms, and the tools people would use otherwise."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.common import cpu_seconds, process_tree
from tests.support.load import Host, Traced

PATIENCE_S = 30.0
AGGREGATED = (sys.executable, "-m", "bench.aggregated")
SYNS = "tcp[tcpflags] & tcp-syn != 0"
_STATES = 'tracepoint:sock:inet_sock_set_state { @[args->newstate] = count(); } BEGIN { printf("attached\\n"); }'


class NotHereError(Exception):
    """The tool does not run on this machine; the text says why."""


@dataclass(slots=True)
class Running:
    """A contender at work: its processes; after the end whether something was lost, as far as it says, and what."""

    pids: Sequence[int] = ()
    losses: str = ""
    lost: bool = False

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds(self.pids)


@dataclass(frozen=True, slots=True)
class Contender:
    """One of them. `words` is a command, or for tfotrace (`own`) its options."""

    name: str
    words: tuple[str, ...] = ()
    ready: str = ""  # what it says when it has attached
    launcher: tuple[str, ...] = ()  # of tfotrace
    own: bool = False

    @contextmanager
    def start(self, host: Host) -> Iterator[Running]:
        """It watches the host's eth0 inside; ended whatever happens.

        Raises:
            NotHereError: it ends instead of attaching.
        """
        with _tfotrace(self, host) if self.own else _tool(self, host) as running:
            yield running


@contextmanager
def _tfotrace(one: Contender, host: Host) -> Iterator[Running]:
    launcher = one.launcher or (sys.executable, "-m", "tracer")
    run = Traced(host, *one.words, record=False, launcher=launcher)
    try:
        run.wait_ready()
        running = Running(process_tree(run.process.pid))
        yield running
        run.process.send_signal(signal.SIGINT)
        run.process.wait(PATIENCE_S)
        running.losses = run.narration.strip().splitlines()[-1].removeprefix("tfotrace: ")
        running.lost = running.losses != "nothing lost"
    finally:
        run.close()


@contextmanager
def _tool(one: Contender, host: Host) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="tfobench-") as folder:
        said = Path(folder) / "said"
        words = [word.format(folder=folder) for word in one.words]
        with open(said, "wb") as err:
            try:
                process = subprocess.Popen(
                    ["nsenter", f"--net={host.path}", *words],
                    stdin=subprocess.DEVNULL, stdout=err if one.ready == "attached" else subprocess.DEVNULL, stderr=err,
                )  # fmt: skip
            except FileNotFoundError as error:
                raise NotHereError(str(error)) from None
        try:
            _await(one.ready, said, process)
            running = Running(process_tree(process.pid))
            yield running
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            dropped = re.findall(r"(\d+) packets? dropped", said.read_text(errors="replace"))
            running.losses = f"lost {dropped[-1]}" if dropped else ""
            running.lost = bool(dropped) and dropped[-1] != "0"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _await(word: str, said: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while word not in said.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
            telling = [line for line in lines if re.search("rror|nable|not found|No such", line)]
            raise NotHereError((telling or lines or ["it ended without a word"])[0].strip()[:120])
        time.sleep(0.01)


TFOTRACE = Contender("tfotrace, TCX, records aggregated", launcher=AGGREGATED, own=True)
TFOTRACE_HOOKS = [
    Contender("tfotrace, generic XDP, records aggregated", ("--hook", "xdp-generic"), launcher=AGGREGATED, own=True),
    Contender("tfotrace, native XDP, records aggregated", ("--hook", "xdp-native"), launcher=AGGREGATED, own=True),
]
TFOTRACE_JSON = Contender("tfotrace, TCX, --json >/dev/null", own=True)
TCPDUMP_SYNS = Contender(
    "tcpdump -w FILE, SYNs only", ("tcpdump", "-ni", "eth0", "-w", "{folder}/pcap", SYNS), "listening on"
)
TCPDUMP_ALL = Contender(
    "tcpdump -w FILE, everything", ("tcpdump", "-ni", "eth0", "-w", "{folder}/pcap"), "listening on"
)
TSHARK = Contender(
    "tshark -T ek >/dev/null, SYNs only", ("tshark", "-ni", "eth0", "-l", "-T", "ek", "-f", SYNS), "Capturing on"
)
BCC_AND_BPFTRACE = [
    Contender("tcpconnect (bcc)", ("tcpconnect-bpfcc",), "attached"),
    Contender("tcplife (bcc)", ("tcplife-bpfcc",), "attached"),
    Contender("bpftrace, inet_sock_set_state", ("bpftrace", "-e", _STATES), "attached"),
]
