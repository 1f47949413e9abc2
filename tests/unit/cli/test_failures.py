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
