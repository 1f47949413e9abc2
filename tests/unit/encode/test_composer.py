"""Records of handshakes with two hosts, resets, misfits: what stands where."""

from __future__ import annotations

import json

import pytest

from tests.support.rows import INTERFACES, batch_of
from tests.support.second_judge import Case, Seg, record
from tracer.encode.composer import Composer
from tracer.encode.lines import Lines
from tracer.handshake.batch import Batch
from tracer.records.refusal import Misfits, Reset
from tracer.vocabulary.vocabulary import HandshakeResult

MS = 1_000_000
TWO_HOSTS = Case(
    Seg(cookie=b"ABCDEFGH", length=9, stamps=(1, 0)), Seg(seq=555, ack=1001, stamps=(70_000, 1001)),
    again=((1_000_000, 1001),), synack_at=1_020 * MS, ack_at=1_021 * MS, response_at=1_050 * MS, reason="response",
    first=Seg(seq=77, ack=1001, cookie=b"abcdefghijkl", stamps=(9, 1)), first_at=20 * MS, synack_isns=2, synack_count=2,
)  # fmt: skip
PLAIN = Case(Seg(), Seg(seq=77, ack=1001), synack_at=30 * MS, ack_at=31 * MS, response_at=60 * MS, reason="response")


@pytest.fixture
def batch() -> Batch:
    events = record([TWO_HOSTS, PLAIN, PLAIN])
    events["retx_flags"][0][0] = 0xC1
    last = events[2]
    last["misfit_rsts"], last["misfit_icmps"], last["copies"] = 4, 1, 2
    last["resumed"] = HandshakeResult.NO_REPLY
    last["response_ns"], last["reason"], last["reset_from"], last["reset_ttl"] = 0, 2, 2, 61
    last["settled_ns"] = last["syn_ns"] + 63_100
    return batch_of(events)


def test_fast_open_is_that_of_the_first_answer(batch: Batch) -> None:
    found, plain, _ = Composer(dict(INTERFACES), show_cookies=True).compose(batch)
    assert (found.tfo.outcome, found.tfo.synack_kind, found.tfo.synack_cookie_len) == (
        "data_not_acked_new_cookie", 34, 12,
    )  # fmt: skip
    assert found.tfo.synack_cookie == b"abcdefghijkl".hex()
    assert found.synack is not None
    assert (found.synack.seq, found.synack.ts_val, found.synack.acked_payload_len) == (555, 70_000, 0)
    timing = found.handshake
    assert (timing.synack_isns, timing.answered_syn, timing.answered_ecn, timing.rtt_us) == (2, 2, "accecn", 20_000)
    assert (found.tfo.delay_us, timing.connect_us, timing.after) == (1_000_000, 1_021_000, "response")
    assert plain.tfo.synack_kind is None


def test_what_few_handshakes_have(batch: Batch) -> None:
    _, plain, found = (one.handshake for one in Composer(dict(INTERFACES)).compose(batch))
    assert found.reset == Reset("server", 63.1, 61, 3)
    assert found.misfits == Misfits(4, 0, 1)
    assert (found.after, found.copies, found.resumed, found.request_acked) == ("reset_by_server", 2, "no_reply", False)
    assert (plain.after, plain.copies, plain.resumed, plain.reset, plain.misfits) == ("response", 0, None, None, None)
    assert (plain.synack_isns, plain.request_repeats, plain.answered_syn, plain.answered_ecn) == (1, 0, 1, "none")


def test_resets_at_other_times_share_their_pieces(batch: Batch) -> None:
    lines = Lines(Composer(dict(INTERFACES)))
    for wait in (63_100, 99_000):
        batch.events["settled_ns"][2] = batch.events["syn_ns"][2] + wait
        again = batch_of(batch.events)
        known = [len(one._known) for one in lines._known]
        found = [json.loads(line) for line in b"".join(lines.lines(again)).splitlines()]
        assert found[2]["handshake"]["reset"] == {
            "from": "server", "after_us": wait / 1000, "ttl": 61, "hops": 3, "reason": None,
        }  # fmt: skip
        assert found[0]["handshake"]["reset"] is None
    assert known == [len(one._known) for one in lines._known]
