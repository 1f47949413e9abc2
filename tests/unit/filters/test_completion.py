"""Completion of filters: what is offered where, and that what is offered makes valid filters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.filters.completion import OFFERED, Completion, complete, written
from tracer.filters.fields import Field, Kind
from tracer.filters.filter import BARE_WORDS, fields_of, names, parse

SEEN = {"tls.sni": ["login.example", "odd name", "and"], "server.port": ["443", "80"], "client.ip": ["192.0.2.1"],
        "server.process.name": ["nginx", "Web Content"]}  # fmt: skip


def values(fields: Sequence[Field]) -> list[str]:
    return [value for field in fields for value in SEEN.get(field.name, [])]


def at_end(text: str) -> Completion:
    return complete(text, len(text), values)


@pytest.mark.parametrize(
    ("text", "begin", "first"),
    [
        ("", 0, "ip"), ("outc", 0, "outcome"), ("SERV", 0, "server"), ("fai", 0, "failed"), ("deg", 0, "degraded"),
        ("rtt ", 4, "<"), ("rtt >", 5, None), ("port == ", 8, "443"), ("port == 8", 8, "80"), ("port in (", 9, "443"),
        ("port in (443, ", 14, "443"), ("port in (443", 9, "443"), ("port in (443 ", 13, ","), ("port in ", 8, "("),
        ("outcome == data_a", 11, "data_acked"), ('result == "no r', 10, '"no reply"'),
        ("result == ref", 10, "refused"), ('why == "nobody', 7, '"nobody listens"'),
        ("sni == ", 7, "login.example"), ("sni ~ od", 6, '"odd name"'), ("sni == an", 7, '"and"'),
        ("process == we", 11, '"Web Content"'), ("client == ", 10, "192.0.2.1"), ("rtt > 5ms ", 10, "and"),
        ("rtt > 5ms o", 10, "or"), ("failed ", 7, "and"), ("failed and ", 11, "ip"), ("(not outc", 5, "outcome"),
        ("failed and (result", 12, "result"), ("syn.md5 == t", 11, "true"), ("synack.m", 0, "synack.mss"),
        ("why == ", 7, "host_dropped"), ("cause == key", 9, "key_not_shared"), ("group != d", 9, "degraded"),
        ('"outc', 0, None), ("login ", 6, "and"), ("port == 443 && outc", 15, "outcome"),
        ("rtt > 5ms and !sn", 15, "sni"),
    ],
)  # fmt: skip
def test_what_could_stand_there(text: str, begin: int, first: str | None) -> None:
    found = at_end(text)
    assert found.begin == begin
    assert (found.candidates[:1] or (None,))[0] == first, found.candidates


def test_inside_a_text_only_what_stands_before_counts() -> None:
    found = complete("outc == data_acked", 4, values)
    assert (found.begin, found.end, found.candidates[0]) == (0, 4, "outcome")


def test_every_word_of_a_vocabulary_is_offered_and_valid() -> None:
    for name in names():
        (field, *_) = fields_of(name)
        if field.kind is Kind.WORD:
            offered = at_end(f"{name} == ").candidates
            assert set(field.words) <= set(offered) or len(offered) == OFFERED
            for one in offered:
                parse(f"{name} == {one}")
    for one in BARE_WORDS:
        parse(one)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30))
def test_whatever_is_seen_can_be_written(text: str) -> None:
    if text:
        assert parse(f"sni == {written(text)}")


@given(st.text(alphabet="ip ()=!<>~,&|\"'\\and.or not in 4 result", max_size=40), st.integers(0, 40))
def test_any_text_can_be_completed(text: str, at: int) -> None:
    at = min(at, len(text))
    found = complete(text, at, values)
    assert 0 <= found.begin <= found.end == at
    assert len(found.candidates) <= OFFERED
