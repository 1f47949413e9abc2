"""Both sides of a translation point to each other; who only looks alike does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.judged import Shake, batch
from tracer.causes.judge import CauseJudge
from tracer.encode.composer import Composer
from tracer.handshake.batch import Batch
from tracer.vocabulary.vocabulary import Has, Vantage

ETH0, ETH1, BRIDGE, PORT = 2, 3, 4, 5
CAME = Shake(seq=7, id=100, client=1, server=1, port=80, ifindex=ETH0, vantage=Vantage.SERVER)
LEFT = replace(CAME, at_ms=1000.05, id=200, server=9, port=8080, ifindex=ETH1, egress=True, vantage=Vantage.TRANSIT)


def judge() -> CauseJudge:
    made = CauseJudge()
    made.set_interfaces({ETH0: ETH0, ETH1: ETH1, BRIDGE: BRIDGE, PORT: PORT})
    return made


def ids(judged: Batch) -> list[int]:
    """The id of each row's other side, 0 for none."""
    found: list[int] = judged.causes.twins["id"].tolist()
    return found


def together(*shakes: Shake) -> list[int]:
    return ids(judge().judge(batch(*shakes)))


def one_by_one(*shakes: Shake) -> list[int]:
    made = judge()
    return [ids(made.judge(batch(one)))[0] for one in shakes]


@pytest.mark.parametrize("shakes", [(CAME, LEFT), (LEFT, CAME)], ids=["came first", "left first"])
def test_a_translated_server(shakes: tuple[Shake, Shake]) -> None:
    first, second = shakes
    assert together(first, second) == [second.id, first.id]
    # the one that is settled later knows both
    assert one_by_one(first, second) == [0, first.id]


def test_what_the_record_says() -> None:
    made = judge()
    came, left = Composer({}, changes=made.change_table.words).compose(made.judge(batch(CAME, LEFT)))
    assert came.nat is not None
    assert left.nat is not None
    assert (came.nat.client.ip, came.nat.client.port) == (left.client.ip, left.client.port)
    assert (came.nat.server.ip, came.nat.server.port) == (left.server.ip, 8080)
    assert (came.nat.id, left.nat.id) == (left.id, came.id)
    assert (left.nat.server.ip, left.nat.server.port) == (came.server.ip, 80)


def test_a_translated_client_and_a_hairpin() -> None:
    assert together(CAME, replace(LEFT, server=1, port=80, client=3)) == [200, 100]
    assert together(CAME, replace(LEFT, ifindex=ETH0)) == [200, 100]


def test_with_one_interface() -> None:
    back = replace(LEFT, ifindex=ETH0, client=3)
    assert ids(CauseJudge().judge(batch(CAME, back))) == [200, 100]
    made = CauseJudge()
    assert ids(made.judge(batch(CAME))) == [0]
    assert not made._sides._known.tobytes().strip(b"\0")  # nothing is kept where SYNs only come


def test_a_bridge_and_its_ports_see_one_side_twice() -> None:
    bridge = replace(LEFT, ifindex=BRIDGE)
    port = replace(bridge, at_ms=1000.06, ifindex=PORT)
    assert together(CAME, bridge, port) == [200, 100, 100]
    assert one_by_one(CAME, port, bridge) == [0, 100, 100]
    assert one_by_one(port, bridge, CAME) == [0, 0, 200]
    came_by_port = replace(CAME, at_ms=999.99, ifindex=PORT)
    assert together(came_by_port, replace(CAME, ifindex=BRIDGE), LEFT) == [200, 200, 100]


FORWARDED = replace(CAME, at_ms=1000.05, ifindex=ETH1, egress=True)


@pytest.mark.parametrize(
    "shakes",
    [
        (CAME, FORWARDED),
        (CAME, replace(FORWARDED, ifindex=ETH0)),
        (CAME, replace(LEFT, at_ms=2500)),  # long after
        (CAME, replace(LEFT, at_ms=999.9)),  # before
        (CAME, replace(LEFT, seq=8)),
        (CAME, replace(LEFT, egress=False)),  # a mirror of another's two sides
        (replace(CAME, egress=True), LEFT),
        (replace(CAME, egress=True), replace(LEFT, egress=False)),
        # two clients with one number: forged SYNs, or a scanner whose number is the address that it asks for
        (CAME, FORWARDED, replace(CAME, client=5, id=300), replace(FORWARDED, client=5, id=300)),
        (CAME, replace(CAME, client=5, id=300), LEFT),
        (CAME, LEFT, replace(LEFT, id=300)),
    ],
)  # fmt: skip
def test_who_only_looks_alike(shakes: tuple[Shake, ...]) -> None:
    assert not any(together(*shakes))


def test_two_clients_with_one_number_in_turn() -> None:
    other = replace(CAME, client=5, id=300)
    assert one_by_one(CAME, FORWARDED, other, replace(FORWARDED, client=5, id=300)) == [0, 0, 0, 0]
    assert one_by_one(CAME, other, LEFT) == [0, 0, 0]


def test_what_the_way_changes_and_what_it_does_not() -> None:
    made = batch(CAME, LEFT)
    syn = made.events["syn"]
    syn["has"] |= np.uint16(Has.TIMESTAMPS | Has.MSS | Has.WSCALE)
    syn["ts_val"], syn["wscale"] = 77, 7
    syn["mss"] = 1460, 1380  # a clamp lowers it
    assert ids(judge().judge(made)) == [200, 100]
    syn["ts_val"][1] = 78
    assert ids(judge().judge(made)) == [0, 0]


def test_a_later_handshake_with_the_same_number() -> None:
    made = judge()
    assert ids(made.judge(batch(CAME, LEFT))) == [200, 100]
    later = replace(CAME, at_ms=9000, id=500), replace(LEFT, at_ms=9000.05, id=600)
    assert ids(made.judge(batch(*later))) == [600, 500]


def test_whose_other_side_was_forgotten_is_not_known_to_have_come_only() -> None:
    made, count = judge(), 20_000
    silent = [replace(CAME, seq=number, id=number, answered_ms=None, lasts_ms=3500) for number in range(1, count)]
    left = [replace(one, at_ms=1000.05, ifindex=ETH1, egress=True) for one in silent]
    for start in range(0, count, 1000):
        made._sides.compare(batch(*left[start : start + 1000]))
    alone = sum(
        int(made._sides.compare(batch(*silent[at : at + 1000])).only_came_in.sum()) for at in range(0, count, 1000)
    )
    assert alone == 0
