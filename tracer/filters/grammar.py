"""The grammar of filters and its parser (lark): text becomes a tree. filter.py knows what fields mean.

Imported when a filter is first parsed: lark takes some 40 ms to load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedEOF, UnexpectedToken
from lark.exceptions import UnexpectedInput

from tracer.errors import UsageError
from tracer.vocabulary.printable import cells, printable

LENGTH_MAX = 1000  # characters; also bounds how deep a filter can nest
_AROUND = 36  # how many characters around a wrong place are shown

GRAMMAR = r"""
?start: or_expr
?or_expr: and_expr (_OR and_expr)*
?and_expr: not_expr (_AND not_expr)*
?not_expr: _NOT not_expr -> negation
         | atom
?atom: _OPEN or_expr _CLOSE
     | value OPERATOR value -> comparison
     | value _IN _OPEN value (_COMMA value)* _CLOSE -> membership
     | value -> bare
?value: WORD | QUOTED

_OR.2: /or(?=[\s()]|$)/i | "||"
_AND.2: /and(?=[\s()]|$)/i | "&&"
_NOT.2: /not(?=[\s()]|$)/i | /!(?![=~])/
_IN.2: /in(?=[\s(]|$)/i
OPERATOR.2: "==" | "=~" | "!=" | "!~" | "<=" | ">=" | "<" | ">" | "=" | "~"
_OPEN: "("
_CLOSE: ")"
_COMMA: ","
QUOTED: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/
WORD: /[^\s()!=<>~,&|"']+/
%ignore /\s+/
"""


class FilterError(UsageError):
    """A wrong filter: `says` what is wrong, `at` is its place in `text` (from 0), `length` characters long.

    `shown` is the text around that place, fit for a terminal, and a line that marks it.
    """

    def __init__(self, says: str, text: str, at: int, length: int = 1) -> None:
        super().__init__(f"filter, column {at + 1}: {says}")
        self.at = at
        stop = at + max(1, length)
        begin, end = max(0, at - _AROUND), min(stop, at + _AROUND) + _AROUND
        before = ("... " if begin else "") + printable(text[begin:at])
        wrong = printable(text[at : min(stop, end)])
        after = printable(text[stop:end]) + (" ..." if end < len(text) else "")
        self.shown = before + wrong + after, " " * cells(before) + "^" * max(1, cells(wrong))


@dataclass(frozen=True, slots=True)
class Word:
    """A word or quoted text, and its place."""

    text: str
    at: int
    length: int
    quoted: bool

    @classmethod
    def of(cls, token: Token) -> Word:
        """Without the quotation marks; within them a backslash takes the next character as it is."""
        quoted = token.type == "QUOTED"
        text = re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL) if quoted else str(token)
        return cls(text, token.start_pos or 0, len(token), quoted)


# the basic lexer: `and` is never a word, whatever precedes it
_parser: Any = Lark(GRAMMAR, parser="lalr", lexer="basic", maybe_placeholders=False)

_BEGINS_SOMETHING = {"WORD", "QUOTED"}


def parse(text: str) -> Tree[Token]:
    """The tree of a filter that is not blank. Raises FilterError."""
    if len(text) > LENGTH_MAX:
        raise FilterError(f"a filter has at most {LENGTH_MAX} characters", text, LENGTH_MAX)
    try:
        tree: Tree[Token] = _parser.parse(text)
    except UnexpectedCharacters as error:
        at = cast("int", error.pos_in_stream)  # lark's types say it is None
        raise FilterError(_strange(text, at), text, at) from None
    except UnexpectedToken as error:
        at = len(text) if error.token.type == "$END" else error.token.start_pos or 0
        says = _expected(set(error.accepts or error.expected), error.token)
        raise FilterError(says, text, at, len(error.token)) from None
    except (UnexpectedEOF, UnexpectedInput):
        raise FilterError("something is missing here", text, len(text)) from None
    return tree


def _strange(text: str, at: int) -> str:
    if text[at] in "\"'":
        return "this quotation mark has no partner"
    return f"{text[at]!r} is not understood here; put text with such characters in quotation marks"


def _expected(accepted: set[str], token: Token) -> str:
    ended = token.type == "$END"
    if accepted >= _BEGINS_SOMETHING and "_OPEN" in accepted:
        return "a comparison is missing here, such as rtt > 50ms" if ended else "a comparison was expected here"
    if accepted >= _BEGINS_SOMETHING:
        return "a value is missing here" if ended else "a value was expected here"
    if accepted == {"_OPEN"}:
        return "`in` needs values in parentheses: port in (80, 443)"
    if "_COMMA" in accepted:
        return "a comma or a closing parenthesis was expected here"
    if ended:
        return "a closing parenthesis is missing"
    if token.type == "_CLOSE":
        return "this parenthesis was never opened"
    return f"{str(token)!r} cannot follow what stands before it: use and, or, or a comparison"
