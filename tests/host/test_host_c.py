"""Build the pure headers of tracer/bpf with the host's compiler and its sanitizers, and run the tests in C."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BPF_FOLDER = HERE.parents[1] / "tracer" / "bpf"
# Kernels are built without strict aliasing. The pragmas are clang's, the programs' compiler.
CFLAGS = [
    "-std=gnu11",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-fno-strict-aliasing",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    f"-I{BPF_FOLDER}",
]


def build_and_run(folder: Path, source: Path, *arguments: str) -> str:
    """Standard output of the built program, which must succeed with nothing on standard error."""
    program = folder / source.stem
    built = subprocess.run(["gcc", *CFLAGS, "-o", str(program), str(source)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", sorted(path.stem for path in HERE.glob("test_*.c")))
def test_tables(tmp_path: Path, name: str) -> None:
    assert re.search(r"[1-9]\d* checks, 0 failures", build_and_run(tmp_path, HERE / f"{name}.c"))


def test_mutated_frames_trip_no_sanitizer(tmp_path: Path) -> None:
    found = build_and_run(tmp_path, HERE / "mutate.c", "300000")
    counts = dict(re.findall(r"(\w+)=(\d+)", found))
    # Frames that all end at the first check would prove nothing.
    assert int(counts["frames"]) == 300_000
    assert int(counts["segments"]) > 50_000
    assert int(counts["common"]) > 20_000
    assert int(counts["segments"]) - int(counts["common"]) > 20_000
    assert int(counts["quoted"]) > 1_000
    assert int(counts["settled"]) > 1_000
    assert int(counts["idle"]) > 100


def test_python_names_have_the_values_of_the_c_ones(tmp_path: Path) -> None:
    from tracer.vocabulary.vocabulary import HandshakeResult, Has, SettleReason

    header = (BPF_FOLDER / "event.h").read_text()
    # Both spell "nothing yet" in their own way.
    own = {"RESULT_NONE": "NONE", "SETTLED_NOT": "NOT", "SETTLED_AT_END": "AT_END"}
    enums = {
        HandshakeResult: [(name, "RESULT_") for name in re.findall(r"^\t(RESULT_\w+)", header, re.MULTILINE)],
        SettleReason: [(name, "SETTLED_") for name in re.findall(r"^\t(SETTLED_\w+)", header, re.MULTILINE)],
        Has: [(name, "HAS_") for name in re.findall(r"^#define (HAS_\w+)", header, re.MULTILINE)],
    }
    names = [name for members in enums.values() for name, _ in members]
    lines = "".join(f'\tprintf("{name} %d\\n", {name});\n' for name in names)
    source = tmp_path / "values.c"
    source.write_text(f'#include <stdio.h>\n#include "event.h"\nint main(void)\n{{\n{lines}\treturn 0;\n}}\n')
    values = dict(line.split() for line in build_and_run(tmp_path, source).splitlines())
    for enum, members in enums.items():
        of_c = {own.get(name, name.removeprefix(prefix)): int(values[name]) for name, prefix in members}
        assert of_c
        assert {name: member.value for name, member in enum.__members__.items()} == of_c
