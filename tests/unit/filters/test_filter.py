"""The filter language: what is accepted, what is refused and where, and that its two evaluations agree."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import longer
from tests.support.rows import new_store, parts_of, random_batch
from tracer.filters.fields import FIELDS, Kind
from tracer.filters.filter import ALIASES, fields_of, names, parse
from tracer.filters.grammar import LENGTH_MAX, FilterError
from tracer.handshake.rows import Coded
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows


@lru_cache(maxsize=1)
def rows() -> StoreRows:
    """Odd handshakes, many with payloads."""
    store = new_store()
    store.write(random_batch(1, 400))
    found = store.snapshot().rows
    assert isinstance(found, StoreRows)
    return found


@lru_cache(maxsize=1)
def records() -> tuple[Handshake, ...]:
    """The same as records."""
    return tuple(rows().record(row) for row in range(len(rows())))


def chosen(text: str) -> list[Handshake]:
    """What a filter lets through, by both evaluations."""
    expression = parse(text)
    by_record = [expression.matches(record) for record in records()]
    assert rows().mask(expression).tolist() == by_record, text
    return [record for record, passes in zip(records(), by_record, strict=True) if passes]


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_reads_the_same_off_records_and_rows(name: str) -> None:
    field = FIELDS[name]
    expected = [field.of(record) for record in records()]
    found: list[object] = []
    for part in parts_of(rows()):
        column = field.column(part)
        if isinstance(column, Coded):
            found += [column.values[code] for code in column.codes.tolist()]
        else:
            found += [None if value != value else value for value in column.tolist()]
    assert found == expected


def test_the_made_up_rows_have_known_and_unknown_values() -> None:
    def some(name: str) -> tuple[bool, bool]:
        values = [FIELDS[name].of(record) for record in records()]
        return any(value is None for value in values), any(value is not None for value in values)

    for name in ("tls.sni", "http.host", "dns.name", "synack.mss", "handshake.rtt_us", "handshake.icmp.type"):
        assert some(name) == (True, True), name


def test_the_languages_own_example() -> None:
    found = chosen("tfo.outcome == data_not_acked and server.port == 443 and rtt > 50ms")
    assert found == [
        record
        for record in records()
        if record.tfo.outcome == "data_not_acked"
        and record.server.port == 443
        and record.handshake.rtt_us is not None
        and record.handshake.rtt_us > 50_000
    ]


def test_contains_whatever_the_case() -> None:
    found = chosen("sni ~ DEMO.Example")
    assert found
    assert all(record.tls is not None and "demo.example" in str(record.tls.sni) for record in found)
    assert found == chosen(r"sni =~ 'demo\.EXAMPLE$'")


def test_networks() -> None:
    assert chosen("client.ip == 0.0.0.0/0") == [record for record in records() if ":" not in record.client.ip]
    assert chosen("client.ip == ::/0") == [record for record in records() if ":" in record.client.ip]
    one = records()[0].client.ip
    assert chosen(f"client == {one}") == [record for record in records() if record.client.ip == one]
    assert chosen(f"{one}") == [record for record in records() if one in (record.client.ip, record.server.ip)]
    assert parse("ip == ::ffff:10.0.0.0/104").matches(records()[0]) is parse("ip == 10.0.0.0/8").matches(records()[0])


def test_both_ends() -> None:
    one = records()[0].client.ip
    assert chosen(f"ip != {one}") == [record for record in records() if one not in (record.client.ip, record.server.ip)]


def test_lists() -> None:
    assert chosen("options == tfo") == [record for record in records() if "tfo" in record.syn.options]
    assert chosen("options != tfo") == [record for record in records() if "tfo" not in record.syn.options]
    assert chosen("alpn in (h2, http/1.1)") == [
        record for record in records() if record.tls is not None and {"h2", "http/1.1"} & set(record.tls.alpn or ())
    ]


def test_tunnels_are_a_list() -> None:
    through = [record for record in records() if record.through]
    assert through
    assert chosen('through == "vxlan"') == chosen("through in (gre, geneve)") == through
    assert chosen("through != vxlan") == [record for record in records() if not record.through]
    assert chosen("through == ipip") == []


def test_unknown_values_pass_no_comparison() -> None:
    without = [record for record in records() if record.tls is None or record.tls.sni is None]
    assert without
    assert chosen("sni == null") == without
    for text in (
        "sni ~ a",
        "sni !~ a",
        "sni == a",
        "sni != a",
        "rtt < 1s and rtt == null",
        "synack.mss != 5 and synack.mss == null",
    ):
        assert not [record for record in chosen(text) if record in without and "sni" in text], text
    assert chosen("not sni ~ a") == [record for record in records() if record not in chosen("sni ~ a")]
    assert chosen("sni != null") == [record for record in records() if record not in without]


def test_bare_words_look_at_addresses_and_names() -> None:
    found = chosen("login")
    assert found
    assert all("login" in str(record) for record in found)
    assert chosen('"login"') == found


def test_words_bind_as_they_should() -> None:
    a, b, c = "result == established", "outcome == data_acked", "port == 443"
    assert chosen(f"{a} or {b} and {c}") == chosen(f"{a} or ({b} and {c})")
    assert chosen(f"not {a} and {b}") == chosen(f"(not {a}) and {b}")
    assert chosen(f"{a} && !({b}) || {c}") == chosen(f"({a} and not ({b})) or {c}")
    assert chosen(f"NOT NOT {a}") == chosen(a)
    assert chosen("android or north or inside") == []


def test_durations() -> None:
    assert chosen("rtt > 0.05s") == chosen("handshake.rtt > 50ms") == chosen("handshake.rtt_us > 50000")
    assert chosen("rtt>=0")


def test_blank_lets_all_through() -> None:
    assert len(chosen("")) == len(chosen("  ")) == len(records())


def test_equal_texts_are_equal_filters() -> None:
    assert parse("rtt > 1ms") == parse(" rtt > 1ms ")
    assert hash(parse("rtt > 1ms")) == hash(parse("rtt > 1ms"))
    assert parse("rtt > 1ms") != parse("rtt > 2ms")


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("rtt >", 5, "value is missing"),
        ("rtt > 50", 6, "50us, 50ms or 50s"),
        ("rtt > 50ms and", 14, "comparison is missing"),
        ("rtt > 50ms and and", 15, "comparison was expected"),
        ("(rtt > 50ms", 11, "parenthesis is missing"),
        ("rtt > 50ms)", 10, "never opened"),
        ("rtt > 50 ms", 9, "'ms' cannot follow"),
        ("tfo.outcom == data_acked", 0, "did you mean tfo.outcome?"),
        ("outcome == data_ackd", 11, "did you mean data_acked?"),
        ("group == great", 9, "n/a, ok, degraded, failed"),
        ("port == https", 8, "is a number"),
        ("sni > 5", 0, "compares numbers"),
        ("rtt ~ 5", 0, "searches text"),
        ("ip == 10.0.0.0/40", 6, "not an address or network"),
        ("port in 80", 8, "in parentheses"),
        ("port in (80", 11, "comma or a closing"),
        ("port in (80, )", 13, "value was expected"),
        ('sni ~ "a', 6, "no partner"),
        ("rtt", 0, "is a field"),
        ("sni =~ '('", 7, "is not a regular expression: missing ): ("),
        ("sni =~ '(?=a)b'", 7, "no look-around, backreferences or conditions, so that no text makes them slow: (?= is"),
        ("sni =~ '(?<!a)b'", 7, "slow: (?<! is not known"),
        (r"sni =~ '(a)\\1'", 7, r"slow: \1 is not known"),
        ("sni =~ '(?P<a>x)(?P=a)'", 7, "slow: (?P is not known"),
        (r"sni =~ '(\\pL{900}|[^a]{1000})x'", 7, "expression is too large"),
        ("sni =~ '\udcff'", 7, "is not a regular expression: invalid UTF-8"),
        ("syn.md5 == maybe", 11, "true or false"),
        ("port < null", 7, "only be compared"),
        ("port in (1, null)", 12, "only be compared"),
        ("a & b", 2, "not understood"),
        ("=", 0, "comparison was expected"),
        ("x" * (LENGTH_MAX + 1), LENGTH_MAX, "at most"),
    ],
)
def test_what_is_wrong_is_said_and_marked(text: str, at: int, says: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert caught.value.at == at
    assert caught.value.shown[1].index("^") == min(at, len("... ") + 36)
    assert f"column {at + 1}" in str(caught.value)


def refused(text: str) -> FilterError | None:
    try:
        parse(text)
    except FilterError as error:
        return error
    return None


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    error = refused(text)
    if error is None:
        chosen(text)
    else:
        assert 0 <= error.at <= len(text)
        assert str(error).startswith(f"filter, column {error.at + 1}: ")
        assert "^" in error.shown[1]


@pytest.mark.parametrize(
    "text", ["!" * (LENGTH_MAX - 1) + "x", "(" * 499 + "x" + ")" * 499, "!(a&&" * 160 + "b" + ")" * 160]
)
def test_deep_nesting_is_no_trouble(text: str) -> None:
    chosen(text)


def test_aliases_name_fields() -> None:
    for alias in ALIASES:
        assert fields_of(alias), alias
        assert len({field.kind for field in fields_of(alias)}) == 1
    assert [field.kind for field in fields_of("rtt")] == [Kind.DURATION]
    assert fields_of("nothing") == ()
    assert set(ALIASES) <= set(names())


# --- random filters ---


def _seen(name: str) -> list[object]:
    """Values that the records have in a field, so that filters hit."""
    found: dict[object, None] = {}
    for record in records():
        value = FIELDS[name].of(record)
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                found[one] = None
    return list(found)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(names())))
    field = draw(st.sampled_from(fields_of(name)))
    if draw(st.integers(0, 7)) == 0:
        return f"{name} {draw(st.sampled_from(['==', '!=']))} null"
    seen = _seen(field.name)
    if field.kind in (Kind.NUMBER, Kind.DURATION):
        unit = draw(st.sampled_from(["us", "ms", "s"])) if field.kind is Kind.DURATION else ""
        number = draw(st.sampled_from(seen)) if seen and draw(st.booleans()) else draw(st.integers(0, 70000))
        scaled = float(str(number)) / {"us": 1, "ms": 1e3, "s": 1e6, "": 1}[unit]
        operator = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
        return f"{name} {operator} {scaled:.6f}{unit}"
    if field.kind is Kind.FLAG:
        return f"{name} {draw(st.sampled_from(['==', '!=']))} {draw(st.sampled_from(['true', 'false', 'yes', 'no']))}"
    if field.kind is Kind.ADDRESS and draw(st.booleans()):
        address = str(draw(st.sampled_from(seen or ["192.0.2.1"])))
        bits = draw(st.integers(0, 128 if ":" in address else 32))
        return f"{name} {draw(st.sampled_from(['==', '!=']))} {address}/{bits}"
    if field.kind is Kind.WORD:
        words = draw(st.lists(st.sampled_from(field.words), min_size=1, max_size=3))
        return draw(
            st.sampled_from([f"{name} == {words[0]}", f"{name} != {words[0]}", f"{name} in ({', '.join(words)})"])
        )
    text = str(draw(st.sampled_from(seen or ["192.0.2.1"])))
    if field.kind is Kind.ADDRESS:
        return f"{name} in ({_quoted(text)}, 10.0.0.0/8)"
    begin = draw(st.integers(0, len(text)))
    piece = text[begin : begin + draw(st.integers(1, 6))]
    other = "12:14" if field.name == "ts" else "nothing"  # a time is compared with times only
    return draw(
        st.sampled_from([
            f"{name} == {_quoted(text)}", f"{name} != {_quoted(text)}", f"{name} ~ {_quoted(piece)}",
            f"{name} !~ {_quoted(piece)}", f"{name} in ({other}, {_quoted(text)})", f"{_quoted(piece)}",
        ])
    )  # fmt: skip


filters = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or", "&&", "||"]), inner).map(" ".join),
        inner.map(lambda text: f"not ({text})"),
        inner.map(lambda text: f"({text})"),
    ),
    max_leaves=5,
)


@settings(max_examples=longer.either(150, 400), deadline=None)
@given(filters)
def test_rows_and_records_agree(text: str) -> None:
    if len(text) <= LENGTH_MAX:
        chosen(text)


def test_masks_of_full_chunks_are_kept_and_stay_right() -> None:
    store = new_store(limit=9_000)
    for seed in range(12):
        store.write(random_batch(seed, 1000))
        found = store.snapshot().rows
        assert isinstance(found, StoreRows)
        for text in ("result == established", "demo", "client.ip == 0.0.0.0/1"):
            expression = parse(text)
            fresh = np.concatenate([expression.mask(part) for part in parts_of(found)])
            assert (found.mask(expression) == fresh).all()
            assert len(fresh) == len(found)
            assert (found.select(expression) == np.flatnonzero(fresh)).all()
