"""docs/MAPPING.md: the table has every field, and the views agree with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from tests.support.lines import as_lines, handshakes, run_records
from tests.support.markdown import DOCS, ask, database, sql_blocks
from tests.support.schema import schema_lines
from tracer.cli.schema import json_schema
from tracer.records.ends import Process
from tracer.records.record import Handshake
from tracer.vocabulary.vocabulary import HandshakeResult, word

BLOCKS = sql_blocks("MAPPING.md", "mapping")
TEXT = (DOCS / "MAPPING.md").read_text()
CONSTANT = ("ecs.version", "event.kind", "event.category", "event.action", "event.module", "network.transport",
            "network.type", "observer.type", "observer.product")  # fmt: skip
ZEEK_CONSTANT = ("conn.proto", "dns.proto")


def owned(one: Handshake, vantage: str, client: Process | None, server: Process | None, **more: Any) -> Handshake:
    ends = {
        "client": msgspec.structs.replace(one.client, process=client),
        "server": msgspec.structs.replace(one.server, process=server),
    }
    return msgspec.structs.replace(one, vantage=vantage, **ends, **more)


CURL, NGINX = Process(11, "curl", 1000, "/user"), Process(22, "nginx", 33, None)


@pytest.fixture(scope="module")
def records() -> list[Handshake]:
    """The recorded lab, and in it four with processes and VLAN tags."""
    found = handshakes()
    found[0] = owned(found[0], "client", CURL, None, vlan=(10, 20))
    found[1] = owned(found[1], "server", None, NGINX, vlan=(10,))
    found[2] = owned(found[2], "local", CURL, NGINX)
    found[3] = owned(found[3], "transit", None, None)
    return found


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory, records: list[Handshake]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database whose `events.jsonl` is the recorded file."""
    folder = tmp_path_factory.mktemp("mapping")
    (folder / "events.jsonl").write_bytes(as_lines([run_records()[0], *records, run_records()[-1]]))
    with database("tfotrace.sql", "ecs.sql", "zeek.sql") as connection, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("ecs", "zeek"):
            connection.execute(BLOCKS[name])
        yield connection


def table() -> list[tuple[set[str], set[str], set[str]]]:
    """Rows of the mapping: fields of tfotrace, of ECS, of Zeek."""
    start = TEXT.index("| tfotrace | ECS | Zeek |")
    rows = TEXT[start : TEXT.index("\n\n", start)].splitlines()[2:]
    cells = [row.strip("|").split("|") for row in rows]
    return [tuple(set(re.findall(r"`([^`]+)`", cell)) for cell in row[:3]) for row in cells]  # type: ignore[misc]


def fits(name: str, patterns: set[str]) -> bool:
    return any(fnmatchcase(name, pattern.replace("[]", "")) for pattern in patterns)


def leaves(path: str, kind: Any) -> Iterator[str]:
    if kind.id == "struct":
        for name, child in kind.children:
            yield from leaves(f"{path}.{name}", child)
    else:
        yield path


def columns(connection: duckdb.DuckDBPyConnection, view: str) -> set[str]:
    rows = connection.execute(f"DESCRIBE FROM {view}('events.jsonl')").fetchall()
    return {leaf for name, kind, *_ in rows for leaf in leaves(name, duckdb.type(kind))}


def test_every_field_of_the_record_is_in_the_table_and_nothing_else() -> None:
    named = {line.split(": ")[0] for line in schema_lines(json_schema()) if line.startswith("handshake.")}
    fields = {name.removeprefix("handshake.") for name in named if not name.endswith("[]")}
    whole = {field for field in fields if any(other.startswith(f"{field}.") for other in fields)}
    patterns = set().union(*(row[0] for row in table()))
    assert not {field for field in fields - whole if not fits(field, patterns)}
    assert not {pattern for pattern in patterns if not any(fits(field, {pattern}) for field in fields)}


def test_the_ecs_view_has_the_columns_of_the_table(views: duckdb.DuckDBPyConnection) -> None:
    named = set().union(*(row[1] for row in table()))
    made = columns(views, "tfotrace_ecs")
    assert all(f"`{name}`" in TEXT for name in CONSTANT)
    assert {name for name in made if not fits(name, named)} == set(CONSTANT)
    assert not {name for name in named if not any(fits(column, {name}) for column in made)}


def test_the_zeek_views_have_the_columns_of_the_table(views: duckdb.DuckDBPyConnection) -> None:
    named = set().union(*(row[2] for row in table())) - {"C"}
    made = {
        f"{log}.{name}" for log in ("conn", "ssl", "http", "dns") for name in columns(views, f"tfotrace_zeek_{log}")
    }
    key = ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p")
    shared = {f"{log}.{name}" for log in ("ssl", "http", "dns") for name in key}
    assert made == named | set(ZEEK_CONSTANT) | shared


def test_ecs_documents(views: duckdb.DuckDBPyConnection, records: list[Handshake]) -> None:
    documents = [json.loads(line) for line in Path("ecs.ndjson").read_text().splitlines()]
    assert len(documents) == len(records)
    for one, document in zip(records, documents, strict=True):
        record = msgspec.json.decode(msgspec.json.encode(one))
        stamp = document["@timestamp"]
        assert stamp.endswith("Z")
        assert stamp.rstrip("Z").ljust(29, "0") == one.ts.rstrip("Z")
        assert document["event"]["id"] == one.id
        assert document["source"] == document["client"] == {"ip": one.client.ip, "port": one.client.port}
        assert document["destination"] == document["server"] == {"ip": one.server.ip, "port": one.server.port}
        assert document["network"]["community_id"] == one.community_id
        assert document["network"]["type"] == ("ipv6" if ":" in one.client.ip else "ipv4")
        assert document["tls"]["client"]["server_name"] == (one.tls.sni if one.tls else None)
        assert document["http"]["request"]["method"] == (one.http.method if one.http else None)
        assert document["dns"]["question"]["name"] == (one.dns.name if one.dns else None)
        for name in ("handshake", "syn", "synack", "negotiated", "tfo", "payload", "signature", "vantage", "hook"):
            assert document["tfotrace"][name] == record[name]
    client, server, local, transit = documents[:4]
    assert [one["network"]["direction"] for one in documents[:4]] == ["egress", "ingress", "internal", "unknown"]
    assert (client["process"], client["user"]) == ({"pid": 11, "name": "curl"}, {"id": "1000"})
    assert (server["process"], server["user"]) == ({"pid": 22, "name": "nginx"}, {"id": "33"})
    assert (local["process"]["pid"], transit["process"]["pid"]) == (11, None)
    assert (client["network"]["vlan"], client["network"]["inner"]) == ({"id": "10"}, {"vlan": {"id": "20"}})
    assert client["tfotrace"]["cgroup"] == "/user"


def test_ecs_duration_is_nanoseconds(views: duckdb.DuckDBPyConnection, records: list[Handshake]) -> None:
    for row, one in zip(ask(views, "SELECT event.duration FROM tfotrace_ecs('events.jsonl')"), records, strict=True):
        parts = (one.handshake.synack_delay_us, one.handshake.ack_delay_us)
        if None in parts:
            assert row["duration"] is None
        else:
            assert row["duration"] == pytest.approx(1000 * sum(part or 0 for part in parts), abs=1)


def test_results_are_those_of_the_table(views: duckdb.DuckDBPyConnection) -> None:
    start = TEXT.index("| `handshake.result` | `event.outcome` |")
    rows = [row.strip("| ").split(" | ") for row in TEXT[start : TEXT.index("\n\n", start)].splitlines()[2:]]
    told = {row[0]: (row[1], row[2], row[3].split()[0]) for row in rows}
    assert told.keys() == {word(one) for one in HandshakeResult if one}
    question = """
        SELECT DISTINCT ecs.tfotrace.handshake.result AS result, ecs.event.outcome AS outcome,
            array_to_string(ecs.event."type", ', ') AS "type", zeek.conn_state AS state
        FROM tfotrace_ecs('events.jsonl') AS ecs
        JOIN tfotrace_zeek_conn('events.jsonl') AS zeek
            ON zeek.uid = 'C' || ecs.event.id AND abs(zeek.ts - epoch_ns(ecs."@timestamp"::TIMESTAMP_NS) / 1e9) < 1e-6
    """
    assert {row["result"]: (row["outcome"], row["type"], row["state"]) for row in ask(views, question)} == told


def test_zeek_lines(views: duckdb.DuckDBPyConnection, records: list[Handshake]) -> None:
    lines = [json.loads(line) for line in Path("conn.log").read_text().splitlines()]
    services = {"tls": "ssl", "http": "http", "dns": "dns"}
    for one, line in zip(records, lines, strict=True):
        assert (line["id.orig_h"], line["id.orig_p"]) == (one.client.ip, one.client.port)
        assert (line["id.resp_h"], line["id.resp_p"]) == (one.server.ip, one.server.port)
        assert line["uid"] == f"C{one.id}"
        assert line["service"] == services.get(str(one.payload.protocol) if one.payload else "")
    assert [(line["local_orig"], line["local_resp"]) for line in lines[:4]] == [
        (True, False), (False, True), (True, True), (False, False),
    ]  # fmt: skip
    assert [(line["vlan"], line["inner_vlan"]) for line in lines[:3]] == [(10, 20), (10, None), (None, None)]
    for log, present in (("ssl", "tls"), ("http", "http"), ("dns", "dns")):
        rows = ask(views, f"FROM tfotrace_zeek_{log}('events.jsonl')")
        assert len(rows) == sum(getattr(one, present) is not None for one in records) > 0
    names = {row["server_name"] for row in ask(views, "FROM tfotrace_zeek_ssl('events.jsonl')")}
    assert names == {one.tls.sni for one in records if one.tls is not None}


def test_joined_with_zeeks_own_log(views: duckdb.DuckDBPyConnection, records: list[Handshake]) -> None:
    found = ask(views, BLOCKS["join"])
    assert {str(row["uid"])[1:] for row in found} == {one.id for one in records}
    assert {row["outcome"] for row in found} == {one.tfo.outcome for one in records}
