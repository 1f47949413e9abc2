"""From `tfotrace demo -w` through an OpenTelemetry collector into ClickHouse, with the queries of docs/clickhouse.

    python -m tests.fleet.check FOLDER     FOLDER: a virtual environment with tests/fleet/requirements.txt

Two hosts: one writes files that are rotated while the collector reads them, the other's show a few handshakes without
their Fast Open option. Every answer is compared with Python's own from the files. Prints what was seen; exits with
status 1 and a sentence for the first mismatch.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[2]
SQL = ROOT / "docs" / "clickhouse"
PATIENCE_S = 120
ACCEPTED = ("data_acked", "data_acked_new_cookie")
# the programs from PyPI are strangers': they get a user who owns nothing
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--")


def seen(text: str) -> None:
    """One more thing that is as it should be."""
    print(f"seen: {text}", flush=True)


def expect(what: str, found: object, expected: object) -> None:
    """End the check unless the two are equal."""
    if found != expected:
        sys.exit(f"not seen: {what}\n  found     {found}\n  expected  {expected}")
    seen(what)


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class ClickHouse:
    """Asks by HTTP."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"

    def post(self, query: str) -> bytes:
        """The answer as it came; a refused query ends the check. Raises URLError."""
        try:
            with urlopen(Request(self.url, query.encode()), timeout=PATIENCE_S) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            sys.exit(f"ClickHouse refuses: {error.read().decode()}\n{query}")

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Rows by name. Raises URLError."""
        return [json.loads(line) for line in self.post(f"{query} FORMAT JSONEachRow").splitlines()]

    def run(self, file: Path) -> None:
        """Every statement of a file. Raises URLError."""
        for statement in statements(file):
            self.post(statement)

    def is_there(self) -> bool:
        """Does it answer?"""
        try:
            return self.ask("SELECT 1 AS one") == [{"one": 1}]
        except URLError:
            return False


def statements(file: Path) -> list[str]:
    """Without the comments between them."""
    text = "".join(f"{line}\n" for line in file.read_text().splitlines() if not line.startswith("--"))
    return [statement.strip() for statement in text.split(";\n") if statement.strip()]


def wait(what: str, is_there: Callable[[], bool]) -> None:
    """End the check unless it comes to be."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_there():
        if time.monotonic() > deadline:
            sys.exit(f"not seen within {PATIENCE_S} s: {what}")
        time.sleep(0.2)
    seen(what)


@contextmanager
def running(log: Path, *command: str, **environment: str) -> Iterator[None]:
    """A background program; its output is shown if the check fails."""
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={"PATH": os.environ["PATH"], **environment}
        ) as process,
    ):
        try:
            yield
        except SystemExit:
            print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
            raise
        finally:
            process.terminate()


def trace_demo(folder: Path) -> None:
    """Records of the demo, in several files."""
    command = [str(ROOT / "tfotrace"), "demo", "--quiet", "--duration", "12", "-w", str(folder / "events.jsonl")]
    subprocess.run([*command, "--rotate-size", "400K"], check=True, stderr=subprocess.DEVNULL)


def second_host(first: list[str], folder: Path) -> None:
    """The same handshakes as seen by another host: every tenth that asked for Fast Open lacks the option."""
    lines = []
    asked = 0
    for line in first:
        record = json.loads(line)
        if record["tfo"]["request"] != "none":
            asked += 1
            if asked % 10 == 0:
                record["tfo"].update(request="none", outcome="not_attempted")
        lines.append(json.dumps(record))
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))


def handshake_lines(folder: Path) -> list[str]:
    """Of all files of a host."""
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [line for line in lines if json.loads(line)["event"] == "handshake"]


def server_of(record: dict[str, Any]) -> tuple[str, int]:
    """As ClickHouse writes an IPv6 column."""
    address = ip_address(record["server"]["ip"])
    if address.version == 4:
        address = IPv6Address(f"::ffff:{address}")
    return str(address), record["server"]["port"]


def asked(row: dict[str, Any]) -> tuple[str, int]:
    """The server of an answer, written the same way."""
    return str(IPv6Address(row["server"])), row["server_port"]


def lived(record: dict[str, Any]) -> bool:
    """Did the server answer, close, or ack what followed?"""
    timing = record["handshake"]
    alive = timing["first_response_us"] is not None or timing["settled_by"] == "fin" or timing["request_acked"]
    return timing["result"] == "established" and bool(alive)


def check_answers(database: ClickHouse, records: list[dict[str, Any]]) -> None:
    """Every question of questions.sql."""
    never, pays, stripped, saved = statements(SQL / "questions.sql")
    servers = defaultdict(list)
    for record in records:
        servers[server_of(record)].append(record)

    attempts = {
        server: count for server, own in servers.items()
        if (count := sum(one["syn"]["payload_len"] > 0 for one in own))
        and not any(one["syn"]["payload_len"] > 0 and one["tfo"]["outcome"] in ACCEPTED and lived(one) for one in own)
    }  # fmt: skip
    found = {asked(row): int(row["attempts"]) for row in database.ask(never.replace("LIMIT 20", ""))}
    expect(f"which servers never accept: {len(attempts)} of {len(servers)}", found, attempts)

    medians = {}
    for server, own in servers.items():
        alive = [one for one in own if lived(one)]
        if not any(one["tfo"]["outcome"] == "data_acked" for one in alive):
            continue
        kinds = [
            [
                one["handshake"]["first_response_us"] for one in alive
                if one["tfo"]["outcome"] in words and one["handshake"]["first_response_us"] is not None
            ]
            for words in (ACCEPTED, ("not_attempted",))
        ]  # fmt: skip
        if all(kinds):
            medians[server] = tuple(round(statistics.median(one) / 1000, 6) for one in kinds)
    found_medians = {asked(row): (round(row["with_ms"], 6), round(row["without_ms"], 6)) for row in database.ask(pays)}
    expect(f"what it saves: medians of {len(medians)} servers", found_medians, medians)

    requests = defaultdict(set)
    for record in records:
        requests[record["id"]].add(record["tfo"]["request"])
    differing = sorted(one for one, words in requests.items() if len(words) > 1)
    rows = database.ask(stripped.replace("LIMIT 20", ""))
    expect(
        f"handshakes whose option one host did not see: {len(differing)}", sorted(row["id"] for row in rows), differing
    )
    expect("and which hosts these are", {tuple(sorted(row["hosts"])) for row in rows}, {("one", "two")})

    hours: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for record in records:
        tfo, sums = record["tfo"], hours[record["ts"][:13].replace("T", " ")]
        sums[0] += (tfo["rtt_saved_us"] or 0) / 1e6
        if tfo["outcome"] not in ("not_attempted", None):
            sums[1] += (tfo["delay_us"] or 0) / 1e6
    found_hours = {row["hour"][:13]: [round(row[name], 6) for name in ("saved", "lost")] for row in database.ask(saved)}
    expected = {hour: [round(value, 6) for value in sums] for hour, sums in hours.items()}
    expect("time saved and lost per hour", found_hours, expected)


def main() -> None:
    """The whole way."""
    environment = Path(sys.argv[1]).resolve()
    packages = next(environment.glob("lib/python3*/site-packages"))
    collector = packages / "otel_collector" / "bin" / "otelcol-contrib_linux_amd64"
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.chmod(0o755)
        for name in ("one", "two", "logs"):
            (work / name).mkdir()
            (work / name).chmod(0o755)
        port, otlp, grpc = free_port(), free_port(), free_port()
        database = ClickHouse(port)
        server = str(ROOT / "tests" / "fleet" / "server.py")
        stack.enter_context(
            running(work / "logs" / "server", str(environment / "bin" / "python"), server, str(work / "db"), str(port))
        )
        wait("ClickHouse answers", database.is_there)
        print(f"ClickHouse {database.ask('SELECT version() AS v')[0]['v']} (chDB)", flush=True)
        for name in ("handshakes.sql", "otel.sql"):
            database.run(SQL / name)
        seen("tables and views were made")
        stack.enter_context(
            running(
                work / "logs" / "gateway", *NOBODY, str(packages / "rotel" / "rotel-agent"), "start",
                "--otlp-http-endpoint", f"127.0.0.1:{otlp}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
                "--exporter", "clickhouse", "--clickhouse-exporter-endpoint", database.url.rstrip("/"),
                "--clickhouse-exporter-compression", "none",
            )
        )  # fmt: skip
        config = (ROOT / "docs" / "otel" / "tfotrace.yaml").read_text()
        for name in ("one", "two"):
            file = work / f"{name}.yaml"
            file.write_text(config.replace("/var/log/tfotrace", str(work / name)))
            endpoint = f"http://127.0.0.1:{otlp}"
            command = (*NOBODY, str(collector), "--config", str(file))
            stack.enter_context(
                running(work / "logs" / name, *command, HOST_NAME=name, OTLP_ENDPOINT=endpoint)
            )  # fmt: skip
        trace_demo(work / "one")
        first = handshake_lines(work / "one")
        files = len(list((work / "one").glob("*.jsonl")))
        if files < 2:
            sys.exit("not seen: several files of one run: nothing was rotated")
        second_host(first, work / "two")
        second = handshake_lines(work / "two")
        print(f"{len(first)} handshakes in {files} files of host one, {len(second)} of host two", flush=True)
        expected = {"one": len(first), "two": len(second)}

        def counts() -> dict[str, int]:
            rows = database.ask("SELECT host, count() AS n FROM tfotrace.handshakes GROUP BY host")
            return {row["host"]: int(row["n"]) for row in rows}

        wait("every handshake is in the table", lambda: counts() == expected or sum(counts().values()) > len(first) * 2)
        expect("none twice, each under its host", counts(), expected)
        records = [json.loads(line) for line in (*first, *second)]
        check_answers(database, records)


if __name__ == "__main__":
    main()
