"""Packets for captures do not wait in the ring for the next turn."""

from __future__ import annotations

import numpy as np
import pytest

from tracer.encode.composer import Composer
from tracer.handshake.events import Events
from tracer.ipc.messages import Ready, channel_pair
from tracer.ring.open import Sources
from tracer.run.fanout import Fanout
from tracer.run.pipeline import PACKET_BATCHES, Pipeline, RunOptions
from tracer.run.stop import StopRequest
from tracer.vocabulary.vocabulary import Transport


class Waiting:
    """A ring with so many batches, which is also the sink that takes them."""

    def __init__(self, batches: int) -> None:
        self.left = batches
        self.taken = 0

    def read(self) -> Events:
        made = np.zeros(3 if self.left else 0, np.dtype([("id", "<u8")]))
        self.left = max(0, self.left - 1)
        return made

    def take_packets(self, packets: np.ndarray) -> None:
        self.taken += len(packets)


@pytest.mark.parametrize(("batches", "left"), [(0, 0), (1, 0), (PACKET_BATCHES, 0), (PACKET_BATCHES + 2, 2)])
def test_a_turn_takes_what_a_full_ring_holds_and_no_more(batches: int, left: int) -> None:
    """More would keep a flood's packets coming for ever."""
    root, user = channel_pair()
    waiting = Waiting(batches)
    sources = Sources(waiting, None, None, waiting)  # type: ignore[arg-type]
    fanout = Fanout([], lambda _: None, packet_takers=[waiting])
    ready = Ready([], Transport.RING, 0, 0, 0)
    pipeline = Pipeline(user, ready, sources, Composer({}), fanout, RunOptions(), StopRequest())
    pipeline._take_packets(waiting)
    assert (waiting.left, waiting.taken) == (left, 3 * (batches - left))
    root.close()
    user.close()
