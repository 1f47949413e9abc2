"""Comments made from columns are those of composed records."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rows import INTERFACES, golden, golden_parts, random_batch
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch, decode
from tracer.handshake.syn_payloads import NO_PAYLOADS, SynPayloads
from tracer.handshake.vantage import LocalSet
from tracer.ipc.traced import TracedInterface
from tracer.sinks import comments
from tracer.sinks.comment import comment
from tracer.sinks.comments import Comments
from tracer.vocabulary.vocabulary import HandshakeResult

# golden handshakes have an MSS above the MTU of these, which is nothing usual
UNKNOWN_MTU = {index: msgspec.structs.replace(one, mtu=0) for index, one in INTERFACES.items()}
CHANGES = (None, (), ("mss_changed syn 1460 > 1300",))


def composed(composer: Composer, batch: Batch) -> list[str]:
    return [comment(record) for record in composer.compose(batch)]


def usual(batch: Batch) -> Batch:
    """The same batch, but its handshakes were established at the first attempt. Causes stay."""
    events = batch.events.copy()
    events["result"] = HandshakeResult.ESTABLISHED
    events["syn_count"] = events["synack_count"] = 1
    for name in ("reset_from", "resumed", "misfit_rsts", "misfit_synacks", "misfit_icmps"):
        events[name] = 0
    return replace(decode(events, LocalSet(), batch.payloads), causes=batch.causes)


def changed(batch: Batch, seed: int) -> Batch:
    """The same batch, of which this host changed some handshakes."""
    column = np.random.default_rng(seed).choice([0, 0, 1, 2], len(batch)).astype(np.uint16)
    return replace(batch, causes=replace(batch.causes, changed=column))


@given(seed=st.integers(0, 1 << 32), odd=st.booleans(), payloads=st.booleans(), plain=st.booleans())
@settings(max_examples=60, deadline=None)
def test_random_batches(seed: int, odd: bool, payloads: bool, plain: bool) -> None:
    composer = Composer(dict(INTERFACES), cgroups={}, changes=CHANGES)
    made = Comments(composer)
    for turn in range(3):
        batch = random_batch(seed + turn % 2, 40, odd=odd, payloads=payloads)  # the third time all are known
        batch = changed(batch, seed)
        batch = usual(batch) if plain else batch
        assert made.of(batch) == composed(composer, batch)


@pytest.mark.parametrize("kept", [comments.KEPT, 3])
def test_the_recorded_lab(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Every outcome, also where hardly anything can be remembered."""
    monkeypatch.setattr(comments, "KEPT", kept)
    composer = Composer(UNKNOWN_MTU)
    made = Comments(composer)
    payloads = SynPayloads.of(golden().payloads)
    for turn in range(2):
        for events in golden_parts()[turn:]:
            batch = decode(events, LocalSet(), payloads)
            assert made.of(batch) == composed(composer, batch)
            assert made.of(usual(batch)) == composed(composer, usual(batch))
            assert made._usual(usual(batch)).all()


def test_on_a_router_that_changes_nothing_handshakes_are_usual() -> None:
    composer = Composer(UNKNOWN_MTU, changes=CHANGES)
    made = Comments(composer)
    batch = usual(decode(golden().batches[0][0], LocalSet(), NO_PAYLOADS))
    for number, is_usual in enumerate((True, True, False)):
        one = replace(batch, causes=replace(batch.causes, changed=np.full(len(batch), number, np.uint16)))
        assert made._usual(one).all() == is_usual
        assert made.of(one) == composed(composer, one)


def test_what_is_remembered_says_which_durations_are_known() -> None:
    """The words of Fast Open depend on whether the time saved is known, and the first response."""
    composer = Composer(UNKNOWN_MTU)
    made = Comments(composer)
    payloads = SynPayloads.of(golden().payloads)
    differ = 0
    for events in golden_parts():
        batch = usual(decode(events, LocalSet(), payloads))
        batch.events["request_acked"] = 0
        unknown = np.full(len(batch), np.nan)
        silent = replace(batch, durations=replace(batch.durations, first_response_us=unknown))
        neither = replace(silent, durations=replace(silent.durations, rtt_saved_us=unknown))
        said = [composed(composer, one) for one in (batch, silent, neither)]
        differ += said[1] != said[2]
        for one, texts in zip((batch, silent, neither, batch), (*said, said[0]), strict=True):
            assert made.of(one) == texts
    assert differ


def test_an_interface_that_is_renamed_is_named_anew() -> None:
    interfaces = dict(UNKNOWN_MTU)
    composer = Composer(interfaces)
    made = Comments(composer)
    batch = usual(random_batch(1, 20))
    made.of(batch)
    for index in {*batch.events["ifindex"].tolist()} - {0}:
        interfaces[index] = TracedInterface(index, "vx0", "tcx", "", through=("vxlan",))
    assert made.of(batch) == composed(composer, batch)
    assert any("through vxlan" in text for text in made.of(batch))
