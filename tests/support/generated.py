"""Files that follow from definitions of the program: `make generate` writes them, a test compares them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import inspect

from scripts import reference
from tests.support.schema import schema_lines
from tracer.cli.schema import json_schema
from tracer.records.record import SCHEMA, Handshake

ROOT = Path(__file__).resolve().parents[2]
SCHEMA_LINES = ROOT / "tests" / "golden" / f"schema-{SCHEMA}.txt"
DUCKDB = ROOT / "docs" / "duckdb" / "tfotrace.sql"

_BEGIN, _END = "    columns = {\n", "    }\n)"
_WIDTH = 118


def texts() -> Iterator[tuple[Path, str]]:
    """Each file and what it has to hold."""
    yield SCHEMA_LINES, _grown(SCHEMA_LINES.read_text().splitlines())
    head, _, rest = DUCKDB.read_text().partition(_BEGIN)
    yield DUCKDB, head + _BEGIN + ",\n".join(_duckdb_columns()) + "\n" + _END + rest.partition(_END)[2]
    yield reference.FILE, reference.text()


def _grown(golden: list[str]) -> str:
    """Lines that the schema has lost stay, and their test fails: programs rely on them."""
    return "\n".join(sorted({*golden, *schema_lines(json_schema())})) + "\n"


def _duckdb_columns() -> Iterator[str]:
    record = inspect.type_info(Handshake)
    assert isinstance(record, inspect.StructType)
    columns = [("event", "VARCHAR"), *((one.encode_name, _duckdb(one.encode_name, one.type)) for one in record.fields)]
    for name, kind in columns:
        yield _folded(f"        {name}: '{kind}'")


def _duckdb(name: str, kind: inspect.Type) -> str:
    """The SQL type of a field; every one may be null. Names are quoted, since some of them are words of SQL."""
    match kind:
        case inspect.Metadata():
            return _duckdb(name, kind.type)
        case inspect.UnionType():
            (known,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
            return _duckdb(name, known)
        case inspect.StructType():
            members = (f'"{one.encode_name}" {_duckdb(one.name, one.type)}' for one in kind.fields)
            return f"STRUCT({', '.join(members)})"
        case inspect.VarTupleType():
            return f"{_duckdb(name, kind.item_type)}[]"
        case inspect.BoolType():
            return "BOOLEAN"
        case inspect.FloatType():
            return "DOUBLE"
        case inspect.IntType():
            return "BIGINT"
    return "TIMESTAMP_NS" if name == "ts" else "VARCHAR"


def _folded(line: str) -> str:
    """A line in pieces that are short enough to read."""
    words, lines = line.split(", "), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > _WIDTH:
            lines.append(f"            {word}")
        else:
            lines[-1] += f", {word}" if lines[-1] else word
    return ",\n".join(lines)
