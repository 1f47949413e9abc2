"""`tfotrace schema`: a JSON Schema 2020-12 that the records match, and that only grows."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest

from tests.support.generated import SCHEMA_LINES
from tests.support.lines import as_lines, handshakes, run_records
from tests.support.schema import TAGS, assert_valid, schema_lines, validator
from tracer.cli.schema import json_schema
from tracer.vocabulary.vocabulary import Cause, HandshakeResult, Outcome, Request, word

REMOVED = (
    "Programs rely on these fields and words. Within one schema nothing is removed or renamed, becomes null or another "
    "type, or is left out: add a field beside it, or raise SCHEMA_VERSION in tracer/records/types.py and say so in "
    "CHANGELOG.md."
)
ADDED = (
    "The schema has grown, which is allowed: `make generate` adds these lines to tests/golden; "
    "describe the field in tracer/records/record.py, give it a default (older files lack it), and say so in "
    "CHANGELOG.md."
)
# Definitions in which each field is explained by a description, or by its name and its struct's docstring.
WORDS = {"result", "settled_by", "request", "outcome", "group", "cause", "cause_confidence", "cookie_check", "vantage",
         "hook", "ecn", "protocol", "transport"}  # fmt: skip


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every field: its struct, name and schema."""
    for title, definition in schema["$defs"].items():
        for name, field in definition.get("properties", {}).items():
            yield title, name, field


def keywords(schema: Any) -> Iterator[str]:
    """Every keyword of a schema, names of properties and definitions left out."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield key
            if key in ("properties", "$defs"):
                for one in value.values():
                    yield from keywords(one)
            elif key not in ("default", "enum", "const"):
                yield from keywords(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from keywords(one)


def test_it_is_json_schema_2020_12_and_uses_no_other_keyword() -> None:
    schema = json_schema()
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(keywords(schema)) <= {
        "$schema", "$defs", "$ref", "title", "description", "default", "type", "enum", "const", "format", "pattern",
        "minimum", "maximum", "maxItems", "items", "properties", "required", "additionalProperties", "propertyNames",
        "anyOf",
    }  # fmt: skip


def test_every_struct_is_described_and_every_duration_says_its_unit() -> None:
    schema = json_schema()
    for title, definition in schema["$defs"].items():
        assert definition["description"].strip(), title
        assert "\n   " not in definition["description"], title
    for title, name, field in properties(schema):
        if name.endswith("_us"):
            assert "microseconds" in field["description"], (title, name)
        if name in WORDS and not (title in ("HookReport", "Finding") or (title, name) == ("InterfaceInfo", "group")):
            assert field["enum"], (title, name)


def test_the_words_are_those_of_the_vocabulary() -> None:
    tfo = json_schema()["$defs"]["Tfo"]["properties"]
    assert set(tfo["outcome"]["enum"]) == {word(one) for one in Outcome if one is not Outcome.UNKNOWN} | {None}
    assert set(tfo["cause"]["enum"]) == {word(one) for one in Cause if one} | {None}
    assert set(tfo["request"]["enum"]) == {word(one) for one in Request}
    timing = json_schema()["$defs"]["Timing"]["properties"]
    assert set(timing["result"]["enum"]) == {word(one) for one in HandshakeResult if one}


def test_every_recorded_record_fits() -> None:
    lines = as_lines(run_records()).splitlines()
    kinds = set()
    for line in lines:
        record = json.loads(line)
        assert_valid(record)
        kinds.add(record["event"])
    assert kinds == TAGS.keys()
    assert len(lines) > 100
    # and by the whole schema, as other programs use it: one of each kind
    for record in {json.loads(line)["event"]: json.loads(line) for line in lines}.values():
        validator().validate(record)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2),
        (("ts",), 1.5),
        (("ts",), "2026-11-23 12:00:00"),
        (("id",), "xyz"),
        (("client", "ip"), "10.0.0.256"),
        (("client", "port"), 65536),
        (("handshake", "result"), "established?"),
        (("handshake", "rtt_us"), "12"),
        (("syn", "ecn"), None),
        (("tfo", "outcome"), "data_eaten"),
        (("tfo", "cause"), "bad_luck"),
        (("tfo", "cookie_id"), "9F1C20AA"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_a_wrong_record_does_not_fit(path: tuple[str, ...], value: object) -> None:
    record = json.loads(msgspec.json.encode(handshakes()[0]))
    assert_valid(record)
    inner = record
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        assert_valid(record)
    assert not validator().is_valid(record)


@pytest.mark.parametrize("name", ["tfo", "community_id", "synack", "schema"])
def test_a_record_without_a_field_does_not_fit(name: str) -> None:
    record = json.loads(msgspec.json.encode(handshakes()[0]))
    del record[name]
    with pytest.raises(jsonschema.ValidationError):
        assert_valid(record)


def test_a_field_of_a_later_version_fits() -> None:
    record = json.loads(msgspec.json.encode(handshakes()[0]))
    record["moon"] = record["tfo"]["moon"] = "full"
    assert_valid(record)
    validator().validate(record)


# --- it only grows ---


def compare(golden: list[str], now: list[str]) -> tuple[list[str], list[str]]:
    """What is gone (a changed type is gone, and back as something else), what is new."""
    return sorted(set(golden) - set(now)), sorted(set(now) - set(golden))


def test_nothing_of_the_schema_was_removed_or_changed() -> None:
    gone, _ = compare(SCHEMA_LINES.read_text().splitlines(), schema_lines(json_schema()))
    assert not gone, f"{REMOVED}\n" + "\n".join(gone)


def test_what_was_added_to_the_schema_is_in_the_golden_copy() -> None:
    _, added = compare(SCHEMA_LINES.read_text().splitlines(), schema_lines(json_schema()))
    assert not added, f"{ADDED}\n" + "\n".join(added)


def edited(*path: str, **change: Any) -> list[str]:
    """Lines of a schema with one place of it changed; a change to None removes the key."""
    schema = copy.deepcopy(json_schema())
    place: dict[str, Any] = schema["$defs"]
    for name in path:
        place = place[name]
    for key, value in change.items():
        if value is None:
            del place[key]
        else:
            place[key] = value
    return schema_lines(schema)


def test_the_comparison_sees_every_kind_of_change() -> None:
    golden = SCHEMA_LINES.read_text().splitlines()
    tfo = ("Tfo", "properties")
    assert any("handshake.tfo.cookie_len" in line for line in compare(golden, edited(*tfo, cookie_len=None))[0])
    # type, nullability, words, presence
    assert compare(golden, edited(*tfo, "kind", anyOf=[{"type": "string"}, {"type": "null"}])) == (
        ["handshake.tfo.kind: integer or null, required"], ["handshake.tfo.kind: null or string, required"]
    )  # fmt: skip
    assert compare(
        golden, edited("Handshake", "properties", "id", anyOf=[{"type": "string"}, {"type": "null"}], type=None)
    )[0]
    causes = [
        cause for cause in json_schema()["$defs"]["Tfo"]["properties"]["cause"]["enum"] if cause != "cookie_stale"
    ]
    assert compare(golden, edited(*tfo, "cause", enum=causes)) == (['handshake.tfo.cause: "cookie_stale"'], [])
    assert compare(golden, edited("Tfo", required=["request"]))[0]
    assert compare(golden, edited("Totals", "properties", "results", additionalProperties={"type": "string"}))[0]
    # growth
    more = compare(golden, edited(*tfo, moon={"type": "string"}))
    assert more == ([], ["handshake.tfo.moon: string"])
    assert compare(golden, edited(*tfo, "cause", description="other words")) == ([], [])
