"""docs/RECIPES.md: every recipe runs on the recorded lab and gives the known answer."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
import zstandard

from tests.support.lines import as_lines, handshakes, run_records
from tests.support.markdown import ask, database, sql_blocks
from tests.support.rows import ACCEPTED, worked
from tests.support.schema import schema_lines
from tracer.cli.schema import json_schema
from tracer.lab.scenarios import SCENARIOS, server_address
from tracer.records.drop import Drop
from tracer.records.ends import Listener, Process
from tracer.records.record import Handshake
from tracer.sinks.compression import coder
from tracer.sinks.targets import Compression
from tracer.vocabulary.fates import FAILED_WORDS

RECIPES = sql_blocks("RECIPES.md", "recipe")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run in three files (plain and cut, gzip, zstd), and the two ends of it: the current directory meanwhile."""
    folder = tmp_path_factory.mktemp("recipes")
    lines = as_lines(run_records()).splitlines(keepends=True)
    third = len(lines) // 3
    (folder / "events.1.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:third])))
    (folder / "events.2.jsonl.zst").write_bytes(zstandard.compress(b"".join(lines[third : 2 * third])))
    (folder / "events.jsonl").write_bytes(b"".join(lines[2 * third :]) + lines[5][:100])
    client, server = both_ends()
    (folder / "client.jsonl").write_bytes(as_lines(client))
    (folder / "server.jsonl.zst").write_bytes(zstandard.compress(as_lines(server)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def both_ends() -> tuple[list[Handshake], list[Handshake]]:
    """Handshakes at the client, and at the server behind a middlebox that drops the first, removes an option from the
    next one that has it, and data from the next one that has some."""
    client = handshakes()[:200]
    server = [msgspec.structs.replace(one, vantage="server") for one in client[1:]]
    bare = next(row for row, one in enumerate(server) if one.tfo.kind is not None and not one.syn.payload_len)
    no_option = msgspec.structs.replace(server[bare].tfo, kind=None, cookie_len=None, request="none")
    server[bare] = msgspec.structs.replace(server[bare], tfo=no_option)
    full = next(row for row, one in enumerate(server) if one.tfo.kind is not None and one.syn.payload_len)
    empty = msgspec.structs.replace(server[full].syn, payload_len=0)
    server[full] = msgspec.structs.replace(server[full], syn=empty)
    return client, server


@pytest.fixture(scope="module", params=["lines", "parquet"])
def lab(folder: Path, request: pytest.FixtureRequest) -> Iterator[duckdb.DuckDBPyConnection]:
    """`handshakes` over the files, and over the Parquet file that the last recipe makes of them."""
    with database("tfotrace.sql") as connection:
        connection.execute(RECIPES["files"])
        if request.param == "parquet":
            connection.execute(RECIPES["parquet"])
            connection.execute("CREATE OR REPLACE VIEW handshakes AS FROM read_parquet('handshakes.parquet')")
        yield connection


def servers(name: str) -> set[str]:
    (scenario,) = (one for one in SCENARIOS if one.name == name)
    return {server_address(scenario, version) for version in (4, 6)}


def test_every_recipe_is_tested_here() -> None:
    assert list(RECIPES) == [
        "files", "never-accept", "died-after-accept", "saved-by-server", "other-cookies", "rtt-by-hour",
        "sni-falls-back", "poor-syns", "failed-by-server", "handshake-causes", "drops", "queues", "causes", "two-hosts",
        "parquet",
    ]  # fmt: skip


def test_the_columns_are_the_fields_of_the_record(lab: duckdb.DuckDBPyConnection) -> None:
    names = {line.split(": ")[0].removeprefix("handshake.") for line in schema_lines(json_schema())
             if line.startswith("handshake.")}  # fmt: skip
    fields = {name for name in names if not name.endswith(("[]", "{}")) and name != "event"}
    assert columns(lab) == fields


def columns(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Dotted names of all columns and of what is in them, as the schema has them."""
    found: set[str] = set()
    for name, kind, *_ in connection.execute("DESCRIBE handshakes").fetchall():
        if name != "filename":
            found |= {name, *inner(name, duckdb.type(kind))}
    return found


def inner(path: str, kind: Any) -> set[str]:
    found: set[str] = set()
    if kind.id == "struct":
        for name, child in kind.children:
            found |= {f"{path}.{name}", *inner(f"{path}.{name}", child)}
    return found


def test_files_are_read_as_they_were_written(lab: duckdb.DuckDBPyConnection) -> None:
    expected = {one.id: one for one in handshakes()}
    rows = ask(lab, "SELECT id, ts::VARCHAR AS ts, tfo, syn, client, handshake FROM handshakes")
    assert len(rows) == len(handshakes())
    assert Counter(str(row["id"]) for row in rows) == Counter(one.id for one in handshakes())
    for row in rows:
        one = expected[str(row["id"])]
        if one.ts.rstrip("Z") != str(row["ts"]).replace(" ", "T"):  # another record of the same id
            continue
        for name in ("tfo", "syn", "client", "handshake"):
            assert row[name] == msgspec.json.decode(msgspec.json.encode(getattr(one, name)))


def test_never_accept(lab: duckdb.DuckDBPyConnection) -> None:
    accepting = {(one.server.ip, one.server.port) for one in handshakes() if worked(one)}
    with_data = Counter((one.server.ip, one.server.port) for one in handshakes() if one.syn.payload_len)
    found = ask(lab, RECIPES["never-accept"])
    assert {(row["ip"], row["port"]): row["with_data"] for row in found} == {
        server: count for server, count in with_data.items() if server not in accepting
    }
    pool = [row for row in found if row["ip"] in servers("pool_without_shared_key")]
    assert {(row["mostly"], row["cause"]) for row in pool} == {("data_not_acked_new_cookie", "key_not_shared")}
    assert len(pool) == 2


@pytest.fixture
def dying(tmp_path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[Handshake]]]:
    """The lab with a server all of whose accepted connections are reset, and one that answers none of half of them."""
    found = handshakes()
    accepting = sorted({(one.server.ip, one.server.port) for one in found if worked(one)})
    for row, one in enumerate(found):
        if worked(one) and (one.server.ip, one.server.port) in accepting[:2]:
            resets = (one.server.ip, one.server.port) == accepting[0]
            if not resets and row % 2:
                continue
            changes: dict[str, Any] = {"first_response_us": None, "request_acked": False}
            changes |= (
                {"settled_by": "rst", "after": "reset_by_server"}
                if resets
                else {"settled_by": "timeout", "after": "silence"}
            )
            timing = msgspec.structs.replace(one.handshake, **changes)
            tfo = msgspec.structs.replace(one.tfo, group="failed", rtt_saved_us=0.0) if resets else one.tfo
            found[row] = msgspec.structs.replace(one, handshake=timing, tfo=tfo)
    (tmp_path / "events.jsonl").write_bytes(as_lines(found))
    with database("tfotrace.sql") as connection:
        connection.execute(RECIPES["files"].replace("events*", f"{tmp_path}/events*"))
        yield connection, found


def test_died_after_accept(dying: tuple[duckdb.DuckDBPyConnection, list[Handshake]]) -> None:
    connection, records = dying
    expected: dict[tuple[str, int], list[int]] = {}
    for one in records:
        if one.tfo.outcome in ACCEPTED:
            sums = expected.setdefault((one.server.ip, one.server.port), [0, 0, 0])
            for at, counts in enumerate((True, worked(one), one.tfo.group == "failed")):
                sums[at] += counts
    found = ask(connection, RECIPES["died-after-accept"])
    assert {(row["ip"], row["port"]): [row["accepted"], row["lived"], row["died"]] for row in found} == {
        server: sums for server, sums in expected.items() if sums[1] < sums[0]
    }
    assert [(row["mostly"], row["died"] == row["accepted"]) for row in found] == [
        ("reset_by_server", True), ("silence", False)
    ]  # fmt: skip
    # what was only acked is no acceptance, saves nothing, and is no sample
    dead = (found[0]["ip"], found[0]["port"])
    assert dead in {(row["ip"], row["port"]) for row in ask(connection, RECIPES["never-accept"])}
    saved = {(row["ip"], row["port"]): row for row in ask(connection, RECIPES["saved-by-server"])}
    assert dead not in saved
    assert saved[found[1]["ip"], found[1]["port"]]["accepted"] == found[1]["lived"]
    assert sum(int(str(row["died"])) for row in ask(connection, RECIPES["sni-falls-back"])) == found[0]["died"]


def test_saved_by_server(lab: duckdb.DuckDBPyConnection) -> None:
    found = {(row["ip"], row["port"]): row for row in ask(lab, RECIPES["saved-by-server"])}
    benefits = run_records()[-1].benefits  # type: ignore[union-attr]
    assert benefits
    for one in benefits:
        row = found[one.ip, one.port]
        assert (row["accepted"], row["normal"]) == (one.tfo_samples, one.normal_samples)
        assert row["sooner_ms"] == pytest.approx(one.sooner_us / 1000, abs=0.001)
    assert servers("pool_without_shared_key").isdisjoint(ip for ip, _ in found)
    row = found[next(iter(servers("tls_in_syn"))), 443]
    saved = sum(
        one.tfo.rtt_saved_us or 0 for one in handshakes() if one.server.ip == row["ip"] and one.server.port == 443
    )
    assert row["saved_ms"] == pytest.approx(saved / 1000, abs=0.001)


def test_saved_by_server_tells_what_fallbacks_cost(lab: duckdb.DuckDBPyConnection) -> None:
    every = RECIPES["saved-by-server"].replace("HAVING accepted > 0", "")
    rows, totals = ask(lab, every), run_records()[-1].totals  # type: ignore[union-attr]
    for name, expected in (("saved_ms", totals.rtt_saved_us), ("lost_ms", totals.delay_us)):
        assert sum(float(str(row[name])) for row in rows) == pytest.approx(expected / 1000, abs=0.1)


def test_other_cookies(lab: duckdb.DuckDBPyConnection) -> None:
    found = ask(lab, RECIPES["other-cookies"])
    pool = [row for row in found if row["ip"] in servers("pool_without_shared_key")]
    assert {row["ip"] for row in pool} == servers("pool_without_shared_key")
    assert all(row["cookies"] == row["given"] for row in pool)
    # in the lab keys change each round, so a stale cookie looks alike; nobody else does
    assert {row["ip"] for row in found} <= servers("pool_without_shared_key") | servers("stale_cookie")


def test_rtt_by_hour(lab: duckdb.DuckDBPyConnection) -> None:
    found = ask(lab, RECIPES["rtt-by-hour"])
    measured = Counter((one.server.ip, one.server.port) for one in handshakes() if one.handshake.rtt_us is not None)
    assert {(row["ip"], row["port"]): row["samples"] for row in found} == measured
    assert {str(row["hour"]) for row in found} == {f"{handshakes()[0].ts[:13].replace('T', ' ')}:00:00"}
    assert all(
        0 <= float(str(row["p50_ms"])) <= float(str(row["p90_ms"])) <= float(str(row["p99_ms"])) for row in found
    )


def test_sni_falls_back(lab: duckdb.DuckDBPyConnection) -> None:
    found = {row["name"]: row for row in ask(lab, RECIPES["sni-falls-back"])}
    assert {"www.demo.example", "api.demo.example", "demo.example"} <= found.keys()
    with_data = [one for one in handshakes() if one.syn.payload_len]
    assert sum(int(str(row["with_data"])) for row in found.values()) == len(with_data)
    refused = sum(one.tfo.outcome not in ACCEPTED for one in with_data)
    assert sum(int(str(row["fell_back"])) for row in found.values()) == refused > 0
    assert max(float(str(row["longest_delay_ms"])) for row in found.values()) > 900  # a SYN timeout


def test_poor_syns(lab: duckdb.DuckDBPyConnection) -> None:
    found = ask(lab, RECIPES["poor-syns"])
    poor = [one.syn for one in handshakes()
            if not one.syn.sack_permitted or one.syn.ts_val is None or one.syn.wscale is None]  # fmt: skip
    assert sum(int(str(row["syns"])) for row in found) == len(poor) > 0
    assert sum(int(str(row["no_wscale"])) for row in found) == sum(syn.wscale is None for syn in poor)


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[Handshake]]]:
    """The lab, some of whose handshakes the kernel dropped, refused or had no room for."""
    drops = [Drop("syn", "NETFILTER_DROP", "nft_do_chain", None), Drop("ack", "TCP_LISTEN_OVERFLOW", None, None)]
    nginx = Process(812, "nginx", 0)
    told: list[dict[str, Any]] = [
        {"result": "no_reply", "cause": "host_dropped", "cause_confidence": "certain", "cause_at": "this_host",
         "drop": drops[0]},
        {"result": "rejected", "cause": "no_listener", "cause_confidence": "certain", "cause_at": "this_host"},
        {"result": "established", "cause": "accept_queue_full", "cause_confidence": "certain", "drop": drops[1],
         "listener": Listener("0.0.0.0", 443, 512, 511, nginx), "connect_us": 1_020_031.0},
        {"result": "half_open", "cause": "syn_flood", "cause_confidence": "likely"},
        {"result": "no_reply", "cause": "syn_queue_full", "cause_confidence": "likely",
         "listener": Listener("0.0.0.0", 443, 300, 511, nginx)},
    ]  # fmt: skip
    found = handshakes()
    for row, one in enumerate(found):
        bare = {"drop": None, "listener": None, "cause": None, "cause_confidence": None, "cause_at": None}
        changes = told[row % 50] if row % 50 < len(told) else {}
        timing = msgspec.structs.replace(one.handshake, **{**bare, **changes})
        found[row] = msgspec.structs.replace(one, handshake=timing)
    folder = tmp_path_factory.mktemp("failing")
    (folder / "events.jsonl").write_bytes(as_lines(found))
    with database("tfotrace.sql") as connection:
        connection.execute(RECIPES["files"].replace("events*", f"{folder}/events*"))
        yield connection, found


Failing = tuple[duckdb.DuckDBPyConnection, list[Handshake]]


def test_failed_by_server(failing: Failing) -> None:
    connection, records = failing
    every = Counter((one.server.ip, one.server.port) for one in records)
    failed = Counter((one.server.ip, one.server.port) for one in records if one.handshake.result in FAILED_WORDS)
    found = ask(connection, RECIPES["failed-by-server"])
    assert {(row["ip"], row["port"]): (row["failed"], row["handshakes"]) for row in found} == {
        server: (count, every[server]) for server, count in failed.items()
    }
    for row in found:
        own = [one.handshake for one in records if (one.server.ip, one.server.port) == (row["ip"], row["port"])]
        results = Counter(one.result for one in own if one.result in FAILED_WORDS)
        assert results[str(row["mostly"])] == max(results.values())
        causes = Counter(one.cause for one in own if one.result in FAILED_WORDS and one.cause)
        assert causes[str(row["cause"])] == max(causes.values(), default=0)
        assert row["percent"] == pytest.approx(100 * sum(results.values()) / len(own), abs=0.05)


def test_handshake_causes(failing: Failing) -> None:
    connection, records = failing
    timings = [one.handshake for one in records if one.handshake.cause is not None]
    expected = Counter((one.cause, one.cause_confidence, one.cause_at) for one in timings)
    found = ask(connection, RECIPES["handshake-causes"])
    assert {(row["cause"], row["confidence"], row["where"]): row["handshakes"] for row in found} == expected
    by_cause = {row["cause"]: row for row in found}
    assert by_cause["accept_queue_full"]["failed"] == 0
    assert by_cause["accept_queue_full"]["slowest_ms"] == 1020.0
    assert by_cause["no_listener"]["failed"] == by_cause["no_listener"]["handshakes"]


def test_drops(failing: Failing) -> None:
    connection, records = failing
    dropped = [one.handshake for one in records if one.handshake.drop is not None]
    expected = Counter((one.drop.segment, one.drop.reason, one.drop.at) for one in dropped if one.drop is not None)
    found = ask(connection, RECIPES["drops"])
    assert {(row["segment"], row["reason"], row["at"]): row["handshakes"] for row in found} == expected
    assert {row["reason"]: row["failed"] for row in found} == {
        "NETFILTER_DROP": expected["syn", "NETFILTER_DROP", "nft_do_chain"], "TCP_LISTEN_OVERFLOW": 0
    }  # fmt: skip


def test_queues(failing: Failing) -> None:
    connection, records = failing
    own = [one for one in records if one.handshake.listener is not None]
    (row,) = ask(connection, RECIPES["queues"])
    assert (row["ip"], row["port"], row["program"]) == ("0.0.0.0", 443, "nginx")
    assert (row["fullest"], row["backlog"], row["handshakes"]) == (512, 511, len(own))
    assert row["cause"] in ("accept_queue_full", "syn_queue_full")
    assert str(row["first_seen"]).startswith(min(one.ts for one in own)[:19].replace("T", " "))


def test_causes(lab: duckdb.DuckDBPyConnection) -> None:
    expected = Counter((one.tfo.cause, one.tfo.cause_confidence) for one in handshakes() if one.tfo.cause)
    found = ask(lab, RECIPES["causes"])
    assert {(row["cause"], row["confidence"]): row["handshakes"] for row in found} == expected
    assert ("key_not_shared", "likely") in expected


def test_two_hosts(lab: duckdb.DuckDBPyConnection) -> None:
    found = {row["what"]: row for row in ask(lab, RECIPES["two-hosts"])}
    client, server = both_ends()
    assert found.keys() == {"SYN never arrived", "option removed", "data removed"}
    assert all(row["handshakes"] == 1 for row in found.values())
    assert found["SYN never arrived"]["one_of_them"] == client[0].id
    stripped = next(mine.id for mine, theirs in zip(client[1:], server, strict=True)
                    if mine.tfo.kind is not None and theirs.tfo.kind is None)  # fmt: skip
    assert found["option removed"]["one_of_them"] == stripped


def test_parquet_is_smaller(lab: duckdb.DuckDBPyConnection, folder: Path) -> None:
    lab.execute(RECIPES["files"])
    lab.execute(RECIPES["parquet"])
    assert (folder / "handshakes.parquet").stat().st_size * 5 < len(as_lines(run_records()))


def test_files_that_are_still_being_written(tmp_path: Path) -> None:
    zstd = coder(Compression.ZSTD)
    data = as_lines(run_records())
    (tmp_path / "events.jsonl.zst").write_bytes(zstd.add(data) + zstd.flush())
    packer = zlib.compressobj(wbits=31)
    (tmp_path / "events.jsonl.gz").write_bytes(packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))
    with database("tfotrace.sql") as connection:
        (row,) = ask(connection, f"SELECT count(*) AS count FROM tfotrace_handshakes('{tmp_path}/events.jsonl.zst')")
        assert len(handshakes()) * 0.9 < int(str(row["count"])) <= len(handshakes())
        question = f"SELECT count(*) AS count FROM tfotrace_handshakes('{tmp_path}/events.jsonl.gz')"
        if int(duckdb.__version__.split(".")[0]) >= 2:
            with pytest.raises(duckdb.Error, match="GZIP"):
                ask(connection, question)
        else:
            assert ask(connection, question) == [{"count": len(handshakes())}]
