"""Words: every verdict has them, and they fit and are safe to print."""

from __future__ import annotations

import json

import pytest

from tests.support.schema import assert_valid
from tracer.probe.lines import as_json
from tracer.probe.model import Answer, Asks, Benefit, Passage, Payload, Probed, Side, Target, Verdict
from tracer.probe.text import lines, of_answer, sentence, to_do

HOSTILE = "\x1b[2Jb\u202eüro"
WIDTH = 100


def answer(verdict: Verdict, tried: int = 4, lived: int = 4) -> Answer:
    sides = (Side(5, 5, 5, 20_000.0, 41_000.0), Side(5, 5, 5, 20_000.0, 21_000.0))
    return Answer("2001:db8::1", verdict, *sides, tried=tried, taken=lived, lived=lived, unanswered=tried - lived)


@pytest.mark.parametrize("verdict", [one for one in Verdict if one is not Verdict.NO_NAME])
def test_every_verdict(verdict: Verdict) -> None:
    one = Probed(Target(HOSTILE, 443), [answer(verdict)])
    said = list(lines([one], Payload.TLS, verbose=True))
    assert all(line.isprintable() and len(line) <= WIDTH for line in said), said
    assert said[-1]
    assert of_answer(one.answers[0]).endswith((".", ":"))
    assert to_do(one)
    record = json.loads(as_json(one, Payload.TLS))
    assert_valid(record)
    assert record["target"] == one.target.name
    assert record["verdict"] == verdict.value


def test_different_sentences() -> None:
    said = [of_answer(answer(verdict)) for verdict in Verdict if verdict is not Verdict.NO_NAME]
    assert len(set(said)) == len(said)


def test_an_unknown_name() -> None:
    one = Probed(Target(HOSTILE, 443), [], "its name has no address")
    for found in ([one], [one, Probed(Target("a.test", 80), [answer(Verdict.WORKS)])]):
        said = list(lines(found, Payload.TLS, verbose=False))
        assert all(line.isprintable() for line in said), said
    assert json.loads(as_json(one, Payload.TLS))["addresses"] == []


def test_what_it_saves() -> None:
    one = answer(Verdict.WORKS)
    one.benefit = Benefit(20_000.0, 19_500.0, 20_600.0)
    saves = "and saves 20.0 ms until the first response"
    assert of_answer(one) == f"Fast Open works {saves}: the data of 4 of 4 SYNs was taken."
    one.benefit = Benefit(20_000.0, -500.0, 40_600.0)
    assert of_answer(one) == "Fast Open works: the data of 4 of 4 SYNs was taken."
    one.plain.answered = one.fast_open.answered = 0
    assert "answered no request" in of_answer(one)


def test_several_addresses() -> None:
    bad, good = answer(Verdict.REFUSED), answer(Verdict.WORKS)
    target = Target("a.test", 443)
    assert sentence(Probed(target, [good, bad])) == "a.test:443: Fast Open works with 1 of 2 addresses."
    assert sentence(Probed(target, [bad, bad])) == "a.test:443: Fast Open works with none of 2 addresses (refused)."
    assert Probed(target, [good, bad]).verdict is Verdict.PARTLY
    assert Probed(target, [bad, bad]).verdict is Verdict.REFUSED
    assert Probed(target, [good, answer(Verdict.GRANTS)]).verdict is Verdict.GRANTS


@pytest.mark.parametrize("asks", [Asks.ECN, Asks.MPTCP, Asks.SYN_DATA])
@pytest.mark.parametrize("found", Passage)
def test_passages(asks: Asks, found: Passage) -> None:
    one = answer(Verdict.NOT_GRANTED)
    one.passage = {asks: found}
    said = list(lines([Probed(Target("a.test", 443), [one])], Payload.TLS, verbose=False))
    assert len([line for line in said if line.startswith(("  ECN", "  MPTCP", "  data without cookie"))]) == 1
