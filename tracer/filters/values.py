"""What a value in a filter means for a field, and which values of a record or a column fit it."""

from __future__ import annotations

import difflib
import json
import operator as operators
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import numpy as np

from tracer.filters import times
from tracer.filters.fields import Field, Kind
from tracer.filters.regex import searcher
from tracer.handshake.events import U8, Bool
from tracer.handshake.rows import Coded, Rows
from tracer.vocabulary import spans
from tracer.vocabulary.addresses import IPV4_MAPPED, sixteen_bytes
from tracer.vocabulary.fates import BRIEF_CAUSES, BRIEF_RESULTS
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.local_time import local

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operators.eq, "<": operators.lt, "<=": operators.le, ">": operators.gt, ">=": operators.ge,
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?|\.\d+)")
_FLAGS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
# the words of lists, where these are other words than the record's
_BRIEF = {"handshake.result": BRIEF_RESULTS, "handshake.resumed": BRIEF_RESULTS, "handshake.cause": BRIEF_CAUSES}
TIME = "ts"
_MAPPED: U8 = np.frombuffer(IPV4_MAPPED, np.uint8)


class Unfit(Exception):
    """A value or operator that does not suit a field; filter.py adds its place."""

    def __init__(self, says: str, *, is_operator: bool = False) -> None:
        super().__init__(says)
        self.is_operator = is_operator


@dataclass(frozen=True, slots=True)
class Matcher:
    """`fits` tests one value, and is False for None; `rows`, if set, tests a whole column."""

    test: Callable[[Any], bool]
    numbers: Callable[[Any], Any] | None = None
    rows: Callable[[Rows], Bool] | None = None

    def fits(self, value: Any) -> bool:
        """Does a record's value fit?"""
        if value is None:
            return False
        if isinstance(value, tuple):
            return any(self.test(one) for one in value)
        return self.test(value)

    def column(self, field: Field, rows: Rows) -> tuple[Bool, Bool]:
        """Which rows fit, and in which the value is known."""
        if self.rows is not None:
            return self.rows(rows), np.ones(len(rows), np.bool_)
        found = rows.column(field.name, field.column)
        if isinstance(found, Coded):
            fitting = np.array([self.fits(value) for value in found.values], np.bool_)
            there = np.array([value is not None for value in found.values], np.bool_)
            return fitting[found.codes], there[found.codes]
        known = ~np.isnan(found.astype(np.float64))
        if self.numbers is None:
            return np.zeros(len(rows), np.bool_), known
        return known & self.numbers(found), known


def contains(text: str) -> Matcher:
    """Does the value contain `text`, in upper or lower case?"""
    wanted = text.casefold()
    return Matcher(lambda value: wanted in str(value).casefold())


def matcher(field: Field, operator: str, text: str, called: str) -> Matcher:
    """The matcher for `field operator text`; `operator` is not an inverted one. Raises Unfit."""
    if field.kind in (Kind.NUMBER, Kind.DURATION, Kind.FLAG):
        return _number(field, operator, text, called)
    if field.name == TIME and operator in ("==", "<", "<=", ">", ">="):
        return _time(operator, text, called)
    if operator in ("<", "<=", ">", ">="):
        raise Unfit(f"{called} is {field.kind.value}: {operator} compares numbers and durations", is_operator=True)
    if operator in ("~", "=~"):
        found = contains(text) if operator == "~" else _regex(text)
        if field.kind is Kind.WORD:
            return Matcher(lambda value: any(map(found.test, spellings(field, value))))
        if field.name == TIME and called.lower() != TIME:  # what lists show
            return Matcher(lambda value: found.fits(local(value)))
        return found
    if field.kind is Kind.ADDRESS:
        return _network(field, text)
    if field.kind is Kind.WORD:
        return _equal(_word(field, text))
    if field.kind is Kind.LIST:
        return Matcher(lambda value: str(value) == text)
    return _equal(text)


def _equal(wanted: str) -> Matcher:
    return Matcher(lambda value: bool(value == wanted))


def _number(field: Field, operator: str, text: str, called: str) -> Matcher:
    compare = _COMPARE.get(operator)
    if compare is None:
        raise Unfit(f"{called} is {field.kind.value}: {operator} searches text", is_operator=True)
    if field.kind is Kind.FLAG:
        if operator != "==":
            raise Unfit(f"{called} is true or false: compare it with == or !=", is_operator=True)
        if text.lower() not in _FLAGS:
            raise Unfit(f"{called} is true or false")
        wanted = _FLAGS[text.lower()]
    elif field.kind is Kind.DURATION:
        wanted = _duration(text, called)
    else:
        wanted = _plain_number(text, called)
    return Matcher(lambda value: bool(compare(float(value), wanted)), numbers=lambda column: compare(column, wanted))


def _plain_number(text: str, called: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise Unfit(f"{called} is a number, {text!r} is not")
    try:
        return float(int(text, 16)) if "x" in text.lower() else float(text)
    except OverflowError:
        raise Unfit(f"{called} is never as large as this") from None


def _duration(text: str, called: str) -> float:
    found = spans.microseconds(text, "us")
    if found is None:
        raise Unfit(f"{called} is a duration: {spans.HOW}")
    if found and not spans.has_unit(text) and not called.endswith("_us"):
        raise Unfit(f"{called} is a duration: say {text}us, {text}ms or {text}s")
    return found


def spellings(field: Field, word: str) -> tuple[str, ...]:
    """How a word is written: as in records, with blanks, and as lists have it."""
    return tuple(dict.fromkeys((word, word.replace("_", " "), _in_lists(field, word))))


def _in_lists(field: Field, word: str) -> str:
    return _BRIEF.get(field.name, {}).get(word) or in_words(word)


def plain(text: str) -> str:
    """A text as it is compared: case, and underscores or blanks, do not matter."""
    return " ".join(text.casefold().replace("_", " ").split())


def word_of(field: Field, text: str) -> str | None:
    """The word of a field's vocabulary that a text means, in either spelling."""
    wanted = plain(text)
    for word in field.words:  # what records say comes first: "refused" is a cause, and a result in lists
        if plain(word) == wanted:
            return word
    return next((one for one in field.words if wanted in map(plain, spellings(field, one))), None)


def never() -> Matcher:
    """Nothing fits."""
    return Matcher(lambda _: False)


def shown_as(text: str) -> Matcher:
    """Is it shown as this text?"""
    wanted = plain(text)
    return Matcher(lambda value: plain(value) == wanted)


def _word(field: Field, text: str) -> str:
    found = word_of(field, text)
    if found is None:
        raise Unfit(no_word(field.name, text, (field,)))
    return found


def no_word(called: str, text: str, fields: Sequence[Field]) -> str:
    """Says that none of these fields has such a word."""
    words = [word for field in fields for word in field.words]
    brief = [_in_lists(field, word) for field in fields for word in field.words]
    known = {word.casefold(): word for word in (*brief, *words)}
    near = difflib.get_close_matches(text.casefold(), known, 1)
    if not near:
        return f"{called} is never {text!r}; it is one of {', '.join(words)}"
    word = known[near[0]]
    return f"{called} is never {text!r}; did you mean {json.dumps(word) if ' ' in word else word}?"


def _time(operator: str, text: str, called: str) -> Matcher:
    found = times.moment(text)
    if found is None:
        if operator == "==" and called.lower() == TIME:
            return _equal(text)  # any text can be compared with the record's
        raise Unfit(f"{called} is a time: write it as 12:14, 12:14:31.238, 2026-11-23 or 2026-11-23T12:14")
    moment = found

    def test(value: str) -> bool:
        stamp = times.since_1970(value)
        return stamp is not None and bool(moment.fits(operator, stamp))

    return Matcher(test, rows=times.rows_fit(moment, operator))


def _regex(text: str) -> Matcher:
    try:
        return Matcher(searcher(text))
    except ValueError as error:
        raise Unfit(str(error)) from None


@lru_cache(maxsize=65536)
def _parsed(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)


def _network(field: Field, text: str) -> Matcher:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise Unfit(f"{text!r} is not an address or network; {field.name} ~ {text} searches for a part") from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        network = IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    mapped = isinstance(network, IPv4Network)
    mask = np.frombuffer(network.netmask.packed.rjust(16, b"\xff"), np.uint8)
    wanted = np.frombuffer(sixteen_bytes(network.network_address.packed), np.uint8)
    end = field.name.partition(".")[0]

    def rows(rows: Rows) -> Bool:
        addresses = rows.events[end]
        found: Bool = ((addresses & mask) == wanted).all(axis=1)
        if not mapped:
            # no IPv6 network contains an IPv4 address, though it may contain its 16 bytes
            found &= ~(addresses[:, : len(_MAPPED)] == _MAPPED).all(axis=1)
        return found

    # other addresses are in no column of their own
    return Matcher(
        lambda value: _parsed(value) in network, rows=rows if field.name in ("client.ip", "server.ip") else None
    )
