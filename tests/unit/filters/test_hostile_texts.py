"""Texts of strangers against patterns: nothing takes longer than the text is long.

What could run for ever runs in a process of its own, since a match of `re` lets no other thread run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.support.rows import golden
from tracer.encode.composer import Composer
from tracer.filters.regex import searcher
from tracer.records.record import TlsInfo

ROOT = Path(__file__).parents[3]
GIVE_UP_S = 100
LETTERS = "a" * 50
# each takes `re` longer than the universe is old, with one of the texts
PATTERNS = ("([a-z0-9]+[-.]?)+$", "(a|aa)+$", "(a*)*b", "((a?){30}){30}c", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$")
TEXTS = (LETTERS + "!", "a" * 255, "ab" * 127, "x" * 100, "-." * 127, "é" * 127, "\u212a" * 85, "\x00" * 255, "")

# every pattern of ours against texts of each pair of its own characters, and of all that are usual
OUR_PATTERNS = """
import importlib, pkgutil, re, sys
import tracer, tui
seen = 0
for package in (tracer, tui):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if not isinstance(value, re.Pattern):
                continue
            seen += 1
            own = value.pattern.decode() if isinstance(value.pattern, bytes) else value.pattern
            letters = sorted({*own, *"a0 .-/\\\\\\"'\\n", "\\u00e9"})
            for text in {(one + other) * 100 + end for one in letters for other in letters for end in ("", "!", "\\n")}:
                stranger = text.encode() if isinstance(value.pattern, bytes) else text
                value.search(stranger), value.fullmatch(stranger)
print(seen)
"""

ASKS = """
import ast, sys
from tracer.filters.regex import searcher
found = searcher(sys.argv[1])
print([found(one) for one in ast.literal_eval(sys.argv[2])])
"""


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_answers_whatever_the_text(pattern: str) -> None:
    subprocess.run([sys.executable, "-c", ASKS, pattern, repr(TEXTS)], cwd=ROOT, check=True, timeout=GIVE_UP_S)


@pytest.mark.parametrize("extra", [(), ("--text",)], ids=["json", "text"])
def test_a_run_with_a_hostile_name_ends(tmp_path: Path, extra: tuple[str, ...]) -> None:
    recorded = golden()
    composer = Composer(recorded.interfaces, offset_ns=recorded.start.boot_clock_offset_ns)
    records = [record for batch in recorded.decoded() for record in composer.compose(batch)]
    records = [record for record in records if record.tls is not None][:2]
    named = msgspec.structs.replace(records[0], tls=TlsInfo(sni=LETTERS + "!", alpn=None, ech=False))
    friendly = msgspec.structs.replace(records[1], tls=TlsInfo(sni="demo.example", alpn=None, ech=False))
    lines = [recorded.start, named, friendly]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in lines))
    command = [sys.executable, "-m", "tracer", "replay", str(path), *(extra or ("--json",))]
    ran = subprocess.run(
        [*command, "--filter-record", "sni =~ '([a-z0-9]+[-.]?)+$'"],
        cwd=ROOT, check=True, timeout=GIVE_UP_S, capture_output=True, text=True,
    )  # fmt: skip
    assert "demo.example" in ran.stdout
    assert LETTERS not in ran.stdout


def test_no_pattern_of_the_program_can_be_made_slow() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", OUR_PATTERNS], cwd=ROOT, check=True, timeout=GIVE_UP_S, capture_output=True, text=True
    )
    assert int(ran.stdout) >= 15


def test_texts_that_are_no_utf_8() -> None:
    assert searcher("c")("a\ud800b") is False
    assert searcher("b$")("a\ud800b") is True


def test_who_has_no_pattern_does_not_load_the_library() -> None:
    script = (
        "import sys\nfrom tracer.filters.filter import parse\n"
        "parse('sni ~ a and rtt > 5ms')\nassert 're2' not in sys.modules\n"
        "parse('sni =~ a')\nassert 're2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
