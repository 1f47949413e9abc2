"""The first record is `start`, whatever the root part says before."""

from __future__ import annotations

import pytest

from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.ipc.messages import Counters, Notice, Ready, channel_pair
from tracer.records.run import End, NoticeRecord, Start, Stats
from tracer.ring.open import Sources
from tracer.run.fanout import Fanout
from tracer.run.pipeline import Pipeline, RunOptions
from tracer.run.stop import StopRequest
from tracer.vocabulary.vocabulary import Transport


class Told:
    """A sink that lists what it is given."""

    def __init__(self) -> None:
        self.list: list[str] = []

    def start(self, _record: Start) -> None:
        self.list.append("start")

    def write(self, _batch: Batch) -> None:
        self.list.append("write")

    def notice(self, record: NoticeRecord) -> None:
        self.list.append(record.kind)

    def stats(self, _record: Stats) -> None:
        self.list.append("stats")

    def tick(self) -> None: ...

    def close(self, _record: End | None) -> None:
        self.list.append("end")


def test_what_is_noticed_before_start_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the local addresses are awaited, counters may tell of losses."""
    root, user = channel_pair()
    ready = Ready([], Transport.RING, 0, 0, 0)
    sources = Sources(None, None, None)  # type: ignore[arg-type]
    said: list[str] = []
    told = Told()
    pipeline = Pipeline(user, ready, sources, Composer({}), Fanout([told], said.append), RunOptions(), StopRequest())
    for name in ("_trace", "_finish"):
        monkeypatch.setattr(Pipeline, name, lambda _: None)
    root.send(Counters({"drops_skipped": 1, "opened": 1, "lost": 1}, 0))
    root.send(Notice("interface_down", "eth0 is down", "eth0"))
    pipeline.run()
    assert told.list == ["start", "kernel_reasons_lost", "losses", "interface_down", "end"]
    assert len(said) >= 3, "people are told at once"
    root.close()
    user.close()
