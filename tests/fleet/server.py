"""ClickHouse's HTTP interface for chDB, the engine as a library: as much of it as collectors and queries need.

    python server.py FOLDER PORT

A query comes as `query` of the URL, as the body, or partly in each as an INSERT with its data; a failed one is answered
with 500 and the engine's words. Runs with the fleet check's own Python, which has chdb.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from chdb.session import Session

INSERT = re.compile(
    r"\s*INSERT\s+INTO\s+([\w.`\"]+)\s*\(([^)]*)\)\s*(?:SETTINGS .*?)?FORMAT\s+(\w+)\s*$", re.IGNORECASE | re.DOTALL
)


class Engine:
    """One session that runs one query at a time."""

    def __init__(self, folder: str) -> None:
        self._session = Session(folder)
        self._lock = threading.Lock()

    def ask(self, query: str, form: str = "TabSeparated") -> bytes:
        """The answer as ClickHouse formats it. Raises RuntimeError."""
        with self._lock:
            return bytes(self._session.query(query, form).bytes())

    def insert(self, query: str, data: bytes, database: str) -> None:
        """INSERT ... FORMAT with its data, which a library takes from a file. Raises RuntimeError."""
        match = INSERT.match(query)
        if match is None:
            raise RuntimeError(f"no INSERT with columns and a format: {query}")
        table = match[1] if "." in match[1] else f"{database}.{match[1]}"
        columns, form = [name.strip(' `"\n') for name in match[2].split(",")], match[3]
        types = dict(line.split("\t")[:2] for line in self.ask(f"DESCRIBE TABLE {table}").decode().splitlines())
        structure = ", ".join(f"`{name}` {types[name]}" for name in columns).replace("'", "''")
        names = ", ".join(f"`{name}`" for name in columns)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.ask(f"INSERT INTO {table} ({names}) SELECT {names} FROM file('{file.name}', '{form}', '{structure}')")


class Handler(BaseHTTPRequestHandler):
    """GET and POST /?query=..."""

    engine: Engine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """/ping, or a query."""
        self._answer(b"")

    def do_POST(self) -> None:
        """A query with its data, or as the body."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            self._answer(b"".join(parts))
        else:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _answer(self, body: bytes) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        query = "".join(asked.get("query", []))
        database = (asked.get("database") or [self.headers.get("X-ClickHouse-Database", "default")])[0]
        try:
            if INSERT.match(query):
                self.engine.insert(query, body, database)
                code, answer = 200, b""
            else:
                query = f"{query} {body.decode()}".strip()
                code, answer = 200, self.engine.ask(query) if query else b"Ok.\n"
        except RuntimeError as error:
            code, answer = 500, str(error).encode()
            print(f"{query[:300]}: {error}", file=sys.stderr, flush=True)
        self.send_response(code)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *words: object) -> None:  # noqa: A002 - the base class calls it so
        """Nothing."""


def main() -> None:
    """Serve until ended by a signal."""
    Handler.engine = Engine(sys.argv[1])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()


if __name__ == "__main__":
    main()
