"""A short run of the fuzz targets in C: their corpora and mutations of them, built by gcc with its sanitizers.

`make fuzz` runs the same targets with libFuzzer (run.sh).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BPF_FOLDER = HERE.parents[1] / "tracer" / "bpf"
# As tests/host; what kernel programs compare is not always of one sign.
CFLAGS = [
    "-std=gnu11",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-sign-compare",
    "-Wno-unknown-pragmas",
    "-fno-strict-aliasing",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
]
MUTATIONS = {"frame": 200_000, "pairing": 20_000}
# One change each to what is fuzzed, which the target has to find, or it would find nothing else either.
SPOILED = [
    ("frame", "parse_link.h", "if ((void *)(tag + 4) > c->end || h->l3_len < offset + 4)", "if (0)"),
    ("frame", "payload.h", "sc->frame_len - sc->payload_offset : 0", "sc->frame_len : 0"),
    ("pairing", "follow.h", "count_evicted(c, did >> 16);", ""),
    ("pairing", "pair.h", "if (i >= RETX_MAX)", "if (i > RETX_MAX)"),
    ("pairing", "pair.h", "__builtin_memset(p, 0, __builtin_offsetof(struct pending, ev.syn));", ""),
]


def build(target: str, program: Path, bpf_folder: Path = BPF_FOLDER, *more_flags: str) -> None:
    """Compile a target with the mutations' main()."""
    sources = [str(HERE / f"{target}.c"), str(HERE / "standalone.c")]
    command = ["gcc", *CFLAGS, *more_flags, f"-I{bpf_folder}", "-o", str(program), *sources]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr


def run(target: str, program: Path) -> subprocess.CompletedProcess[str]:
    """The corpus of a target, and mutations of it."""
    command = [str(program), str(HERE / "corpus" / target), str(MUTATIONS[target])]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("target", sorted(MUTATIONS))
def test_mutations_find_nothing(tmp_path: Path, target: str) -> None:
    build(target, tmp_path / target)
    ran = run(target, tmp_path / target)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    files = len([path for path in (HERE / "corpus" / target).iterdir() if not path.name.startswith(".")])
    assert files > 20
    assert ran.stdout == f"files={files} mutations={MUTATIONS[target]}\n"


@pytest.mark.parametrize(("target", "header", "right", "wrong"), SPOILED, ids=[case[1] for case in SPOILED])
def test_a_spoiled_parser_is_found(tmp_path: Path, target: str, header: str, right: str, wrong: str) -> None:
    for path in BPF_FOLDER.glob("*.h"):
        text = path.read_text()
        if path.name == header:
            assert right in text
            text = text.replace(right, wrong, 1)
        (tmp_path / path.name).write_text(text)
    # gcc takes longer to optimize than the target runs until it fails
    build(target, tmp_path / target, tmp_path, "-O0")
    assert run(target, tmp_path / target).returncode != 0
