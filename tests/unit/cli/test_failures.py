"""Failing system calls are reported correctly, on standard output or elsewhere."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tracer.cli import main as cli
from tracer.errors import ExitCode

COMMAND = (sys.executable, "-I", "-m", "tracer")
SAYING = [("schema",), ("--help",), ("replay", "--help"), ("--version",)]


@pytest.mark.parametrize("words", SAYING, ids=" ".join)
def test_a_full_disk_is_told(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, *words], check=False, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == ExitCode.ENDED_EARLY
    assert done.stderr == b"tfotrace: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("words", SAYING, ids=" ".join)
def test_a_reader_that_left_is_no_failure(words: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([*COMMAND, *words], check=False, stdout=write, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "Resource temporarily unavailable"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/proc/self"), "Too many open files: /proc/self"),
        (BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)), "Broken pipe"),
    ],
)
def test_other_errors_are_not_those_of_standard_output(
    error: OSError, says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main(["lo"]) == ExitCode.CANNOT_TRACE
    assert capfd.readouterr().err == f"tfotrace: a system call failed: {says}\n"


def test_warnings_of_libraries_are_not_for_the_user() -> None:
    script = (
        "import sys, threading, warnings\nfrom tracer.cli import main as cli\n"
        "def warn(words):\n"
        "    warnings.warn('from a library', DeprecationWarning, stacklevel=1)\n"
        "    one = threading.Thread(target=warnings.warn, args=('from a thread', RuntimeWarning))\n"
        "    one.start(), one.join()\n"
        "    import numpy\n"
        "    numpy.array([1.0]) / numpy.zeros(1)\n"
        "    return 0\n"
        "cli._COMMANDS['version'] = warn\nsys.exit(cli.main(['version']))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("mib", [20, 30, 60, 100, 130, 160, 191, 192, 210])
def test_a_small_limit_of_address_space_is_a_sentence(mib: int, tmp_path: Path) -> None:
    records = tmp_path / "events.jsonl"
    records.write_bytes(b'{"no":"record"}\n')
    done = subprocess.run(
        ["prlimit", f"--as={mib << 20}", "--", *COMMAND, "replay", str(records), "--json"],
        check=False, capture_output=True, timeout=60, text=True,
    )  # fmt: skip
    said = done.stderr.splitlines()
    assert all(line.startswith("tfotrace: ") for line in said), done.stderr
    if mib < 192:
        assert done.returncode == ExitCode.CANNOT_TRACE
        assert said == [
            f"tfotrace: out of memory: the limit of address space is {mib} MiB: raise it (ulimit -v) to 192 or more"
        ]
    else:
        assert "holds no record of tfotrace" in said[-1] or "out of memory" in said[-1]
        assert done.returncode in (ExitCode.USAGE, ExitCode.ENDED_EARLY)


def test_a_library_that_cannot_be_mapped_is_lack_of_memory() -> None:
    script = (
        "import sys\nfrom tracer.cli import main as cli\n"
        "def lack(words):\n    raise ImportError('x.so: failed to map segment from shared object')\n"
        "cli._COMMANDS['version'] = lack\nsys.exit(cli.main(['version']))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, timeout=60)
    assert done.returncode == ExitCode.ENDED_EARLY
    assert done.stderr.startswith(b"tfotrace: out of memory")
    assert done.stderr.count(b"\n") == 1
