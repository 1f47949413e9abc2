"""docs/clickhouse against the record's schema: the view reads existing fields, nullable exactly if the column is."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.schema import schema_lines
from tracer.cli.schema import json_schema

SQL = Path(__file__).parents[2] / "docs" / "clickhouse"
TABLES = (SQL / "handshakes.sql").read_text()


def columns() -> dict[str, str]:
    """Name and type of the table's columns."""
    body = TABLES.partition("tfotrace.handshakes\n(")[2].partition("\n)")[0]
    return dict(re.findall(r"^    (\w+) +([A-Z]\w+(?:\(.*\))?)", body, re.MULTILINE))


def reads() -> dict[str, str]:
    """The field of a record that each column comes from."""
    view = TABLES.partition("MATERIALIZED VIEW")[2]
    found = re.findall(r"JSONExtract\w*\(line((?:, '\w+')+)(?:, '[A-Z][^']*')?\).* AS (\w+)", view)
    return {name: ".".join(re.findall(r"'(\w+)'", path)) for path, name in found}


def test_every_column_is_filled_from_a_field_of_its_kind() -> None:
    assert len(columns()) > 20
    assert columns().keys() - reads().keys() == {"host", "record", "lived"}
    assert reads().keys() <= columns().keys()
    kinds = dict(line.split(": ", 1) for line in schema_lines(json_schema()) if ": " in line)
    for name, field in reads().items():
        kind = kinds[f"handshake.{field}"]
        assert ("null" in kind) == ("Nullable" in columns()[name]), (name, kind)
        number = "number" in kind or "integer" in kind
        assert number == bool(re.search(r"Float|UInt", columns()[name])), (name, kind)


def test_questions_name_columns_of_the_table() -> None:
    text = re.sub(r"--.*|'[^']*'", "", (SQL / "questions.sql").read_text())
    assert text.count("FROM tfotrace.handshakes") == text.count(";")
    own = set(re.findall(r" AS (\w+)", text))
    functions = set(re.findall(r"(\w+)\(", text))
    words = {word for word in re.findall(r"\b[a-z]\w*\b", text) if not re.search(rf"\b{word}\.", text)}
    assert words - own - functions - {"handshakes", "e6"} <= columns().keys()
