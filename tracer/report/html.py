"""Elements of a page. Text is made safe to show here, and escaped when the tree is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from tracer.vocabulary.printable import printable

Element = ET.Element
Child = str | Element


def element(tag: str, *children: Child, **attributes: str) -> Element:
    """An element; `cls` is its class, and "_" in a name of an attribute stands for "-"."""
    found = Element(tag, {"class" if name == "cls" else name.replace("_", "-"): printable(value)
                          for name, value in attributes.items()})  # fmt: skip
    add(found, *children)
    return found


def add(parent: Element, *children: Child) -> None:
    """Append text and elements."""
    for child in children:
        if isinstance(child, Element):
            parent.append(child)
            continue
        text = printable(child)
        if len(parent):
            parent[-1].tail = (parent[-1].tail or "") + text
        else:
            parent.text = (parent.text or "") + text


def lines(tag: str, texts: Iterable[str]) -> Element:
    """An element with lines of text."""
    found = Element(tag)
    found.text = "\n".join(map(printable, texts))
    return found


def raw(tag: str, text: str) -> Element:
    """An element with a text of ours that is not escaped: a style sheet."""
    found = Element(tag)
    found.text = text
    return found


def page(root: Element) -> str:
    """The document."""
    return "<!DOCTYPE html>\n" + ET.tostring(root, encoding="unicode", method="html") + "\n"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; numbers are aligned to the right."""

    head: str
    is_number: bool = False

    def cell(self, tag: str, *children: Child, **attributes: str) -> Element:
        """One of its cells."""
        return element(tag, *children, **attributes, **({"cls": "number"} if self.is_number else {}))


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Child]]) -> Element:
    """A table whose first column names the row."""
    head = element("tr", *(one.cell("th", one.head, scope="col") for one in columns))
    body = element("tbody")
    for first, *others in rows:
        cells = (column.cell("td", text) for column, text in zip(columns[1:], others, strict=True))
        body.append(element("tr", element("th", first, scope="row"), *cells))
    return element("div", element("table", element("caption", caption), element("thead", head), body), cls="wide")
