"""Runs inside a booted system that has the package: the unit must trace, run as its own user, and end cleanly.

Prints one line for each thing seen; exits with status 1 and a sentence for the first one missing.
"""

from __future__ import annotations

import json
import pwd
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

UNIT = "tfotrace@lo.service"
RECORDS = Path("/var/log/tfotrace/lo.jsonl")


def systemctl(*words: str) -> str:
    """systemctl's output about the unit."""
    return subprocess.run(["systemctl", *words, UNIT], check=False, capture_output=True, text=True).stdout


def journal() -> str:
    """The unit's own output, which says why it did not start or failed."""
    words = ["journalctl", "--no-pager", "--lines=60", "--output=short-monotonic", "--unit", UNIT]
    return subprocess.run(words, check=False, capture_output=True, text=True).stdout


def give_up(what: str) -> NoReturn:
    """End the check and print all that is known."""
    sys.exit(f"not seen: {what}\n{systemctl('status', '--no-pager', '--lines=0')}\n{journal()}")


def records() -> list[dict[str, Any]]:
    """The records that the service has written so far, whole lines only."""
    if not RECORDS.exists():
        return []
    return [json.loads(line) for line in RECORDS.read_text().splitlines(keepends=True) if line.endswith("\n")]


def wait_for(what: str, event: str) -> dict[str, Any]:
    """Wait for the first record of this kind; ends the check if none comes within two minutes: it compiles first."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for record in records():
            if record["event"] == event:
                print(f"seen: {what}", flush=True)
                return record
        time.sleep(0.1)
    give_up(what)


def connect() -> None:
    """Make one connection over loopback with an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            server.sendall(b"x")
            client.recv(1)


def main() -> None:
    """Start the unit, make a connection, stop it."""
    subprocess.run(["systemctl", "start", UNIT], check=True)
    start = wait_for("a start record", "start")
    lacking = {one["what"] for one in start["without"]}
    if lacking & {"processes", "socket_owners", "listener_options"} or "places" not in lacking:
        give_up(f"a start that lacks places, and nothing of processes and listeners ({lacking})")
    connect()
    if wait_for("a handshake", "handshake")["client"]["process"] is None:
        give_up("the client's name")
    owner = pwd.getpwuid(RECORDS.stat().st_uid).pw_name
    if owner != "tfotrace":
        give_up(f"the records belong to tfotrace (they belong to {owner})")
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    wait_for("an end record after systemctl stop", "end")
    state = systemctl("is-failed").strip()
    if state != "inactive":
        give_up(f"the unit ended well (it is {state})")
    print("seen: the unit ended well")


if __name__ == "__main__":
    main()
