"""Which handshakes a report shows one by one."""

from __future__ import annotations

import numpy as np

from tests.support.rows import INTERFACES, random_batch
from tracer.encode.composer import Composer
from tracer.report.worst import KINDS_HELD, OF_EACH, SLOWEST, Worst, kinds
from tracer.vocabulary.vocabulary import HandshakeResult


def test_of_each_kind_few_at_different_servers() -> None:
    worst = Worst(Composer(INTERFACES))
    batches = [random_batch(seed, 500, peers=20) for seed in range(8)]
    for batch in batches:
        worst.add(batch)
    found = list(worst.kinds())
    assert 0 < len(found) <= KINDS_HELD
    counts = [one.seen for one in found]
    assert counts == sorted(counts, reverse=True)
    seen = np.concatenate([kinds(batch) for batch in batches])
    assert set(counts) <= set(np.unique(seen[seen >= 0], return_counts=True)[1].tolist())
    for one in found:
        servers = [(record.server.ip, record.server.port) for record in one.shown]
        assert 1 <= len(servers) == len(set(servers)) <= OF_EACH


def test_the_slowest_that_were_established() -> None:
    worst = Worst(Composer(INTERFACES))
    took: list[float] = []
    for seed in range(4):
        batch = random_batch(seed, 200)
        batch.events["result"] = HandshakeResult.ESTABLISHED
        batch.events["result"][::2] = HandshakeResult.REJECTED
        batch.causes.handshake_cause[:] = 0
        batch.verdicts.group[:] = 0  # so that none is shown for what it is
        batch.events["id"] = np.arange(seed * 200, seed * 200 + 200)
        batch.durations.connect_us[:] = np.random.default_rng(seed).uniform(1, 1e6, len(batch)).round(3)
        batch.durations.connect_us[::2] = 2e6  # of those that were refused
        took += batch.durations.connect_us[1::2].tolist()
        worst.add(batch)
    shown = [record.handshake.connect_us for record in worst.slowest()]
    assert shown == sorted(took, reverse=True)[:SLOWEST]
