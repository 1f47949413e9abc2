"""Handshakes whose SYN no hook saw: one record each, unless a later SYN was seen; bounded; as the kernel reads SYNs."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.support.lines import handshakes
from tests.support.rows import golden_events
from tracer.encode.composer import Composer
from tracer.handshake.events import Events
from tracer.handshake.vantage import LocalHistory, LocalSet
from tracer.ipc.event_header import struct
from tracer.ipc.layout import to_dtype
from tracer.ipc.messages import FlowQuestion, OpenAnswer, OpenQuestion
from tracer.replay.columns import BatchBuilder
from tracer.run import unsent
from tracer.run.unsent import AGAIN_NS, OPEN_MAX, Unsent, UnsentSyns, handshake_ids
from tracer.vocabulary.vocabulary import HandshakeResult, SettleReason

OWN, OTHER, SECOND, START = 100, 200, 1_000_000_000, 5_000_000_000
CLIENT, SERVER = bytes(10) + b"\xff\xff\x0a\x00\x00\x01", bytes(10) + b"\xff\xff\x0a\x00\x00\x02"
_DROPS, _EVENTS = to_dtype(struct("drop_event")), to_dtype(struct("handshake_event"))
OPTIONS = bytes.fromhex("020405b40402080a00000007000000000103030a")


def word(when_ns: int = 0, isn: int = 7, **more: int) -> Events:
    """The kernel drops a SYN that this host made."""
    drops = np.zeros(1, _DROPS)
    values = {
        "now_ns": START + when_ns, "src_port": 40000, "dst_port": 443, "seq": isn, "netns": OWN, "tag": 9, "set": 3,
        "tcp_flags": 2, "family": 4, "options_len": len(OPTIONS), **more,
    }  # fmt: skip
    for name, value in values.items():
        drops[name] = value
    drops["src"], drops["dst"] = np.frombuffer(CLIENT, np.uint8), np.frombuffer(SERVER, np.uint8)
    drops["options"][0, : len(OPTIONS)] = np.frombuffer(OPTIONS, np.uint8)
    return drops


class Desk:
    """The user part's half; the root part answers as told."""

    def __init__(self) -> None:
        self.asked: list[OpenQuestion] = []
        self.reads = True
        self.syns = UnsentSyns(OWN, self._ask)
        self.local = LocalHistory(LocalSet([CLIENT]))

    def _ask(self, question: OpenQuestion) -> bool:
        if self.reads:
            self.asked.append(question)
        return self.reads

    def note(self, *words: Events) -> None:
        self.syns.note(np.concatenate(words), self.local)

    def settled(self, when_ns: int, *, is_open: bool = False, syns: int | None = 0) -> Unsent | None:
        """What is settled at a time, after the root part's answers to what is asked until then."""
        while True:
            before = len(self.asked)
            found = self.syns.settle(START + when_ns)
            if len(self.asked) == before:
                return found
            self.answer(when_ns, is_open=is_open, syns=syns)

    def answer(self, when_ns: int, *, is_open: bool = False, syns: int | None = 0) -> None:
        question = self.asked[-1]
        count = len(question.entries)
        self.syns.answered(OpenAnswer(question.number, [is_open] * count, [syns] * count), START + when_ns)


def seen(drop: Events, egress: int = 1) -> Events:
    """The record that a hook made of the same handshake."""
    events = np.zeros(1, _EVENTS)
    events["id"], events["egress"] = handshake_ids(drop), egress
    return events


def test_one_record_of_one_syn() -> None:
    desk = Desk()
    desk.note(word())
    assert desk.settled(int(0.7 * SECOND)) is None
    assert not desk.asked
    assert desk.settled(int(0.9 * SECOND)) is None
    assert desk.settled(int(3.4 * SECOND)) is None
    assert len(desk.asked) == 1
    found = desk.settled(int(3.6 * SECOND))
    assert found is not None
    client = FlowQuestion(CLIENT, SERVER, 40000, 443)
    assert desk.asked == [OpenQuestion(number, [(3, 9)], [client]) for number in (1, 2)]
    assert found.whole.tolist() == [True]
    (event,) = found.events
    assert (event["syn_ns"], event["syn_count"], event["retx_count"], event["ifindex"]) == (START, 1, 0, 0)
    assert (event["result"], event["reason"]) == (HandshakeResult.NO_REPLY, SettleReason.BY_TIMEOUT)
    assert (event["client_port"], event["server_port"], event["syn"]["ts_val"]) == (40000, 443, 7)
    desk.note(word(20 * SECOND))
    assert desk.settled(60 * SECOND) is None  # there is a record of it


def test_retransmissions_put_it_off_by_their_gap() -> None:
    desk = Desk()
    desk.note(word(), word(SECOND))
    desk.note(word(3 * SECOND, tcp_flags=0xC2))
    assert desk.settled(int(7.9 * SECOND)) is None  # 3 s, and 2.5 times 2 s
    found = desk.settled(int(8.1 * SECOND))
    assert found is not None
    (event,) = found.events
    assert (event["syn_count"], event["retx_count"], event["retx"]["after_us"].tolist()[:3]) == (
        3, 2, [1_000_000, 3_000_000, 0],
    )  # fmt: skip
    assert event["retx_flags"].tolist()[:3] == [0, 0xC0, 0]
    assert found.words["now_ns"].tolist() == [START + 3 * SECOND]


def test_a_record_of_a_hook_takes_over() -> None:
    desk = Desk()
    desk.note(word())
    desk.syns.seen(seen(word()))
    assert desk.settled(10 * SECOND) is None
    assert not desk.asked
    desk.note(word(11 * SECOND))  # a late retransmission
    assert desk.settled(30 * SECOND) is None


def test_one_that_comes_in_does_not() -> None:
    """At the other end of a veth, which is traced too, the same id is no evidence of leaving."""
    desk = Desk()
    desk.note(word())
    desk.syns.seen(seen(word(), egress=0))
    assert desk.settled(10 * SECOND) is not None


def test_it_waits_for_a_handshake_under_way() -> None:
    desk = Desk()
    desk.note(word())
    assert desk.settled(4 * SECOND, is_open=True) is None
    asked = len(desk.asked)
    assert desk.settled(4 * SECOND + AGAIN_NS // 2) is None
    assert len(desk.asked) == asked
    assert desk.settled(4 * SECOND + AGAIN_NS + 1, is_open=True) is None
    desk.syns.seen(seen(word()))
    assert desk.settled(20 * SECOND) is None
    assert desk.syns.close(START + 21 * SECOND) is None


def test_it_asks_again_where_nobody_answers() -> None:
    desk = Desk()
    desk.note(word())
    desk.reads = False
    assert desk.syns.settle(START + 4 * SECOND) is None
    desk.reads = True
    assert desk.syns.settle(START + 4 * SECOND + 1) is None
    assert desk.syns.settle(START + 4 * SECOND + 2) is None
    assert len(desk.asked) == 1
    assert desk.settled(5 * SECOND + AGAIN_NS) is not None


@pytest.mark.parametrize(
    ("early", "late", "whole"),
    [(0, 0, True), (1, 0, False), (1, 1, True), (2, 1, True), (1, 2, False), (None, None, False), (None, 0, False)],
)
def test_certain_only_where_no_syn_left_elsewhere(early: int | None, late: int | None, whole: bool) -> None:
    """What the client's socket says soon after its SYN, and when the record is due."""
    desk = Desk()
    desk.note(word())
    assert desk.settled(int(0.9 * SECOND), syns=early) is None
    found = desk.settled(4 * SECOND, syns=late)
    assert found is not None
    assert found.whole.tolist() == [whole]


@pytest.mark.parametrize("when", [0.9, 4.0])
def test_a_client_that_was_answered_elsewhere_has_no_record(when: float) -> None:
    desk = Desk()
    desk.note(word())
    assert desk.settled(int(when * SECOND), syns=-1) is None
    desk.note(word(5 * SECOND))
    assert desk.syns.close(START + 9 * SECOND) is None


def test_a_late_answer_does_not_say_that_it_gave_up() -> None:
    desk = Desk()
    desk.note(word())
    assert desk.syns.settle(START + int(0.9 * SECOND)) is None
    desk.answer(int(1.2 * SECOND))
    found = desk.settled(4 * SECOND)
    assert found is not None
    assert found.whole.tolist() == [False]


def test_a_syn_after_the_question_keeps_it_open() -> None:
    desk = Desk()
    desk.note(word())
    assert desk.syns.settle(START + 4 * SECOND) is None
    desk.note(word(4 * SECOND))
    desk.syns.answered(OpenAnswer(1, [False], [0]), START + 4 * SECOND + 1)
    assert desk.syns.settle(START + 4 * SECOND + 2) is None
    assert desk.settled(15 * SECOND) is not None


def test_answers_out_of_turn_change_nothing() -> None:
    desk = Desk()
    desk.note(word())
    desk.syns.answered(OpenAnswer(7, [False] * 9, [0] * 9), START + 4 * SECOND)
    desk.syns.settle(START + 4 * SECOND)
    desk.syns.answered(OpenAnswer(1, []), START + 4 * SECOND)
    assert desk.syns.settle(START + 4 * SECOND) is None
    assert desk.settled(5 * SECOND) is not None


@pytest.mark.parametrize("more", [{"tag": 0}, {"netns": OTHER}])
def test_other_words_open_none(more: dict[str, int]) -> None:
    desk = Desk()
    desk.note(word(**more))
    assert desk.syns.close(START) is None


def test_a_source_that_is_not_local_opens_none() -> None:
    desk = Desk()
    desk.local = LocalHistory(LocalSet([SERVER]))
    desk.note(word())
    assert desk.syns.close(START) is None


def test_a_flood_is_bounded_and_counted() -> None:
    desk = Desk()
    flood = np.repeat(word(), OPEN_MAX + 50)
    flood["seq"] = np.arange(len(flood))
    desk.note(flood)
    desk.note(word(SECOND, isn=5))  # one of those that are known
    assert desk.syns.skipped == 50
    rest = desk.syns.close(START + SECOND)
    assert rest is not None
    assert len(rest.events) == OPEN_MAX
    assert set(rest.events["reason"]) == {SettleReason.AT_END}
    assert rest.events["syn_count"].sum() == OPEN_MAX + 1


def test_ids_are_those_of_the_kernel() -> None:
    events = golden_events()
    drops = np.zeros(len(events), _DROPS)
    for drop, event in (("src", "client"), ("dst", "server"), ("src_port", "client_port"), ("dst_port", "server_port")):
        drops[drop] = events[event]
    drops["seq"] = events["syn"]["seq"]
    assert (handshake_ids(drops) == events["id"]).all()


def test_options_are_read_as_the_kernel_programs_do() -> None:
    for syn in golden_events()["syn"]:
        facts = unsent._option_facts(syn["options"][: syn["options_len"]].tobytes())
        for name in ("ts_offset", "tfo_offset", "mss", "wscale", "ts_val", "ts_ecr", "tfo_kind", "cookie_len", "has"):
            assert facts.get(name, 0) == syn[name], name


# --- replay ---


def test_replayed_records_of_none() -> None:
    builder = BatchBuilder()
    record = msgspec.structs.replace(handshakes()[0], interface=None, hook="kernel")
    odd = msgspec.structs.replace(record, hook="tcx")
    batch, bad = builder.batch([record, odd])
    assert (len(batch), bad) == (1, [1])
    place = Composer(builder.interfaces.by_index).interface(int(batch.events["ifindex"][0]))
    assert (place.interface, place.hook, place.through) == (None, "kernel", ())
