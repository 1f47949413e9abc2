"""The JSON Schema of the records for tests: validators, and the schema as lines to compare."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jsonschema

from tracer.cli.schema import json_schema

TAGS = {"start": "Start", "handshake": "Handshake", "stats": "Stats", "notice": "NoticeRecord", "end": "End"}
_SAID = {"doctor": "Report", "probe": "ProbeRecord", "compare": "CompareRecord"}


@lru_cache(maxsize=1)
def validator() -> jsonschema.Draft202012Validator:
    """Of any record; formats (addresses, times) are checked as well."""
    return jsonschema.Draft202012Validator(json_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@lru_cache(maxsize=8)
def _validator_of(event: str) -> jsonschema.Draft202012Validator:
    whole = validator()
    return whole.evolve(schema={"$ref": f"#/$defs/{(TAGS | _SAID)[event]}", "$defs": whole.schema["$defs"]})


def assert_valid(record: dict[str, Any]) -> None:
    """One record as JSON gives it. Says which field of it is wrong: anyOf alone would only say that none fits."""
    _validator_of(record["event"]).validate(record)


def schema_lines(schema: dict[str, Any]) -> list[str]:
    """A line per field and per word: `handshake.tfo.kind: integer or null, required`, `... : "queue_overflow"`.

    Only what readers of records may rely on: neither descriptions nor order.
    """
    definitions = schema["$defs"]
    return sorted(line for one in schema["anyOf"] for line in _lines(_event(definitions, one), one, definitions))


def _event(definitions: dict[str, Any], reference: dict[str, Any]) -> str:
    (event,) = _resolved(reference, definitions)["properties"]["event"]["enum"]
    return str(event)


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return definitions[reference.removeprefix("#/$defs/")] if reference else schema


def _lines(path: str, schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    schema = _resolved(schema, definitions)
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        kinds = sorted(set(_types(field, definitions)))
        sure = ", required" if name in required else ""
        yield f"{path}.{name}: {' or '.join(kinds)}{sure}"
        yield from _inside(f"{path}.{name}", field, definitions)


def _types(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    schema = _resolved(schema, definitions)
    if "type" in schema:
        yield schema["type"]
        return
    yielded = False
    for one in schema.get("anyOf", ()):
        yielded = True
        yield from _types(one, definitions)
    if not yielded:  # the tag: an enum alone
        yield "string"


def _inside(path: str, schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    schema = _resolved(schema, definitions)
    for word in schema.get("enum", ()):
        if word is not None:
            yield f'{path}: "{word}"'
    for word in schema.get("propertyNames", {}).get("enum", ()):
        yield f'{path}: "{word}"'
    for keyword in ("const", "format", "pattern"):
        if keyword in schema:
            yield f"{path}: {keyword} {schema[keyword]}"
    if isinstance(schema.get("items"), dict):
        yield f"{path}[]: {' or '.join(sorted(set(_types(schema['items'], definitions))))}"
        yield from _inside(f"{path}[]", schema["items"], definitions)
    if isinstance(schema.get("additionalProperties"), dict):
        yield f"{path}{{}}: {' or '.join(sorted(set(_types(schema['additionalProperties'], definitions))))}"
    for one in schema.get("anyOf", ()):
        yield from _inside(path, one, definitions)
    if "properties" in schema:
        yield from _lines(path, schema, definitions)
