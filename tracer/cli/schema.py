"""The JSON Schema of everything that is printed as JSON: records, and what doctor, probe and compare say."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from tracer.compare.lines import CompareRecord
from tracer.doctor.model import Report
from tracer.probe.lines import ProbeRecord
from tracer.records.record import SCHEMA
from tracer.records.run import Record


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of every record, and of what doctor, probe and compare print with `--json`.

    Unknown fields are allowed everywhere: within one schema version, fields are only added.
    """
    schema = msgspec.json.schema(Record | Report | ProbeRecord | CompareRecord)
    del schema["discriminator"]  # OpenAPI's: JSON Schema has no such keyword
    for definition in schema["$defs"].values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    title = f"tfotrace record, schema {SCHEMA}"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}
