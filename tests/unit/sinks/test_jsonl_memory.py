"""The JSON lines sink keeps no memory of what it wrote."""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

from tests.support.rows import INTERFACES, golden
from tracer.encode.composer import PART_MAX, Composer
from tracer.handshake.batch import Batch, decode
from tracer.handshake.syn_payloads import SynPayloads
from tracer.handshake.vantage import LocalSet
from tracer.sinks.jsonl import JsonLines
from tracer.sinks.stream import Stream


def recorded() -> list[Batch]:
    """The recorded lab, judged."""
    payloads = SynPayloads.of(golden().payloads)
    return [decode(events, LocalSet(), payloads) for events, _ in golden().batches]


def living() -> int:
    gc.collect()
    return sys.getallocatedblocks()  # not gc.get_objects(), which does not see records


def test_nothing_of_a_batch_is_kept() -> None:
    batches = recorded()
    sink = JsonLines(Stream(os.open(os.devnull, os.O_WRONLY), "nowhere"), Composer(INTERFACES))
    for batch in batches:  # fills the caches that stay
        sink.write(batch)
    before = living()
    turns = 4
    for _ in range(turns):
        for batch in batches:
            sink.write(batch)
    assert living() - before < turns * len(batches) // 10, "an object stays for every tenth batch"
    sink.close(None)


def test_a_line_a_record_across_parts(tmp_path: Path) -> None:
    batch = recorded()[0]
    sink = JsonLines(Stream.create(tmp_path / "lines"), Composer(INTERFACES))
    times = PART_MAX // len(batch) + 2
    whole = decode(batch.events.repeat(times), LocalSet(), batch.payloads)
    assert len(whole) > PART_MAX
    sink.write(whole)
    sink.close(None)
    lines = (tmp_path / "lines").read_bytes().splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert ids == [f"{one:016x}" for one in whole.events["id"].tolist()]
