"""Types of the records' fields: what JSON Schema says of a field beyond its Python type.

Nothing here is checked when a record is read: this version must be able to read a line with a word that a newer
version of the same schema added. So formats, patterns and vocabularies go into the schema (`extra_json_schema`) and not
into msgspec's own constraints.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

SCHEMA_VERSION = 1


def said(text: str, **schema: Any) -> msgspec.Meta:
    """Description of a field, and keywords of JSON Schema."""
    return msgspec.Meta(description=text, extra_json_schema=schema or None)


_TIMESTAMP = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$"
IP_FORMS: list[dict[str, str]] = [{"format": "ipv4"}, {"format": "ipv6"}]
Version = Annotated[int, said("version of the records; within one version fields are only added", const=SCHEMA_VERSION)]
Timestamp = Annotated[str, said("RFC 3339, UTC, nanoseconds", format="date-time", pattern=_TIMESTAMP)]
Count = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0})]
Microseconds = Annotated[float, said("microseconds")]
MaybeMicroseconds = Annotated[float | None, said("microseconds")]
Counters = Annotated[dict[str, int], said("counters of the kernel programs, by name")]

Ip = Annotated[str, said("IPv4 or IPv6 address", anyOf=IP_FORMS)]
MaybeIp = Annotated[str | None, said("IPv4 or IPv6 address")]
Port = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 65535})]
