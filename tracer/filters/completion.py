"""What could be typed at a place in a filter: names of fields, operators, values, and what joins comparisons."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tracer.filters.fields import FIELDS, Field, Kind
from tracer.filters.filter import ALIASES, BARE_WORDS, SHOWN_FROM, fields_of, names
from tracer.filters.values import spellings

OFFERED = 50  # candidates at most
_TOKEN = re.compile(
    r"""\s+|(?P<quoted>"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)|(?P<operator>==|=~|!=|!~|<=|>=|<|>|=|~)"""
    r"""|(?P<mark>\|\||&&|[(),!&|])|(?P<word>[^\s()!=<>~,&|"']+)"""
)
_JOINS = ("and", "or")
_NEEDS_QUOTES = re.compile(r"""[\s()!=<>~,&|"'\\]""")
_OPERATORS = {
    Kind.NUMBER: ("==", "!=", "<", "<=", ">", ">=", "in ("),
    Kind.DURATION: ("<", "<=", ">", ">=", "==", "!="),
    Kind.FLAG: ("==", "!="),
    Kind.WORD: ("==", "!=", "in (", "~"),
    Kind.ADDRESS: ("==", "!=", "in (", "~"),
}
_OTHER_OPERATORS = ("==", "!=", "~", "!~", "=~", "in (")

Values = Callable[[Sequence[Field]], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Completion:
    """`text[begin:end]` is being typed; each of the candidates could stand there instead."""

    begin: int
    end: int
    candidates: tuple[str, ...]


@dataclass(slots=True)
class _Place:
    """What stands before a place: `state` is what can follow, `name` the field of the comparison begun."""

    state: str = "name"
    name: str = ""
    in_list: bool = False

    def word(self, text: str, quoted: bool) -> None:
        """A word or a quoted text."""
        lower = "" if quoted else text.lower()
        if self.state == "operator" and lower == "in":
            self.state = "open"
        elif self.state in ("operator", "join") and lower in _JOINS:
            self.state = "name"
        elif self.state == "value":
            self.state = "list" if self.in_list else "join"
        elif self.state == "name" and lower != "not":
            self.name, self.state = text, "join" if quoted or not fields_of(text) else "operator"

    def mark(self, text: str) -> None:
        """A parenthesis, a comma, or a sign for and, or, not."""
        if text == "(" and self.state == "open":
            self.state, self.in_list = "value", True
        elif text == "," and self.in_list:
            self.state = "value"
        elif text == ")":
            self.state, self.in_list = "join", False
        elif text in ("&&", "||", "&", "|"):
            self.state = "name"


def complete(text: str, at: int, values: Values) -> Completion:
    """What could stand at a place of a filter, beginning with what is typed there already.

    `values` gives values seen of some fields, for those without a vocabulary.
    """
    place, begin = _Place(), at
    for found in _TOKEN.finditer(text[:at]):
        if found.end() == at and (found["word"] or (found["quoted"] and not _is_closed(found["quoted"]))):
            begin = found.start()
            break
        if found["word"] or found["quoted"]:
            place.word(found["word"] or found["quoted"][1:-1], found["quoted"] is not None)
        elif found["operator"]:
            place.state = "value"
        elif found["mark"]:
            place.mark(found["mark"])
    typed = text[begin:at].lstrip("\"'").casefold()
    quoted = text[begin:at][:1] in ("'", '"')
    fitting = (one for one in _offered(place, values, quoted) if one.strip('"').casefold().startswith(typed))
    candidates = [one for one, _ in zip(dict.fromkeys(fitting), range(OFFERED), strict=False)]
    return Completion(begin, at, tuple(candidates))


def _is_closed(quoted: str) -> bool:
    return len(quoted) > 1 and quoted[-1] == quoted[0]


def _offered(place: _Place, values: Values, quoted: bool) -> Iterable[str]:
    if place.state == "value":
        return _values(place.name, values, quoted)
    if quoted:
        return ()
    match place.state:
        case "name":
            return (*ALIASES, *BARE_WORDS, "not", *(name for name in names() if name not in ALIASES))
        case "operator":
            return _OPERATORS.get(fields_of(place.name)[0].kind, _OTHER_OPERATORS)
        case "open":
            return ("(",)
        case "list":
            return (",", ")")
    return _JOINS


def _values(name: str, values: Values, quoted: bool) -> Iterable[str]:
    fields = fields_of(name)
    if not fields:
        return ()
    if fields[0].kind is Kind.FLAG:
        return ("true", "false")
    if fields[0].kind is not Kind.WORD:
        return (written(one) for one in values(fields))
    others = tuple(FIELDS[one] for one in SHOWN_FROM.get(name.lower(), ()))
    forms = [spellings(field, word) for field in (*fields, *others) for word in field.words]
    # the record's words, then the words of lists: those that only have blanks instead if a quotation mark asks for them
    words = [form[0] for form in forms]
    shown = [one for form in forms for one in form[1:] if quoted or one != form[0].replace("_", " ")]
    return [*words, *map(written, shown), "null"]


def written(value: str) -> str:
    """A value as it is written in a filter, in quotation marks where it needs them."""
    if value and not _NEEDS_QUOTES.search(value) and value.lower() not in (*_JOINS, "not", "in", "null"):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
