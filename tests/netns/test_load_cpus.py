"""The SYN on one CPU, SYN-ACK and ACK on the other, at full rate: none twice, none missing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.cpus import two_cpus
from tests.support.load import Traced, Wire, assert_nothing_lost, traced, wire
from tests.support.patience import FACTOR

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300 * FACTOR)]

COUNT = 50_000
SYN_CPU, ANSWER_CPU = 0, 1


@pytest.fixture
def hosts() -> Iterator[Wire]:
    with two_cpus(), wire() as made:
        # the client sends its SYN from its own CPU; the server's answer, and so the client's ACK, come from the other
        made.server.receive_on_cpu(ANSWER_CPU)
        yield made


def counted_on(run: Traced, names: list[str]) -> dict[str, list[int]]:
    """The programs' counters, one value per CPU, from the beginning of the map "cpus"."""
    (cpus,) = [one["id"] for one in map(_map, _maps_of_children(run.process.pid)) if one["name"] == "cpus"]
    (element,) = _bpftool("map", "dump", "id", str(cpus))
    raw = [bytes(int(byte, 16) for byte in one["value"]) for one in element["values"]]
    return {
        name: [int.from_bytes(value[8 * place : 8 * place + 8], "little") for value in raw]
        for place, name in enumerate(names)
    }


def _maps_of_children(pid: int) -> set[int]:
    """Ids of the BPF maps that children of a process have open."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    found = set()
    for child in children.stdout.split():
        for info in Path(f"/proc/{child}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile: a look into /proc, say
                found |= {int(line.split()[1]) for line in info.read_text().splitlines() if line.startswith("map_id:")}
    return found


def _map(number: int) -> dict[str, Any]:
    return _bpftool("map", "show", "id", str(number))


def _bpftool(*words: str) -> Any:
    done = subprocess.run(["bpftool", "-j", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("tfo_percent", [0, 50])
def test_one_cpu_asks_the_other_answers(hosts: Wire, tfo_percent: int) -> None:
    with traced(hosts.client) as run:
        # struct counters begins with these, see bpf/event.h; checked against the sums of the run below
        names = ["opened", "emitted", "lost", "evicted_unanswered", "evicted_half_open", "evicted_awaiting_response",
                 "suppressed", "filtered", "packets", "syns", "synacks"]  # fmt: skip
        made = hosts.handshakes(COUNT, split=True, client_cpu=SYN_CPU, server_cpu=ANSWER_CPU, window=256,
                                tfo_percent=tfo_percent)  # fmt: skip
        assert made["answered"] == made["connections"] == COUNT
        by_cpu = counted_on(run, names)
        records = run.stop()
    assert_nothing_lost(records)
    assert len(records.handshakes) == COUNT
    assert records.count("handshake", "result") == {"established": COUNT}

    counters = records.end["counters"]
    sums = {name: sum(values) for name, values in by_cpu.items()}
    assert 0 <= counters["packets"] - sums.pop("packets") < 10  # neighbour discovery goes on meanwhile
    assert sums == {name: counters[name] for name in sums}
    syns, synacks = by_cpu["syns"], by_cpu["synacks"]
    assert syns[SYN_CPU] == sum(syns) >= COUNT
    assert synacks[ANSWER_CPU] == sum(synacks) >= COUNT
    # opened where the SYN went by, settled where the answer came
    assert by_cpu["opened"][SYN_CPU] == COUNT
    assert by_cpu["emitted"][ANSWER_CPU] > 0
