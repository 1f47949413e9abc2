"""A test that runs again must not find what failed before in a fixture of its file (tests/conftest.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FILE = """
import pytest

made = []

@pytest.fixture(scope="module")
def base():
    made.append("base")
    yield len(made)
    made.append("closed")

@pytest.fixture(scope="module")
def played(base):
    return base

def test_before(played):
    assert played == 1

def test_of_the_first_round(played):
    assert played == 3 and made == ["base", "closed", "base"]

def test_after(played):
    assert played == 3
"""


def test_fixtures_of_a_file_are_made_anew(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_setup\n")
    test = tmp_path / "test_played.py"
    test.write_text(FILE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "--reruns=1"]
    done = subprocess.run([*command, test], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    assert "1 rerun" in done.stdout
