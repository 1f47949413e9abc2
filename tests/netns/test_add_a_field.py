"""CONTRIBUTING's recipe adds a field to the record, and whatever reads records has it: tried on a copy of the tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.captures import EN10MB, START_NS, Packet, handshake, pcap
from tests.support.patience import LONG_S
from tests.support.tracing import CHECKOUT

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(4 * LONG_S)]

FIELD = "urgent_pointer"
PARTS = ("tracer", "tui", "scripts", "docs", "tests/support", "tests/golden", "tests/unit", "CONTRIBUTING.md")


def recipe() -> list[tuple[str, str, str]]:
    """File, a line of it, the lines to put behind that one."""
    text = (CHECKOUT / "CONTRIBUTING.md").read_text().partition("## Add a field")[2]
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    steps = re.findall(r"^--- (\S+)\n (.*)\n((?:\+.*\n)+)", diff, re.MULTILINE)
    return [(name, line, "".join(added[1:] + "\n" for added in more.splitlines())) for name, line, more in steps]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree with the field."""
    root = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        source = CHECKOUT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        copy(source, root / part, **({"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}))
    (root / "tests" / "__init__.py").touch()
    steps = recipe()
    assert len(steps) == len({name for name, _, _ in steps}) == 3
    for name, line, added in steps:
        text = (root / name).read_text()
        assert text.count(f"{line}\n") == 1, (name, line)
        (root / name).write_text(text.replace(f"{line}\n", f"{line}\n{added}"))
    python(root, "scripts/generate.py")
    return root


def python(root: Path, *words: str) -> str:
    """Run the copy's code, never the checkout's."""
    done = subprocess.run([sys.executable, *words], cwd=root, capture_output=True, text=True, timeout=3 * LONG_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def replayed(root: Path, path: Path, *words: str) -> list[dict[str, Any]]:
    out = python(root, "-m", "tracer", "replay", str(path), "--json", *words)
    records = [json.loads(line) for line in out.splitlines()]
    return [one for one in records if one["event"] == "handshake"]


def urgent(packets: list[Packet], pointer: int) -> Iterator[Packet]:
    """The same with an urgent pointer in the SYN, whose checksum nobody checks."""
    for at, packet in enumerate(packets):
        changed = packet.ip[:38] + struct.pack("!H", pointer) + packet.ip[40:] if at == 0 else packet.ip
        yield Packet(packet.at_ns, changed, packet.vlans, packet.outgoing, packet.interface)


@pytest.fixture(scope="module")
def recording(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two handshakes, the first with an urgent pointer, as the copy records them."""
    folder = tmp_path_factory.mktemp("recording")
    packets = [*urgent(handshake(port=40000), 513), *handshake(at_ns=START_NS + 1_000_000_000, port=40001)]
    (folder / "trace.pcap").write_bytes(pcap(EN10MB, packets))
    found = replayed(tree, folder / "trace.pcap", "-w", str(folder / "events.jsonl"))
    assert [one["syn"][FIELD] for one in found] == [513, 0]
    assert [one["synack"][FIELD] for one in found] == [0, 0]
    return folder / "events.jsonl"


def test_what_follows_is_generated(tree: Path) -> None:
    assert f"handshake.syn.{FIELD}: integer or null\n" in (tree / "tests/golden/schema-1.txt").read_text()
    assert f'"{FIELD}" BIGINT' in (tree / "docs/duckdb/tfotrace.sql").read_text()
    assert FIELD in python(tree, "-m", "tracer", "schema")


def test_filters_and_replays_have_it(tree: Path, recording: Path) -> None:
    again = replayed(tree, recording)
    assert [one["syn"][FIELD] for one in again] == [513, 0]
    for path in (recording, recording.with_name("trace.pcap")):
        chosen = replayed(tree, path, "--filter-record", f"syn.{FIELD} > 512")
        assert [one["client"]["port"] for one in chosen] == [40000]


def test_an_older_recording_has_null(tree: Path, recording: Path) -> None:
    older = recording.with_name("older.jsonl")
    older.write_text(re.sub(rf',"{FIELD}":\d+', "", recording.read_text()))
    assert FIELD not in older.read_text()
    assert len(replayed(tree, older, "--filter-record", f"syn.{FIELD} == null")) == 2
    assert replayed(tree, older, "--filter-record", f"syn.{FIELD} == 0") == []


def test_the_list_has_a_column(tree: Path, recording: Path) -> None:
    program = (
        "import sys, msgspec\n"
        "from tracer.store.list_columns import COLUMNS\n"
        "from tracer.records.record import Handshake\n"
        f"column = COLUMNS['syn.{FIELD}']\n"
        "lines = [line for line in open(sys.argv[1], 'rb') if b'\"event\":\"handshake\"' in line]\n"
        "print(*(column.text(msgspec.json.decode(line, type=Handshake)) for line in lines))"
    )
    assert python(tree, "-c", program, str(recording)) == "513 0\n"


# what makes, writes and reads a field; the long form runs all tests of what reads records
_SHORT = ("test_generated.py", "encode", "replay/test_records.py")
_LONG = (
    "test_generated.py",
    "records",
    "encode",
    "filters/test_filter.py",
    "replay/test_records.py",
    "replay/test_lives.py",
)


def test_the_tests_of_what_reads_records_pass(tree: Path) -> None:
    units = _LONG if os.environ.get("TFOTRACE_LONG") else _SHORT
    folders = [f"tests/unit/{name}" for name in units]
    python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *folders)
