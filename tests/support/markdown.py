"""SQL blocks of the documents, by the name in their first line: `-- recipe: NAME`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sql_blocks(document: str, kind: str) -> dict[str, str]:
    """Every SQL block of a document in its order. Fails on one without a name and on two of the same."""
    found: dict[str, str] = {}
    for language, text in _BLOCK.findall((DOCS / document).read_text()):
        if language != "sql":
            continue
        first = text.splitlines()[0]
        name = first.removeprefix(f"-- {kind}: ")
        assert name != first, f"{document}: a block without a name: {first}"
        assert name not in found, f"{document}: {name} twice"
        found[name] = text
    return found


@contextmanager
def database(*scripts: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB in memory, after running docs/duckdb/SCRIPT for each."""
    with duckdb.connect() as connection:
        for script in scripts:
            connection.execute((DOCS / "duckdb" / script).read_text())
        yield connection


def ask(connection: duckdb.DuckDBPyConnection, question: str) -> list[dict[str, object]]:
    """Rows by the names of their columns."""
    cursor = connection.execute(question)
    names = [column[0] for column in cursor.description or ()]
    assert len(set(names)) == len(names), names
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
