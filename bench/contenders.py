"""What is compared: nothing, variants of tfotrace, and the tools that people would use instead."""

from __future__ import annotations

import contextlib
import os
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

from bench.common import ROOT, cpu_seconds, process_tree, program_ids
from tests.support.load import Host, Traced
from tracer.linux import bpfsys

PATIENCE_S = 30.0
CATCH_UP_S = 4.0
IDLE = 0.1  # of a core: an idle contender stays below this
AGGREGATED = (sys.executable, "-m", "bench.aggregated")
SYNS = "tcp[tcpflags] & tcp-syn != 0"
_STATES = 'tracepoint:sock:inet_sock_set_state { @[args->newstate] = count(); } BEGIN { printf("attached\\n"); }'


class NotHereError(Exception):
    """The tool does not run on this machine; the text says why."""


@dataclass(slots=True)
class Running:
    """A running contender: its processes; after the end what it lost, as far as it says."""

    pids: Sequence[int] = ()
    losses: str = ""
    lost: bool = False

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds(self.pids)

    def caught_up(self) -> bool:
        """Wait until it is idle. False if it is still busy after CATCH_UP_S."""
        deadline = time.monotonic() + CATCH_UP_S
        used, step = self.cpu_seconds(), 0.2
        while time.monotonic() < deadline:
            time.sleep(step)
            before, used = used, self.cpu_seconds()
            if used - before < IDLE * step:
                return True
        return False

    def bpf_programs(self) -> list[int]:
        """Ids of its BPF programs in the packet path. The sweep is not one: it counts as work of its process."""
        found = ((number, bpfsys.program_info_by_id(number)) for number in program_ids(self.pids))
        return [number for number, info in found if info is not None and info.name != "sweep"]


@dataclass(frozen=True, slots=True)
class Contender:
    """A contender. `words` is a command, or for tfotrace (`own`) its options."""

    name: str
    words: tuple[str, ...] = ()
    ready: str = ""  # what it prints when it has attached
    perf_events: int = 0  # for those that print nothing: how many it has open then
    launcher: tuple[str, ...] = ()  # of tfotrace
    own: bool = False

    @contextmanager
    def start(self, host: Host) -> Iterator[Running]:
        """Let it watch the host's eth0 within the context; always ended.

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
        words = [word.replace("{folder}", folder) for word in one.words]
        with open(said, "wb") as err:
            try:
                process = subprocess.Popen(
                    ["nsenter", f"--net={host.path}", *words],
                    stdin=subprocess.DEVNULL, stdout=err if one.ready == "attached" else subprocess.DEVNULL, stderr=err,
                )  # fmt: skip
            except FileNotFoundError as error:
                raise NotHereError(str(error)) from None
        try:
            _await(one, said, process)
            running = Running(process_tree(process.pid))
            yield running
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            text = said.read_text(errors="replace")
            # tcpdump and tshark print the sum at the end, bcc a line each time
            lost = sum(map(int, re.findall(r"(\d+) packets? dropped", text)[-1:]))
            lost += sum(map(int, re.findall(r"[Ll]ost (\d+) (?:samples|events)", text)))
            running.losses, running.lost = f"lost {lost:,}", lost > 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _await(one: Contender, said: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not _is_ready(one, said, process.pid):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
            telling = [line for line in lines if re.search("rror|nable|not found|No such", line)]
            why = (telling or lines or ["it ended without a word"])[0].strip()[:120]
            raise NotHereError("this kernel has no kprobes" if "kprobe_events: No such" in why else why)
        time.sleep(0.01)


def _is_ready(one: Contender, said: Path, pid: int) -> bool:
    if not one.perf_events:
        return one.ready in said.read_text(errors="replace")
    opened = 0
    with contextlib.suppress(OSError):  # descriptors come and go
        for fd in os.scandir(f"/proc/{pid}/fd"):
            opened += os.readlink(fd.path) == "anon_inode:[perf_event]"
    return opened >= one.perf_events


TFOTRACE = Contender("tfotrace, TCX, records aggregated", launcher=AGGREGATED, own=True)
TFOTRACE_HOOKS = [
    Contender("tfotrace, clsact, records aggregated", launcher=(*AGGREGATED, "--clsact"), own=True),
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
# in their own mount namespace; they see the sockets of both hosts and all others
_TRACING = ("unshare", "--mount", str(ROOT / "bench" / "with_tracing.sh"))
_CPUS = os.cpu_count() or 1
BCC_AND_BPFTRACE = [
    Contender("tcpconnect (bcc) >/dev/null", (*_TRACING, "tcpconnect-bpfcc"), perf_events=1 + 2 * _CPUS),
    Contender("tcplife (bcc) >/dev/null", (*_TRACING, "tcplife-bpfcc"), perf_events=1 + 2 * _CPUS),
    Contender("bpftrace, inet_sock_set_state counted", (*_TRACING, "bpftrace", "-e", _STATES), "attached"),
]
