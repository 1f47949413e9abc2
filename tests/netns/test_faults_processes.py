"""Stopped processes, readers that do not read, lack of memory: losses are counted and bounded, and the run recovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.events import event_dtype
from tests.support.hosts import WIRE, service, two_hosts
from tests.support.load import PATIENCE_S, Host, Records, Wire, traced, wire
from tests.support.longer import either
from tests.support.netbox import wait_until
from tests.support.tracing import CHECKOUT, assert_balanced, tracing

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

RING_RECORDS = (8 << 20) // (event_dtype().itemsize + 8)  # what 8 MiB hold, each with its header
BURST = 36_000
STOPPED_S = either(0.0, 60.0)  # at the least; the burst takes its time too
GROWTH_MAX = 100 << 20  # bytes: 8 MiB that wait, one batch, and what Python makes of both
EXTRA = 1 << 20  # address space that the user part may still take: less than a full ring needs


@pytest.fixture(scope="module")
def hosts() -> Iterator[Wire]:
    with wire() as hosts:
        yield hosts


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> int:
    """Private memory of a process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


def programs(host: Host) -> int:
    """How many tc programs are on its interface."""
    index = json.loads(host.run("ip", "-j", "link", "show", "eth0"))[0]["ifindex"]
    program = f"from tests.support.hooks import tc_programs\nprint(len(tc_programs({index})))"
    words = ["nsenter", f"--net={host.path}", sys.executable, "-c", program]
    return int(subprocess.run(words, capture_output=True, check=True, cwd=CHECKOUT).stdout)


def assert_exact(records: Records, made: int, least_lost: int) -> None:
    """Everything that was made is either shown or counted as lost."""
    sheet = records.end["balance"]
    assert sheet["opened"] == made
    assert sheet["opened"] == sum(sheet[name] for name in ("emitted", "lost", "evicted", "suppressed", "still_open"))
    assert sheet["still_open"] == sheet["dropped"] == 0
    assert sheet["received"] == sheet["emitted"] == len(records.handshakes)
    assert sheet["lost"] >= least_lost


@pytest.mark.parametrize("who", ["the user part", "both parts"])
def test_stopped_and_continued_what_is_lost_is_counted(hosts: Wire, who: str) -> None:
    with traced(hosts.client) as run:
        first = hosts.handshakes(1000)["connections"]
        stopped = [run.process.pid, *(children(run.process.pid) if who == "both parts" else [])]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        first += hosts.handshakes(BURST, processes=2, tfo_percent=50)["connections"]
        time.sleep(max(0.0, began + STOPPED_S - time.monotonic()))
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: "handshakes are being lost" in run.narration, "a word on losses", PATIENCE_S)
        first += hosts.handshakes(1000)["connections"]
        records = run.stop()
    assert records.exit_code == 0
    assert_exact(records, first, BURST - RING_RECORDS - 2000)
    assert f"{records.end['balance']['lost']:,} ring full" in records.narration.splitlines()[-1]
    assert any(one["event"] == "notice" and one["kind"] == "losses" for one in records.others)
    assert len(records.handshakes) > RING_RECORDS * 0.8  # and those in the ring have waited


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that whoever it was left to has not looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z"
    except FileNotFoundError:
        return True


def test_a_root_part_that_is_stopped_does_not_hold_the_user_part(hosts: Wire) -> None:
    with traced(hosts.client) as run:
        hosts.handshakes(100)
        (root_part,) = children(run.process.pid)
        os.kill(root_part, signal.SIGSTOP)
        try:
            hosts.handshakes(100)  # records go on
            run.process.send_signal(signal.SIGINT)
            assert run.process.wait(2 * PATIENCE_S) == 4, run.narration
            last = run.narration.splitlines()[-1]
            assert f"the root part is stopped (process {root_part})" in last
            assert f"kill -CONT {root_part}" in last
        finally:
            os.kill(root_part, signal.SIGCONT)
        wait_until(lambda: has_ended(root_part), "the root part to end", PATIENCE_S)
        assert programs(hosts.client) == 0


# --- a reader that stops ---


@dataclass
class Piped:
    """A run whose standard output is a pipe that nobody reads before read()."""

    process: subprocess.Popen[bytes]
    said: Path
    file: Path
    lines: list[bytes] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def handshakes_in_file(self) -> list[bytes]:
        return [line for line in self.file.read_bytes().splitlines(True) if b'"event":"handshake"' in line]

    def is_up_to_date(self, made: int) -> bool:
        """Has the reader seen the newest handshake?"""
        wait_until(lambda: len(self.handshakes_in_file()) == made, "every line in the file", PATIENCE_S)
        return self.handshakes_in_file()[-1] in self.lines[-5:]

    @property
    def narration(self) -> str:
        return self.said.read_text()


@contextmanager
def unread(host: Host, folder: Path) -> Iterator[Piped]:
    ready, file, said = folder / "ready", folder / "file.jsonl", folder / "said"
    words = [sys.executable, "-m", "tracer", "eth0", "--json", "--netns", host.path, "-w", str(file)]
    with said.open("wb") as err:
        process = subprocess.Popen(
            [*words, "--ready-file", str(ready)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err,
            cwd=CHECKOUT,
        )  # fmt: skip
    try:
        wait_until(ready.exists, "the ready file", PATIENCE_S)
        yield Piped(process, said, file)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_reader_who_stops_is_waited_for_in_bounded_memory_and_holds_nothing_up(hosts: Wire, tmp_path: Path) -> None:
    with unread(hosts.client, tmp_path) as run:
        before = resident(run.process.pid)
        made = sum(hosts.handshakes(14_000)["connections"] for _ in range(either(1, 20)))
        wait_until(lambda: run.file.read_bytes().count(b"\n") > made, "every line in the file", PATIENCE_S)
        wait_until(lambda: "not written" in run.narration, "a word on losses", PATIENCE_S)
        assert resident(run.process.pid) - before < GROWTH_MAX
        # the reader goes on, and so do the records
        reader = threading.Thread(target=run.read)
        reader.start()
        wanted = 0

        def is_up_to_date() -> bool:
            nonlocal wanted
            wanted += hosts.handshakes(1)["connections"]
            return run.is_up_to_date(made + wanted)

        wait_until(is_up_to_date, "the reader to have the newest handshake", PATIENCE_S)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(PATIENCE_S) == 0
        reader.join()
    lines = [json.loads(line) for line in run.lines]
    shown = [one["id"] for one in lines if one["event"] == "handshake"]
    whole = [json.loads(line) for line in run.file.read_bytes().splitlines()]
    assert lines[-1] == whole[-1]
    sheet = lines[-1]["balance"]
    assert (sheet["opened"], sheet["emitted"], sheet["lost"]) == (made + wanted, made + wanted, 0)
    assert sheet["dropped"] == made + wanted - len(shown) > 0
    assert f"{sheet['dropped']:,} not written" in run.narration.splitlines()[-1]
    everything = [one["id"] for one in whole if one["event"] == "handshake"]
    assert len(everything) == made + wanted
    assert shown == [one for one in everything if one in set(shown)]
    assert shown[-1] == everything[-1]


def test_a_reader_who_stopped_does_not_keep_it_from_ending(hosts: Wire, tmp_path: Path) -> None:
    with unread(hosts.client, tmp_path) as run:
        made = hosts.handshakes(5000)["connections"]
        wait_until(lambda: run.file.read_bytes().count(b"\n") > made, "every line in the file", PATIENCE_S)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(PATIENCE_S) == 4
        assert run.narration.count("standard output: the reader stopped reading, so the last ") == 1
        assert "Traceback" not in run.narration
    assert json.loads(run.file.read_bytes().splitlines()[-1])["event"] == "end"
    assert programs(hosts.client) == 0


# --- memory ---


def test_out_of_memory_in_the_user_part_ends_the_run_and_detaches(hosts: Wire) -> None:
    with traced(hosts.client) as run:
        pid = run.process.pid
        size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        root_parts = children(pid)
        os.kill(pid, signal.SIGSTOP)  # so that a full ring meets it at once
        hosts.handshakes(BURST, processes=2, tfo_percent=50)
        subprocess.run(["prlimit", "--pid", str(pid), f"--as={size + EXTRA}"], check=True)
        os.kill(pid, signal.SIGCONT)
        run.process.wait(PATIENCE_S)
        wait_until(
            lambda: not any(Path(f"/proc/{one}").exists() for one in root_parts), "the root part to end", PATIENCE_S
        )
        assert programs(hosts.client) == 0
        assert run.process.returncode == 4, run.narration
        assert run.narration.splitlines()[-1].startswith("tfotrace: out of memory: everything is detached")
        assert all(line.startswith("tfotrace: ") for line in run.narration.splitlines()), run.narration


def test_a_small_limit_of_locked_memory(tmp_path: Path) -> None:
    """From 5.11 on maps are not locked memory; before that the root part would have to raise the limit."""
    limit = ["prlimit", "--memlock=65536:65536", "--"]
    with (
        two_hosts() as pair,
        tracing(WIRE, "--json", "--netns", pair.client.name, prefix=limit) as run,
        service(pair.client, pair.server) as web,
    ):
        assert run.wait_port(web.exchange()).handshake.result == "established"
        assert run.stop() == 0
        assert_balanced(run.end)
