"""What looks like a loss, a refusal or somebody's own answer, and may be none: nothing is told of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.unit.compare.test_compare import NOW_NS, Listed, beyond, kinds, layouts, seen
from tracer.compare.compare import compare
from tracer.compare.place import ROW, SECOND_NS, Place, Rows
from tracer.vocabulary.changes import Piece, What
from tracer.vocabulary.vocabulary import After, HandshakeResult, SettleReason, Vantage

COUNT = 100
TIMES = ("syn_ns", "synack_ns", "ack_ns", "response_ns")
LAST = COUNT - 1
Doubt = Callable[[Listed, Listed], None]


def unanswered(rows: Rows, reason: SettleReason) -> None:
    """The place saw no answer of these."""
    rows["result"], rows["reason"], rows["after"] = int(HandshakeResult.NO_REPLY), int(reason), int(After.NONE)
    for name in ("synack_ns", "ack_ns", "response_ns", "synack_count", "synack_isns"):
        rows[name] = 0
    rows["synack"] = np.zeros(len(rows), ROW["synack"])


def other_servers_of_the_client(near: Listed, far: Listed) -> None:
    near.made["server"][50:, 15] = 9
    far.made = far.made[:50]


def half_go_around(_near: Listed, far: Listed) -> None:
    far.made = far.made[::2]


def refused_by_the_server_on_the_way_around(near: Listed, far: Listed) -> None:
    far.made = far.made[:50]
    unanswered(near.made[50:], SettleReason.BY_RST)
    near.made["result"][50:] = int(HandshakeResult.REJECTED)
    near.made["reset_from"][50:], near.made["reset_ttl"][50:] = 2, near.made["synack"]["ttl"][0]


def the_far_place_began_later(near: Listed, far: Listed) -> None:
    first = near.made[:1]
    first["syn_count"] = 2
    first["syn_ns"] -= 3 * SECOND_NS
    first["syn"]["ts_val"] -= 3000
    far.began_ns = int(far.made["syn_ns"][0]) - SECOND_NS // 2


def the_far_place_ended_sooner(near: Listed, far: Listed) -> None:
    near.made["syn_count"][LAST] = 3
    for name in TIMES[1:]:
        near.made[name][LAST] += 3 * SECOND_NS
    unanswered(far.made[LAST:], SettleReason.AT_END)
    far.ended_ns = int(far.made["syn_ns"][LAST]) + SECOND_NS // 2


def the_near_place_ended_sooner(near: Listed, far: Listed) -> None:
    far.made["synack_count"][LAST] = 3
    near.made["reason"][LAST] = int(SettleReason.AT_END)
    near.ended_ns = int(near.made["synack_ns"][LAST]) + SECOND_NS // 2


def the_far_place_sees_one_way(_near: Listed, far: Listed) -> None:
    unanswered(far.made, SettleReason.BY_TIMEOUT)


def the_far_place_sees_one_way_of_a_server(_near: Listed, far: Listed) -> None:
    unanswered(far.made[:50], SettleReason.BY_TIMEOUT)
    far.made["one_way"][:25] = 1
    far.made["result"][:25] = int(HandshakeResult.ESTABLISHED)
    far.made["server"][50:, 15] = 9
    _near.made["server"][50:, 15] = 9


def a_server_as_slow_as_the_timeout(near: Listed, far: Listed) -> None:
    near.made["response_ns"], near.made["after"] = 0, int(After.SILENCE)
    near.made["reason"] = int(SettleReason.BY_TIMEOUT)
    far.made["response_ns"] = far.made["ack_ns"] + 4_990_000_000


def a_shorter_timeout(near: Listed, far: Listed) -> None:
    a_server_as_slow_as_the_timeout(near, far)
    far.made["response_ns"] = far.made["ack_ns"] + 2 * SECOND_NS
    near.argv = ("tfotrace", "eth0", "--response-timeout=1")


def a_request_sent_again_while_its_answer_came(near: Listed, _far: Listed) -> None:
    near.made["request_repeats"] = 1
    near.made["request_us"], _far.made["request_us"] = 50_000.0, 40_000.0


def a_response_before_the_ack(near: Listed, far: Listed) -> None:
    """With Fast Open. The SYN-ACK is lost, so the client sends its SYN again, which the far place counts no more."""
    near.made["syn_count"] = 2
    for name in TIMES[1:]:
        near.made[name] += SECOND_NS
    far.made["response_ns"] = far.made["synack_ns"] + 1000
    far.made["ack_ns"] += SECOND_NS


def a_handshake_in_two_records(near: Listed, _far: Listed) -> None:
    later = near.made[:1].copy()
    later["resumed"] = 1
    later["syn_ns"] += 1
    unanswered(near.made[:1], SettleReason.BY_TIMEOUT)
    near.made = np.concatenate((near.made, later))


def a_gap_in_a_recording(near: Listed, far: Listed) -> None:
    far.is_complete = False
    far.made = np.concatenate((far.made[:40], far.made[60:]))
    unanswered(near.made[40:60], SettleReason.BY_TIMEOUT)


DOUBTS: tuple[Doubt, ...] = (
    other_servers_of_the_client, half_go_around, refused_by_the_server_on_the_way_around, the_far_place_began_later,
    the_far_place_ended_sooner, the_near_place_ended_sooner, the_far_place_sees_one_way,
    the_far_place_sees_one_way_of_a_server, a_server_as_slow_as_the_timeout, a_shorter_timeout,
    a_request_sent_again_while_its_answer_came, a_response_before_the_ack, a_handshake_in_two_records,
    a_gap_in_a_recording,
)  # fmt: skip


@pytest.mark.parametrize("doubt", DOUBTS, ids=[one.__name__ for one in DOUBTS])
def test_nothing_is_told(doubt: Doubt) -> None:
    near, far = places()
    doubt(near, far)
    found = compare(near, far)
    assert found.findings == []
    assert found.both + found.not_judged >= COUNT


def places(*, stamped: bool = True) -> tuple[Listed, Listed]:
    shared = layouts()
    rows = seen(COUNT, stamped=stamped)
    return Listed("near", shared, rows), Listed("far", shared, beyond(rows))


def test_numbers_rewritten_while_clocks_drift() -> None:
    """By 50 ppm over a day, and no timestamps: rewritten answers are not taken for somebody's own."""
    near, far = places(stamped=False)
    steps = np.arange(COUNT) * (86400 * SECOND_NS // COUNT)
    moved = NOW_NS + steps - near.made["syn_ns"]
    for name in TIMES:
        near.made[name] += moved
        far.made[name] += moved + steps * 50 // 1_000_000
    far.made["synack"]["seq"] += np.uint32(77)
    found = compare(near, far)
    assert What.ANSWERED_ON_PATH not in {one.what for one in found.findings}


def test_a_loss_is_told_where_both_watched() -> None:
    """What nothing is told of above is told where there is no doubt."""
    near, far = places()
    the_far_place_began_later(near, far)
    near.began_ns = far.began_ns = int(near.made["syn_ns"][0]) - SECOND_NS
    assert kinds(compare(near, far)) == {(What.LOST, Piece.SYN): 1}
    near, far = places()
    a_request_sent_again_while_its_answer_came(near, far)
    far.made["request_us"] += 200_000
    assert kinds(compare(near, far)) == {(What.LOST, Piece.REQUEST): COUNT}
    near, far = places()
    near.made["server"][50:, 15] = far.made["server"][50:, 15] = 9
    far.made = far.made[:75]
    near.made["synack"]["ttl"][75:] = 64
    assert kinds(compare(near, far)) == {(What.ANSWERED_ON_PATH, Piece.SYNACK): 25}


@pytest.mark.parametrize(
    ("words", "expected_s"),
    [
        ((), 5), (("--response-timeout", "4"), 4), (("--response-timeout=0.5",), 0.5),
        (("--response-timeout", "2m"), None), (("--response-timeout",), None),
    ],
)  # fmt: skip
def test_the_response_timeout_of_a_place(words: tuple[str, ...], expected_s: float | None) -> None:
    place = Place("a", layouts(), argv=("tfotrace", "eth0", *words))
    assert place.response_timeout_ns == (None if expected_s is None else expected_s * SECOND_NS)


def test_two_interfaces_of_the_clients_host_in_the_wrong_order() -> None:
    """The client's address is local at both: the place that waits longer for the same answer is nearer to it."""
    near, far = places()
    for place in (near, far):
        place.made["vantage"] = int(Vantage.CLIENT)
    far.made["syn"]["mss"] = 1300
    found = compare(far, near)
    assert (found.near, found.far, found.other_way) == ("near", "far", 0)
    assert [(one.what, one.before, one.after) for one in found.findings] == [(What.MSS_CHANGED, "1460", "1300")]
