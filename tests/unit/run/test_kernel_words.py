"""How the kernel's words are joined with records: by numbers, in time, and never on what worked."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.support.desk import (
    ACK,
    AT,
    DROPS,
    EVENTS,
    FAILED,
    OTHER,
    OWN,
    REASONS,
    RST,
    SYN,
    SYNACK,
    Desk,
    heard,
    record,
    word,
)
from tests.support.rows import INTERFACES, START_NS, batch_of
from tracer.encode.composer import Composer
from tracer.encode.lines import Lines, PlainLines
from tracer.ipc.messages import Evidence, PlaceAnswer, PlaceQuestion
from tracer.records.drop import Drop
from tracer.records.record import Handshake
from tracer.ring.drops import SLOTS
from tracer.run.kernel_words import ANSWER_NS, HOLD_NS, LATE_NS, SIDES_NS, KernelWords
from tracer.vocabulary.vocabulary import HandshakeResult as Result
from tracer.vocabulary.vocabulary import ResetFrom
from tracer.vocabulary.vocabulary import SettleReason as Settled


@pytest.mark.parametrize(("result", "settled", "flags", "segment"), FAILED)
@pytest.mark.parametrize(("netns", "told"), [(OWN, None), (OTHER, OTHER)])
def test_a_drop_is_told(
    result: Result, settled: Settled, flags: int, segment: str, netns: int, told: int | None
) -> None:
    desk = Desk()
    at = 5_000_000_000 if settled in (Settled.BY_RST, Settled.BY_ICMP) else 1000
    heard(desk, word(flags, netns=netns, after_ns=at))
    assert desk.said(batch_of(record(result, settled))) == [Drop(segment, "NETFILTER_DROP", "nft_do_chain", told)]


@pytest.mark.parametrize(
    "changed",
    [{"seq": 7}, {"src_port": 40001}, {"dst_port": 80}, {"netns": 0}, {"after_ns": -2 * HOLD_NS},
     {"after_ns": 6_000_000_000}, {"number": 5}, {"number": 2}],
)  # fmt: skip
def test_what_does_not_fit_is_not_told(changed: dict[str, int]) -> None:
    desk = Desk()
    heard(desk, word(SYN, **changed))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [None]


def test_no_reason_says_enough_only_where_the_route_forbids_it() -> None:
    desk = Desk()
    desk.words.note(word(SYN, 2), START_NS)
    desk.words.answered(PlaceAnswer({AT: "ip_error"}))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [Drop("syn", "NOT_SPECIFIED", "ip_error", None)]


def test_the_traced_namespaces_word_comes_first_then_the_later_segments() -> None:
    desk = Desk()
    heard(desk, word(SYN, 3, OTHER), word(SYN, 12))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [Drop("syn", "NETFILTER_DROP", "nft_do_chain", None)]
    heard(desk, word(SYNACK, 3))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [Drop("synack", "NO_SOCKET", "nft_do_chain", None)]


def test_nothing_is_said_of_what_worked() -> None:
    desk = Desk()
    heard(desk, word(SYN), word(SYNACK), word(ACK))
    served = record(Result.ESTABLISHED, Settled.BY_RESPONSE, response_ns=START_NS + 2000, ack_ns=START_NS + 1500)
    acked = record(Result.ESTABLISHED, request_acked=1, ack_ns=START_NS + 1500)
    assert desk.said(batch_of(np.concatenate([served, acked]))) == [None, None]
    silent = record(Result.ESTABLISHED, ack_ns=START_NS + 1500, synacks_after_ack=2)
    assert desk.said(batch_of(silent)) == [Drop("ack", "NETFILTER_DROP", "nft_do_chain", None)]


def test_a_reset_that_a_firewall_drops_and_one_that_tcp_takes() -> None:
    desk = Desk()
    refused = record(Result.REJECTED, Settled.BY_RST, reset_from=int(ResetFrom.SERVER))
    heard(desk, word(RST, 3, after_ns=5_000_000_000))  # nobody waits for it any more
    assert desk.said(batch_of(refused)) == [None]
    heard(desk, word(RST, 12, after_ns=5_000_000_000))
    assert desk.said(batch_of(refused)) == [Drop("rst", "NETFILTER_DROP", "nft_do_chain", None)]


def test_why_this_host_sent_the_reset() -> None:
    desk = Desk()
    refused = record(Result.REJECTED, Settled.BY_RST, reset_from=int(ResetFrom.SERVER), settled_ns=START_NS + 2000)
    heard(desk, word(RST, 1, is_reset=1, location=0))
    batch = batch_of(refused)
    desk.words.tell(batch)
    assert [desk.words.reset_reasons[number] for number in batch.causes.reset_reason] == ["NO_SOCKET"]
    elsewhere = Desk()
    heard(elsewhere, word(RST, 1, OTHER, is_reset=1, location=0))
    batch = batch_of(refused)
    elsewhere.words.tell(batch)
    assert not batch.causes.reset_reason.any()


def test_a_refused_one_waits_for_the_words_of_its_time() -> None:
    desk = Desk()
    refused = record(Result.REJECTED, Settled.BY_RST)
    settled = int(refused["settled_ns"][0])
    served = record(Result.ESTABLISHED, Settled.BY_RESPONSE, client_port=40001)
    silent = record(Result.NO_REPLY, client_port=40002)
    desk.words.note(np.zeros(0, DROPS), settled)
    ready = desk.words.admit(np.concatenate([served, refused, silent]), settled + 1)
    assert ready["client_port"].tolist() == [40001, 40002]
    assert desk.words.is_holding
    assert desk.words.admit(refused[:0], settled + 2).size == 0
    desk.words.note(np.zeros(0, DROPS), settled + LATE_NS)
    # one batch, since each has a cost of its own
    ready_now = desk.words.admit(served, settled + LATE_NS)
    assert ready_now["client_port"].tolist() == [40000, 40001]
    assert not desk.words.is_holding


def test_a_failed_one_waits_for_the_name_of_a_place_but_not_long() -> None:
    desk = Desk()
    silent = record(Result.NO_REPLY)
    settled = int(silent["settled_ns"][0])
    desk.words.note(word(SYN), settled)
    assert desk.asked == [PlaceQuestion([AT])]
    assert desk.words.admit(silent, settled + 1).size == 0
    assert len(desk.words.admit(silent[:0], settled + HOLD_NS)) == 1
    desk.words.note(word(SYN), settled)
    assert len(desk.asked) == 1  # it was asked for
    assert desk.words.admit(silent, settled + 1).size == 0
    assert len(desk.words.close()) == 1


def test_a_question_that_could_not_be_sent_is_asked_again() -> None:
    desk = Desk()
    silent = record(Result.NO_REPLY)
    settled = int(silent["settled_ns"][0])
    desk.is_read = False
    desk.words.note(word(SYN), settled)
    assert len(desk.words.admit(silent, settled + 1)) == 1
    desk.is_read = True
    desk.words.note(word(SYN), settled)
    assert desk.asked == [PlaceQuestion([AT])]


def test_nobody_waits_for_an_answer_that_will_not_come() -> None:
    desk = Desk()
    silent = record(Result.NO_REPLY)
    settled = int(silent["settled_ns"][0])
    desk.words.note(word(SYN), settled - ANSWER_NS)
    assert len(desk.words.admit(silent, settled + 1)) == 1


def test_without_evidence_nobody_waits() -> None:
    deaf = KernelWords(Evidence(), lambda _: True)
    refused = record(Result.REJECTED, Settled.BY_RST)
    assert deaf.admit(refused, int(refused["settled_ns"][0])) is refused
    batch = batch_of(refused)
    deaf.tell(batch)
    assert not batch.causes.drop.any()


def test_a_silent_one_waits_for_its_other_side() -> None:
    events = np.concatenate([record(Result.NO_REPLY), record(Result.ESTABLISHED, Settled.BY_RESPONSE)])
    settled_ns = int(events["settled_ns"][0])
    for evidence in (Evidence(), Evidence(4096, REASONS, {}, True, OWN)):
        words = KernelWords(evidence, lambda _: True, has_sides=True)
        words.note(np.zeros(0, DROPS), settled_ns + HOLD_NS)
        first = words.admit(events, settled_ns + SIDES_NS // 2)
        assert first["result"].tolist() == [Result.ESTABLISHED]
        second = words.admit(np.zeros(0, EVENTS), settled_ns + 2 * SIDES_NS)
        assert second["result"].tolist() == [Result.NO_REPLY]


def test_hidden_places_are_not_asked_for() -> None:
    desk = Desk(places=False)
    heard(desk, word(SYN))
    assert desk.asked == []
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [Drop("syn", "NETFILTER_DROP", None, None)]


def test_a_flood_overwrites_and_takes_no_more_memory() -> None:
    desk = Desk()
    said = np.concatenate([word(SYN)] * (3 * SLOTS))
    said["src_port"], said["src"][:, 0] = np.arange(len(said)) % 65536, np.arange(len(said)) // 65536
    heard(desk, said)
    records = np.concatenate([record(Result.NO_REPLY)] * len(said))
    records["client_port"], records["client"][:, 0] = said["src_port"], said["src"][:, 0]
    found = batch_of(records)
    desk.words.tell(found)
    assert SLOTS // 2 < np.count_nonzero(found.causes.drop) <= SLOTS
    assert len(desk.words.drops) == 2


def test_lines_and_records_say_the_same() -> None:
    desk = Desk()
    kinds = [record(result, settled, client_port=40000 + at) for at, (result, settled, *_) in enumerate(FAILED)]
    said = [
        word(flags, after_ns=5_000_000_000, **{"src_port" if flags in (SYN, ACK) else "dst_port": 40000 + at})
        for at, (*_, flags, _segment) in enumerate(FAILED)
    ]
    heard(desk, *said)
    batch = batch_of(np.concatenate(kinds))
    desk.words.tell(batch)
    composer = Composer(INTERFACES, drops=desk.words.drops, reset_reasons=desk.words.reset_reasons)
    lines = b"".join(Lines(composer).lines(batch))
    assert lines == b"".join(PlainLines(composer).lines(batch))
    records = [msgspec.json.decode(line, type=Handshake) for line in lines.splitlines()]
    assert [one.handshake.drop.segment for one in records if one.handshake.drop] == [segment for *_, segment in FAILED]


def test_a_copy_says_nothing() -> None:
    """One of those that a bridge floods, or TEE's: the segment itself went on."""
    desk = Desk()
    heard(desk, word(SYN, is_copy=1))
    assert desk.said(batch_of(record(Result.NO_REPLY))) == [None]
