"""Runs tfotrace over a capture and holds its records against the judge's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.fidelity import segments, verdict
from scripts.fidelity.pairing import Entry, Pairing

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0
SIZE_MAX = 50 << 20  # bytes
SLACK_US = 0.01
SLACK_AGAIN_US = 1.0  # of a later SYN a record keeps the whole microsecond
OF_A_LATER_SYN = ("handshake.synack_delay_us", "handshake.rtt_us", "tfo.delay_us", "tfo.rtt_saved_us")
WRONG_USAGE = 2  # tfotrace's exit status for a capture that it does not read

Key = tuple[str, int, str, int, int, tuple[str, ...]]


@dataclass(slots=True)
class Disagreement:
    """One field of one handshake, or a handshake that only one side has (`field` missing or extra)."""

    capture: str
    handshake: str
    field: str
    judge: Any
    tfotrace: Any
    notes: list[str]


@dataclass(slots=True)
class Compared:
    """A capture. `skipped` says why nothing was compared."""

    capture: str
    skipped: str | None = None
    handshakes: int = 0
    attempts: int = 0  # of Fast Open
    compared: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    disagreements: list[Disagreement] = field(default_factory=list)
    options_read: int = 0
    options_alike: int = 0


def judged(path: Path) -> tuple[list[Entry], segments.Read]:
    """The handshakes of a capture as the judge sees them."""
    read = segments.read(path, TIMEOUT_S)
    by_tunnel: dict[tuple[segments.Tunnel, ...], list[segments.Segment]] = defaultdict(list)
    for one in read.segments:
        by_tunnel[one.tunnels].append(one)
    found = []
    for inside in by_tunnel.values():
        pairing = Pairing()
        pairing.feed(inside)
        found += pairing.finish(read.last_ns)
    found.sort(key=lambda entry: entry.syn.at_ns)
    return found, read


def records(path: Path) -> list[dict[str, Any]] | None:
    """tfotrace's handshakes; None if it does not read this kind of capture."""
    words = [sys.executable, "-m", "tracer", "replay", str(path), "--json", "--show-cookies"]
    done = subprocess.run(words, capture_output=True, timeout=TIMEOUT_S, check=False, cwd=ROOT)
    if done.returncode == WRONG_USAGE:
        return None
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if not found or found[-1]["event"] != "end":
        raise RuntimeError(f"tfotrace ended with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    return [one for one in found if one["event"] == "handshake"]


def tfotrace_version() -> str:
    """What --version says."""
    words = [sys.executable, "-m", "tracer", "--version"]
    return subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


def compare(path: Path, name: str) -> Compared:
    """One capture."""
    compared = Compared(name)
    if path.stat().st_size > SIZE_MAX:
        compared.skipped = "larger than 50 MB"
        return compared
    try:
        theirs = records(path)
        if theirs is None:
            compared.skipped = "not a capture that tfotrace reads"
            return compared
        mine, read = judged(path)
    except subprocess.TimeoutExpired:
        compared.skipped = "took more than 60 s"
        return compared
    except segments.UnreadableError:
        compared.skipped = "not a capture that tshark reads"
        return compared
    for one in read.segments:
        if one.flags & segments.SYN and one.whole and one.icmp is None:
            compared.options_read += 1
            compared.options_alike += one.options.agrees
    hold(compared, mine, theirs)
    return compared


def hold(compared: Compared, mine: list[Entry], theirs: list[dict[str, Any]]) -> None:
    """Compare the handshakes of both sides."""
    expected: dict[Key, list[Entry]] = defaultdict(list)
    said: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for entry in mine:
        through = tuple(kind for kind, *_ in entry.syn.tunnels)
        expected[(*entry.client, *entry.server, entry.isn, through)].append(entry)
    for record in theirs:
        client, server = record["client"], record["server"]
        ends = client["ip"], client["port"], server["ip"], server["port"]
        said[(*ends, record["syn"]["seq"], tuple(record.get("through") or ()))].append(record)
    compared.handshakes = len(mine)
    compared.attempts = sum(entry.attempt for entry in mine)
    around: dict[frozenset[Any], set[str]] = defaultdict(set)
    for entry in mine:
        around[frozenset((entry.client, entry.server))] |= entry.notes
    for key in sorted({*expected, *said}):
        name = f"{key[0]}:{key[1]} > {key[2]}:{key[3]} isn {key[4]}"
        notes = sorted(around[frozenset((key[:2], key[2:4]))])
        ours, yours = expected[key], said[key]
        yours.sort(key=lambda record: (record["ts"], record["handshake"].get("resumed") is not None))
        compared.compared["handshake"] += max(len(ours), len(yours))
        for at in range(max(len(ours), len(yours))):
            if at >= len(yours):
                compared.disagreements.append(
                    Disagreement(compared.capture, name, "missing", ours[at].result, None, notes)
                )
            elif at >= len(ours):
                result = yours[at]["handshake"]["result"]
                compared.disagreements.append(Disagreement(compared.capture, name, "extra", None, result, notes))
            else:
                _hold_one(compared, name, verdict.fields(ours[at]), yours[at], notes)


_ABSENT = object()


def _look(record: dict[str, Any], name: str) -> Any:
    """A field by its name; _ABSENT where this version has no such field."""
    value: Any = record
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _hold_one(compared: Compared, name: str, mine: verdict.Fields, record: dict[str, Any], notes: list[str]) -> None:
    has_synack = record["synack"] is not None
    for field_name, expected in mine.items():
        if field_name == "synack":
            said: Any = has_synack
        elif field_name.startswith("synack.") and not has_synack:
            continue
        else:
            said = _look(record, field_name)
        if said is _ABSENT:
            continue
        if isinstance(expected, dict) and isinstance(said, dict):
            said = {key: said.get(key) for key in expected}
        compared.compared[field_name] += 1
        again = mine["handshake.answered_syn"] not in (None, 1) and field_name in OF_A_LATER_SYN
        if not alike(expected, said, SLACK_AGAIN_US if again else SLACK_US):
            compared.disagreements.append(Disagreement(compared.capture, name, field_name, expected, said, notes))


def alike(mine: Any, theirs: Any, slack_us: float = SLACK_US) -> bool:
    """Equal, durations to what their rounding allows."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return mine.keys() == theirs.keys() and all(alike(mine[key], theirs[key], slack_us) for key in mine)
    if isinstance(mine, float) and isinstance(theirs, (int, float)):
        return abs(mine - theirs) <= slack_us + abs(mine) * 1e-9
    return bool(mine == theirs)
