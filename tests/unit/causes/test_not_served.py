"""Connections that were established and got no answer (tracer/causes/not_served.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.judged import Shake, batch, causes, fates, fates_at_once
from tracer.causes.judge import CauseJudge
from tracer.vocabulary.vocabulary import ResetFrom, SettleReason, Vantage

BY_SERVER, BY_CLIENT = ResetFrom.SERVER, ResetFrom.CLIENT
ASKED = Shake(requested_ms=2, lasts_ms=3000)
RESET = replace(ASKED, reset_from=BY_CLIENT)
CLOSED = replace(ASKED, client_fin=True)  # and its server did not
BOTH_CLOSED = replace(CLOSED, reason=SettleReason.BY_FIN)
SERVED = Shake(response=True)
GAVE_UP, IN_VAIN = "client_gave_up likely", "silent_after_established likely"
RESET_AFTER = "reset_after_established likely server"


def said(*shakes: Shake) -> list[str]:
    each = [replace(one, id=number + 1) for number, one in enumerate(shakes)]
    found = fates(CauseJudge(), *each)
    assert found == fates_at_once(CauseJudge(), *each), "how they come in batches makes no difference"
    return found


@pytest.mark.parametrize("vantage", list(Vantage))
@pytest.mark.parametrize("left", [RESET, CLOSED, BOTH_CLOSED, replace(RESET, repeats=3)])
def test_clients_that_give_up(left: Shake, vantage: Vantage) -> None:
    assert said(replace(left, vantage=vantage)) == [GAVE_UP]
    # in a hurry
    assert said(replace(left, vantage=vantage, lasts_ms=900, repeats=0)) == [""]


@pytest.mark.parametrize(
    "change",
    [
        {"answered_ms": 400},  # ten round trips are 4 s
        {"requested_ms": 2500},  # it waits since then
        {"again_ms": 2100, "requested_ms": 2102},  # likewise; but a SYN was lost
    ],
)
def test_who_did_not_wait_for_long(change: dict[str, float]) -> None:
    for left in (RESET, CLOSED):
        assert said(replace(left, **change))[0] != GAVE_UP


def test_one_way_protocols_are_ordinary() -> None:
    """A log is sent for minutes, acked, and never answered."""
    log = replace(BOTH_CLOSED, request_acked=True)
    assert said(log, log) == ["", ""]
    in_syn = replace(BOTH_CLOSED, requested_ms=None, cookie=b"c" * 8, data=100, acked=100)
    assert said(in_syn, in_syn) == ["", ""]
    # one whose clients reset is told from a server that hangs once it has done so before
    resets = replace(RESET, request_acked=True)
    assert said(log, resets) == ["", ""]
    assert said(resets, resets, replace(resets, port=514)) == [GAVE_UP, "", GAVE_UP]
    assert said(SERVED, resets, resets) == ["", GAVE_UP, GAVE_UP]
    # a server that answers others speaks no such protocol
    assert said(SERVED, log, replace(log, port=514)) == ["", GAVE_UP, ""]


@pytest.mark.parametrize(
    "ordinary",
    [
        ASKED,  # a server that takes its time
        replace(ASKED, request_acked=True, lasts_ms=30_000),
        Shake(lasts_ms=30_000),  # it waits for the server to speak first
        Shake(client_fin=True, reason=SettleReason.BY_FIN, lasts_ms=3000),  # health checks
        Shake(reset_from=BY_CLIENT, lasts_ms=3000),
        Shake(reset_from=BY_SERVER, client_fin=True),
        Shake(reason=SettleReason.BY_FIN),  # the server closed
        replace(ASKED, repeats=3, response=True),
        replace(ASKED, repeats=3, request_acked=True),
        replace(ASKED, repeats=1),  # one packet was lost, and the rest was not waited for
        replace(ASKED, repeats=5, reason=SettleReason.AT_END),
        replace(ASKED, repeats=5, one_way=True),  # its acks are not seen
    ],
)
def test_who_is_accused_of_nothing(ordinary: Shake) -> None:
    assert said(ordinary, SERVED, ordinary) == ["", "", ""]


def test_requests_in_vain() -> None:
    assert said(replace(ASKED, repeats=2)) == [IN_VAIN]
    hasty = replace(RESET, lasts_ms=900, repeats=2)
    assert said(hasty, replace(hasty, reset_from=0, client_fin=True)) == [IN_VAIN] * 2


def test_resets_before_any_answer() -> None:
    reset = replace(ASKED, reset_from=BY_SERVER)
    assert said(reset) == [RESET_AFTER]
    # nothing was asked
    assert said(replace(reset, requested_ms=None)) == ["reset_after_established possible"]
    assert said(replace(reset, response=True)) == [""]


def test_fast_open_keeps_its_own_cause_beside_it() -> None:
    died = Shake(cookie=b"c" * 8, data=100, acked=100, reset_from=BY_SERVER)
    assert fates(CauseJudge(), died) == [RESET_AFTER]
    assert causes(CauseJudge().judge(batch(died))) == ["path_breaks_after_accept possible"]
