"""Segments of the same few connections on several CPUs at once, with sweeps between: the sums must still agree."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import replace
from typing import Any

from tests.support.cpus import two_cpus
from tests.support.decoder import ACK, FIN
from tests.support.packets import Flow
from tests.support.sentences import C, from_client, from_server, icmp, rst, syn, synack
from tests.support.testrun import FAR_FUTURE_NS, Programs, Road, imbalance

FLOWS = 40
SEGMENTS = 40_000  # by each process: fewer records come of them than the ring holds
PROCESSES = 2


def segments(flow: Flow) -> list[bytes]:
    """Every kind of segment of a handshake, to be sent in any order."""
    packets = [
        syn(0, flow=flow),
        *(syn(0, isn, flow=flow) for isn in (2000, 300_000, 400_000)),  # two may be open at once
        synack(0, flow=flow),
        synack(0, flow=flow),
        from_client(0, flow=flow),
        from_server(0, data=1, flow=flow),
        from_client(0, flags=FIN | ACK, flow=flow),
        rst(0, flow=flow),
        icmp(0, 3, 1, flow=flow),
    ]
    return [packet.frame for packet in packets]


def storm(programs: Programs, number: int) -> int:
    """Start a process that sends segments at random; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[number % len(cpus)]})
        frames = [frame for port in range(FLOWS) for frame in segments(replace(C, sport=port))]
        order = random.Random(number)
        for _ in range(SEGMENTS):
            programs.run(Road.TC_INGRESS, order.choice(frames))
        status = 0
    finally:
        os._exit(status)


def test_sums_agree_after_a_storm(programs: Programs) -> None:
    before = programs.counters()
    statuses = []
    records: list[Any] = []
    with two_cpus():
        running = {storm(programs, number) for number in range(PROCESSES)}
        while running:
            programs.sweep(now_ns=FAR_FUTURE_NS if len(records) % 2 else 0)
            records.append(programs.events())
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in running:
                running.remove(pid)
                statuses.append(status)
    assert statuses == [0] * PROCESSES
    live = programs.sweep()
    assert imbalance(before, programs.counters(), live) == 0
    assert programs.sweep(flush=True) == 0
    after = programs.counters()
    assert imbalance(before, after, 0) == 0
    records.append(programs.events())
    assert sum(len(batch) for batch in records) == after["emitted"] - before["emitted"]
    assert after["packets"] - before["packets"] == PROCESSES * SEGMENTS
    # Each way of settling took part, and each record was whole.
    reasons = Counter(int(reason) for batch in records for reason in batch["reason"])
    assert {1, 2, 3, 5, 6} <= set(reasons)
    for batch in records:
        assert (batch["server_port"] == C.dport).all()
        assert (batch["client_port"] < FLOWS).all()
        assert (batch["result"] > 0).all()
    for index in range(programs.sets):
        assert programs.tags(index) == 0
