"""A small language to pick handshakes: `tfo.outcome == data_not_acked and server.port == 443 and rtt > 50ms`.

    comparison  FIELD == != < <= > >= VALUE, FIELD in (VALUE, ...)
                FIELD ~ TEXT, FIELD !~ TEXT (contains, case does not matter), FIELD =~ REGEX
                time == != < <= > >= 12:14, 12:14:31.238, 2026-11-23, 2026-11-23T12:14 (local; with Z
                behind it, or with --utc, UTC; without a day: of any)
    joined by   and && or || not ! ( )
    VALUE       number; duration with us, ms, s, m or h; true, false; a word; text, in quotation marks where it holds
                blanks or operators; for addresses an address or a network (10.0.0.0/8); null
    bare word   text contained in an address or a name; an address or network; without quotation marks also
                failed (the handshake or Fast Open), slow (established, yet something delayed it), degraded (slow, or
                without Fast Open's gain)

Fields are those of the records by their dotted names (fields.py), and ALIASES. A comparison says something
about a value that is known: for an unknown one (null) it is false, `!=` and `!~` too; only `== null` and `!= null`
ask whether it is known. `not` turns true and false around, so `not sni ~ x` holds for handshakes without SNI and
`sni !~ x` does not. Of a list (vlan, alpn, options) one element has to fit, for `!=` and `!~` none must. `ip`, `name`
`cause` and `process` stand for several fields: one has to fit, for `!=` and `!~` none must.

Words can be written as records have them (no_reply) or as lists show them ("no reply"). What a list shows under result,
outcome and cause can be asked of these names, whichever field it comes from, and of `process` a name with its pid.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tracer.filters.fields import FIELDS, Field
from tracer.filters.shown import SHOWN
from tracer.filters.values import Matcher, Unfit, contains, matcher, never, no_word, plain, shown_as, word_of
from tracer.handshake.events import Bool
from tracer.handshake.rows import Rows
from tracer.records.record import Handshake
from tracer.vocabulary.drops import DROPPED_BY

if TYPE_CHECKING:
    from tracer.filters.grammar import FilterError, Word

NAMES = ("tls.sni", "http.host", "dns.name")

ALIASES: dict[str, tuple[str, ...]] = {
    "ip": ("client.ip", "server.ip"),
    "client": ("client.ip",),
    "server": ("server.ip",),
    "port": ("server.port",),
    "name": NAMES,
    "sni": ("tls.sni",),
    "alpn": ("tls.alpn",),
    "ech": ("tls.ech",),
    "method": ("http.method",),
    "http_host": ("http.host",),
    "dns_name": ("dns.name",),
    "protocol": ("payload.protocol",),
    "process": ("client.process.name", "server.process.name"),
    "client.process": ("client.process.name",),
    "server.process": ("server.process.name",),
    "time": ("ts",),
    "result": ("handshake.result",),
    "settled_by": ("handshake.settled_by",),
    "after": ("handshake.after",),
    "syn_count": ("handshake.syn_count",),
    "rtt": ("handshake.rtt_us",),
    "synack_delay": ("handshake.synack_delay_us",),
    "ack_delay": ("handshake.ack_delay_us",),
    "first_response": ("handshake.first_response_us",),
    "connect": ("handshake.connect_us",),
    "first_request": ("handshake.first_request_us",),
    "saved": ("tfo.rtt_saved_us",),
    "delay": ("tfo.delay_us",),
    "request": ("tfo.request",),
    "outcome": ("tfo.outcome",),
    "group": ("tfo.group",),
    "cause": ("handshake.cause", "tfo.cause"),
    "why": ("handshake.cause",),
    "handshake_cause": ("handshake.cause",),
    "cause_at": ("handshake.cause_at",),
    "drop": ("handshake.drop.reason",),
    "drop_reason": ("handshake.drop.reason",),
    "drop_at": ("handshake.drop.at",),
    "cookie_id": ("tfo.cookie_id",),
    "synack_cookie_id": ("tfo.synack_cookie_id",),
    "payload_len": ("syn.payload_len",),
    "acked": ("synack.acked_payload_len",),
    "mss": ("syn.mss",),
    "synack_mss": ("synack.mss",),
    "wscale": ("syn.wscale",),
    "window": ("syn.window",),
    "ttl": ("syn.ttl",),
    "hops": ("syn.hops",),
    "options": ("syn.options",),
    "synack_options": ("synack.options",),
    "mptcp": ("syn.mptcp",),
    "ecn": ("negotiated.ecn",),
    "p0f": ("signature.p0f",),
}

# names under which lists show more than their fields say: where else such a word may come from
SHOWN_FROM: dict[str, tuple[str, ...]] = {"outcome": ("handshake.result",), "result": ("tfo.outcome",), "cause": ()}
_JUDGED = ("handshake.result", "handshake.cause", "tfo.outcome", "tfo.group")
_PROCESSES = ("process", "client.process", "server.process")
_WITH_PID = re.compile(r"\[\d*\]?$")
BARE_WORDS = ("failed", "degraded", "slow")  # that are no text to look for


class Node(Protocol):
    """A part of a filter. It gives the same answer for a record and for its row."""

    def matches(self, record: Handshake) -> bool: ...
    def mask(self, rows: Rows) -> Bool: ...


@dataclass(frozen=True, slots=True)
class _Junction:
    """`every` part must fit, or any part."""

    every: bool
    parts: tuple[Node, ...]

    def matches(self, record: Handshake) -> bool:
        return (all if self.every else any)(part.matches(record) for part in self.parts)

    def mask(self, rows: Rows) -> Bool:
        found = np.full(len(rows), self.every)
        for one in self.parts:
            if (found != self.every).all():  # no other part can change this
                break
            (np.logical_and if self.every else np.logical_or)(found, one.mask(rows), out=found)
        return found


@dataclass(frozen=True, slots=True)
class _Not:
    inner: Node

    def matches(self, record: Handshake) -> bool:
        return not self.inner.matches(record)

    def mask(self, rows: Rows) -> Bool:
        return ~self.inner.mask(rows)


@dataclass(frozen=True, slots=True)
class _Test:
    """One of several fields fits; `inverted`: at least one is known and none fits."""

    fields: tuple[Field, ...]
    matchers: tuple[Matcher, ...]
    inverted: bool

    def matches(self, record: Handshake) -> bool:
        values = [found.of(record) for found in self.fields]
        fits = any(one.fits(value) for one, value in zip(self.matchers, values, strict=True))
        return any(value is not None for value in values) and not fits if self.inverted else fits

    def mask(self, rows: Rows) -> Bool:
        fits = np.zeros(len(rows), np.bool_)
        known = np.zeros(len(rows), np.bool_)
        for found, one in zip(self.fields, self.matchers, strict=True):
            fitting, there = one.column(found, rows)
            fits |= fitting
            known |= there
        return known & ~fits if self.inverted else fits


@dataclass(frozen=True, slots=True)
class _Null:
    """Is no value of these fields known?"""

    fields: tuple[Field, ...]

    def matches(self, record: Handshake) -> bool:
        return all(found.of(record) is None for found in self.fields)

    def mask(self, rows: Rows) -> Bool:
        known = np.zeros(len(rows), np.bool_)
        anything = contains("")
        for found in self.fields:
            known |= anything.column(found, rows)[1]
        return ~known


@dataclass(frozen=True)
class Filter:
    """A parsed filter; two with the same text are equal. `parse` makes it."""

    text: str
    node: Node = field(compare=False, repr=False)
    fields: frozenset[str] = field(default=frozenset(), compare=False, repr=False)  # names of those it compares

    def matches(self, record: Handshake) -> bool:
        """Does this record pass?"""
        return self.node.matches(record)

    def mask(self, rows: Rows) -> Bool:
        """Which of these rows pass?"""
        return self.node.mask(rows)


def parse(text: str) -> Filter:
    """Parse a filter; a blank one lets everything through.

    Raises:
        FilterError (tracer.filters.grammar), a UsageError that says what is wrong and where.
    """
    if not text.strip():
        return Filter("", _Junction(True, ()))
    from tracer.filters import grammar

    reader = _Reader(text)
    node = reader.node(grammar.parse(text))
    return Filter(text.strip(), node, frozenset(reader.seen))


class _Reader:
    """Makes nodes of the grammar's trees; has the text for messages."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.seen: set[str] = set()

    def _error(self, says: str, word: Word) -> FilterError:
        from tracer.filters.grammar import FilterError

        return FilterError(says, self._text, word.at, word.length)

    def _look_at(self, fields: tuple[Field, ...]) -> None:
        self.seen.update(one.name for one in fields)

    def node(self, tree: Any) -> Node:
        """The node of a tree."""
        from tracer.filters.grammar import Word

        inverted = False
        while tree.data == "negation":  # without recursion: there may be hundreds
            (tree,), inverted = tree.children, not inverted
        if tree.data in ("and_expr", "or_expr"):
            node: Node = _Junction(tree.data == "and_expr", tuple(self.node(part) for part in tree.children))
        elif tree.data == "bare":
            node = self._bare(Word.of(tree.children[0]))
        elif tree.data == "membership":
            name, *values = map(Word.of, tree.children)
            node = self._membership(name, values)
        else:
            node = self._comparison(Word.of(tree.children[0]), str(tree.children[1]), Word.of(tree.children[2]))
        return _Not(node) if inverted else node

    def _bare(self, word: Word) -> Node:
        if not word.quoted:
            if word.text.lower() in BARE_WORDS:
                return self._standing(word.text.lower())
            if fields_of(word.text):
                says = f"{word.text} is a field: compare it with something, or put it in quotation marks"
                raise self._error(says, word)
            if is_network(word.text):
                self._look_at(fields_of("ip"))
                return self._test(fields_of("ip"), "==", word)
        fields = tuple(FIELDS[name] for name in ("client.ip", "server.ip", *NAMES))
        self._look_at(fields)
        return _Test(fields, (contains(word.text),) * len(fields), False)

    def _standing(self, wanted: str) -> Node:
        """What became of the handshake and of Fast Open together."""
        self._look_at(tuple(FIELDS[name] for name in _JUDGED))
        if wanted == "slow":
            return _Test((SHOWN["slow"],), (matcher(SHOWN["slow"], "==", "true", wanted),), False)
        return _Test((SHOWN["standing"],), (shown_as(wanted),), False)

    def _membership(self, name: Word, values: list[Word]) -> Node:
        fields = self._named(name)
        return _Junction(False, tuple(self._test(fields, "==", value, name) for value in values))

    def _comparison(self, name: Word, operator: str, value: Word) -> Node:
        fields = self._named(name)
        operator = "==" if operator == "=" else operator
        if operator in ("==", "!=") and not value.quoted and value.text.lower() == "null":
            return _Null(fields) if operator == "==" else _Not(_Null(fields))
        return self._test(fields, operator, value, name)

    def _named(self, name: Word) -> tuple[Field, ...]:
        fields = fields_of(name.text) if not name.quoted else ()
        if not fields:
            raise self._error(_no_field(name.text), name)
        self._look_at(fields)
        return fields

    def _test(self, fields: tuple[Field, ...], operator: str, value: Word, name: Word | None = None) -> Node:
        inverted = operator in ("!=", "!~")
        positive = {"!=": "==", "!~": "~"}.get(operator, operator)
        called = fields[0].name if name is None else name.text
        if not value.quoted and value.text.lower() == "null":
            raise self._error("null can only be compared with == and !=", value)
        if called.lower() in SHOWN_FROM and positive == "==":
            return self._shown(called.lower(), fields, value, inverted)
        if called.lower() in SHOWN_FROM and positive in ("~", "=~"):
            self._look_at(tuple(FIELDS[one] for one in _JUDGED))
            fields = (*fields, SHOWN[called.lower()])
        elif called.lower() in _PROCESSES and _WITH_PID.search(value.text):
            fields = tuple(SHOWN[one.name.removesuffix(".name")] for one in fields)
        try:
            found = tuple(matcher(one, positive, value.text, called) for one in fields)
        except Unfit as error:
            raise self._error(str(error), name if error.is_operator and name is not None else value) from None
        return _Test(fields, found, inverted)

    def _shown(self, name: str, fields: tuple[Field, ...], value: Word, inverted: bool) -> Node:
        """Equality under a name for which lists show more than its fields say."""
        others, text = tuple(FIELDS[one] for one in SHOWN_FROM[name]), value.text
        self._look_at((*others, *(FIELDS[one] for one in _JUDGED)))
        for some in (fields, others):
            words = [word_of(one, text) is not None for one in some]
            if any(words):
                found = [
                    matcher(one, "==", text, name) if has else never() for one, has in zip(some, words, strict=True)
                ]
                return _Test(some, tuple(found), inverted)
        if not _is_fate(name, text):
            raise self._error(no_word(fields[0].name, text, (*fields, *others)), value)
        return _Test((SHOWN[name],), (shown_as(text),), inverted)


def _is_fate(name: str, text: str) -> bool:
    """Could lists show this there: "data acked, died", or causes as in "no reply: dropped by this host: firewall"?"""
    outcome, comma, ending = text.partition(",")
    if comma:
        return plain(ending) == "died" and word_of(FIELDS["tfo.outcome"], outcome) is not None
    words = [FIELDS[field] for field in ("handshake.result", "handshake.cause")]
    parts = [part.strip() for part in text.split(":")]
    return (len(parts) > 1 or name == "outcome") and all(
        plain(part) in DROPPED_BY or any(word_of(one, part) is not None for one in words) for part in parts
    )


def fields_of(name: str) -> tuple[Field, ...]:
    """The fields that a name in a filter stands for; none if it is not known."""
    wanted = name.lower()
    if wanted in ALIASES:
        return tuple(FIELDS[one] for one in ALIASES[wanted])
    found = FIELDS.get(wanted) or FIELDS.get(f"{wanted}_us")
    return (found,) if found is not None else ()


def names() -> tuple[str, ...]:
    """Every name a filter may use, for help and completion."""
    return (*ALIASES, *FIELDS)


def is_network(text: str) -> bool:
    """Is this a complete address or network?"""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    # ip_network takes "1" for 0.0.0.1
    return "." in text or ":" in text


def _no_field(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), names(), 1)
    return f"there is no field {name!r}" + (f"; did you mean {near[0]}?" if near else "")
