"""What is said of SYNs that this host passes on, or does not, and of clients that it has no route to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tests.support.judged import MS, Shake, batch, host
from tracer.causes.judge import CauseJudge
from tracer.handshake.batch import Batch
from tracer.ipc.event_header import constant
from tracer.ipc.messages import HostAnswer, HostQuestion, ListenerAnswer
from tracer.linux.routes import NO_ROUTE
from tracer.vocabulary.vocabulary import CauseAt, Confidence, HandshakeCause, HandshakeResult, ResetFrom, Vantage, word

ETH0, ETH1, BRIDGE, PORT = 2, 3, 4, 5
GROUPS = {one: one for one in (ETH0, ETH1, BRIDGE, PORT)}
TO_HOST, TO_OTHERS = constant("ADDRESSED_TO_HOST"), constant("ADDRESSED_TO_OTHERS")
CAME = Shake(seq=7, id=100, ifindex=ETH0, vantage=Vantage.TRANSIT, answered_ms=None, lasts_ms=3500)
LEFT = replace(CAME, at_ms=1000.05, ifindex=ETH1, egress=True)
BEHIND = replace(LEFT, id=200, server=9)
ANSWERED = [replace(one, seq=3, id=50, answered_ms=1, lasts_ms=5, at_ms=one.at_ms - 500) for one in (CAME, LEFT)]
BEYOND, ONE_WAY = "no_answer_beyond likely", "nat_one_way likely"
NOT_FORWARDED = "not_forwarded likely this_host"
OURS = ("no_answer_beyond", "nat_one_way", "not_forwarded", "no_route_back")


@dataclass
class Root:
    """A root part that knows by which interface everything leaves."""

    way: int | None = ETH1
    listens: ListenerAnswer = field(default_factory=ListenerAnswer)
    drops: int = 0
    others: dict[str, int] = field(default_factory=dict)
    asked: list[HostQuestion] = field(default_factory=list)

    def __call__(self, question: HostQuestion) -> HostAnswer:
        self.asked.append(question)
        look = host(9000 + len(self.asked), ListenDrops=self.drops, **self.others)
        return HostAnswer(
            0, look, listeners=[self.listens] * len(question.listeners), ways=[self.way] * len(question.forwarded)
        )


def judge(root: Root | None = None, seen_leaving: tuple[int, ...] = tuple(GROUPS)) -> CauseJudge:
    made = CauseJudge(root)
    made.set_interfaces(GROUPS, seen_leaving)
    made._router._since = dict.fromkeys(seen_leaving, 0)  # since long ago
    return made


def made(*shakes: Shake, addressee: int = TO_HOST) -> Batch:
    found = batch(*shakes)
    found.events["addressee"] = addressee
    aborted = found.events["reset_from"] == ResetFrom.CLIENT
    found.events["result"][aborted] = HandshakeResult.ABORTED
    return found


def told(judged: Batch) -> list[str]:
    """Causes of this file, "" for any other."""
    causes, found = judged.causes, []
    for numbers in zip(causes.handshake_cause, causes.handshake_confidence, causes.cause_at, strict=True):
        kinds = zip((HandshakeCause, Confidence, CauseAt), numbers, strict=True)
        words = [word(kind(number)) for kind, number in kinds if number]
        found.append(" ".join(words) if words and words[0] in OURS else "")
    return found


# --- it went on, and nothing came back ---


@pytest.mark.parametrize("shakes", [(CAME, LEFT), (LEFT, CAME), (CAME, BEHIND)])
def test_nobody_answers_beyond(shakes: tuple[Shake, Shake]) -> None:
    assert told(judge().judge(made(*shakes))) == [BEYOND] * 2
    one_by_one = judge()
    assert [told(one_by_one.judge(made(one))) for one in shakes] == [[""], [BEYOND]]


@pytest.mark.parametrize(
    "change", [{"misfit_rsts": 1}, {"misfit_synacks": 1}, {"challenge_acks": 1}, {"answered_ms": 1.0}]
)
def test_something_came_back(change: dict[str, int | float]) -> None:
    assert told(judge().judge(made(CAME, replace(LEFT, **change)))) == [""] * 2  # type: ignore[arg-type]


def test_answers_come_back_by_a_way_that_is_not_seen() -> None:
    """Then silence says nothing, for the server may have refused at once."""
    served = [replace(one, seq=3, id=50, answered_ms=None, lasts_ms=5, at_ms=one.at_ms - 500) for one in (CAME, LEFT)]
    for only_one_way, expected in ((True, ""), (False, BEYOND)):
        found, before = judge(), made(*(served if only_one_way else ANSWERED))
        before.events["one_way"] = only_one_way
        found.judge(before)
        assert told(found.judge(made(CAME, LEFT))) == [expected] * 2


def test_the_client_resets_what_comes_past_the_translation() -> None:
    reset = replace(BEHIND, answered_ms=0.5, reset_from=ResetFrom.CLIENT, lasts_ms=1)
    assert told(judge().judge(made(CAME, reset))) == [ONE_WAY] * 2
    one_by_one = judge()
    assert [told(one_by_one.judge(made(one))) for one in (reset, CAME)] == [[""], [ONE_WAY]]
    # without a translation it has another reason
    assert told(judge().judge(made(CAME, replace(reset, id=CAME.id, server=CAME.server)))) == [""] * 2


# --- it came in, and went nowhere ---


def passing(root: Root, **more: tuple[int, ...]) -> CauseJudge:
    """A judge that has seen this host pass on a SYN from eth0 to eth1."""
    found = judge(root, **more)
    assert told(found.judge(made(*ANSWERED))) == [""] * 2
    return found


def test_what_came_in_and_did_not_leave() -> None:
    root = Root()
    assert told(passing(root).judge(made(CAME))) == [NOT_FORWARDED]
    assert [len(one.forwarded) for one in root.asked] == [1]
    assert root.asked[0].forwarded[0].came_by == ETH0


@pytest.mark.parametrize(
    ("root", "shake", "addressee"),
    [
        (Root(way=None), CAME, TO_HOST),  # a firewall may do what it wants with what has no route
        (Root(way=ETH0), CAME, TO_HOST),  # back by the way it came: that would be the same record
        (Root(way=BRIDGE), CAME, TO_HOST),  # by which nothing was seen to leave so
        (Root(way=99), CAME, TO_HOST),  # not traced
        (Root(), CAME, TO_OTHERS),  # a mirror port, or a bridge
        (Root(), CAME, 0),
        (Root(), replace(CAME, ifindex=BRIDGE), TO_HOST),
        (Root(), replace(CAME, vantage=Vantage.SERVER), TO_HOST),
        (Root(), replace(CAME, vantage=Vantage.CLIENT), TO_HOST),
        (Root(), replace(CAME, egress=True), TO_HOST),
        (Root(), replace(CAME, misfit_rsts=1), TO_HOST),
        (Root(), replace(CAME, at_ms=4_000_000), TO_HOST),  # hours later
    ],
)
def test_of_which_it_is_not_known(root: Root, shake: Shake, addressee: int) -> None:
    assert told(passing(root).judge(made(shake, addressee=addressee))) == [""]


def test_what_the_host_does_not_pass_on_at_all() -> None:
    assert told(judge(Root(way=NO_ROUTE)).judge(made(CAME))) == [NOT_FORWARDED]
    assert told(judge(Root(way=NO_ROUTE)).judge(made(CAME, addressee=TO_OTHERS))) == [""]
    assert told(judge(Root(way=NO_ROUTE)).judge(made(CAME, BEHIND))) == [BEYOND] * 2


def test_without_having_seen_it_pass_on_anything() -> None:
    assert told(judge(Root()).judge(made(CAME))) == [""]
    assert told(judge(None).judge(made(CAME))) == [""]


def test_where_it_is_not_seen_what_leaves() -> None:
    assert told(passing(Root(), seen_leaving=(ETH0,)).judge(made(CAME))) == [""]


def test_an_interface_that_is_traced_only_now() -> None:
    made_judge = passing(Root())
    made_judge.set_interfaces({ETH0: ETH0}, (ETH0,))
    made_judge.set_interfaces(GROUPS, tuple(GROUPS))
    assert int(CAME.at_ms * MS) < time.monotonic_ns()
    assert told(made_judge.judge(made(CAME))) == [""]


def test_a_port_of_a_bridge_sees_it_too() -> None:
    found = judge(Root())
    assert told(found.judge(made(replace(ANSWERED[0], ifindex=BRIDGE), ANSWERED[1]))) == [""] * 2
    both = made(replace(CAME, ifindex=PORT), replace(CAME, at_ms=1000.01, ifindex=BRIDGE))
    both.events["addressee"] = TO_OTHERS, TO_HOST
    assert told(found.judge(both)) == [NOT_FORWARDED] * 2


def test_two_with_one_number() -> None:
    assert told(passing(Root()).judge(made(CAME, replace(CAME, client=7, id=300)))) == [""] * 2


def test_a_flood_of_strangers_is_asked_about_in_part() -> None:
    root = Root()
    flood = made(*(replace(CAME, seq=0, id=1000 + number) for number in range(200)))
    found = told(passing(root).judge(flood))
    assert np.count_nonzero(np.array(found) == NOT_FORWARDED) == 64
    assert len(root.asked[0].forwarded) == 64


# --- no way back ---

ARRIVED = replace(CAME, vantage=Vantage.SERVER)
STRANDED = ListenerAnswer(1, [16], False, NO_ROUTE)


HERE = ListenerAnswer(1, [16], False, ETH0)


def dropped(*shakes: Shake, addressee: int = TO_HOST) -> bool:
    """Is it said that this host dropped the first one?"""
    found = judge(Root(listens=HERE))
    found.add_host(host(500))
    return bool(
        found.judge(made(*shakes, addressee=addressee)).causes.handshake_cause[0] == HandshakeCause.HOST_DROPPED
    )


def test_a_host_that_passes_on_does_not_drop() -> None:
    assert dropped(ARRIVED)
    assert dropped(ARRIVED, addressee=0)
    assert not dropped(ARRIVED, addressee=TO_OTHERS)
    # the other side was answered, whatever became of the answer
    assert not dropped(ARRIVED, replace(BEHIND, answered_ms=1, lasts_ms=3))


def at_server(root: Root) -> list[str]:
    found = judge(root)
    found.add_host(host(500))
    return told(found.judge(made(ARRIVED)))


def test_no_route_back() -> None:
    assert at_server(Root(listens=STRANDED, drops=1)) == ["no_route_back certain this_host"]


@pytest.mark.parametrize(
    "root",
    [
        Root(listens=STRANDED),  # its listener has not dropped anything
        Root(listens=STRANDED, drops=1, others={"ListenOverflows": 1}),
        Root(listens=STRANDED, drops=1, others={"TCPReqQFullDrop": 1}),
        Root(listens=ListenerAnswer(0, [], False, NO_ROUTE), drops=1),
        Root(listens=ListenerAnswer(None, [], False, NO_ROUTE), drops=1),
        Root(listens=ListenerAnswer(1, [16], True, NO_ROUTE), drops=1),
        Root(listens=ListenerAnswer(1, [16], None, NO_ROUTE), drops=1),
        Root(listens=ListenerAnswer(1, [16], False, None), drops=1),
        Root(listens=ListenerAnswer(1, [16], False, ETH0), drops=1),
    ],
)
def test_it_is_not_the_route(root: Root) -> None:
    assert at_server(root) == [""]
