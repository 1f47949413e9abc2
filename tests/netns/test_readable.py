"""Tests that run as nobody pass in a checkout that nobody else may read (scripts/readable.sh)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tracing import CHECKOUT

pytestmark = pytest.mark.root

AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", "tracer/__main__.py"]


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "scripts/readable.sh", *words]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as Debian makes it, with a checkout and a secret in it."""
    made = tmp_path / "home"
    checkout = made / "src" / "tfotrace"
    for folder in ("scripts", "tracer"):
        (checkout / folder).mkdir(parents=True)
    shutil.copy(CHECKOUT / "scripts" / "readable.sh", checkout / "scripts")
    (checkout / "tracer" / "__main__.py").write_text("read\n")
    (made / "secret").write_text("secret\n")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    made.chmod(0o700)
    return made


def test_nobody_reads_the_checkout_and_nothing_else(home: Path) -> None:
    checkout = home / "src" / "tfotrace"
    before = Path("/proc/self/mounts").read_text()
    done = run(checkout, *AS_NOBODY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")
    assert run(checkout, "cat", "../../secret").returncode == 1
    assert Path("/proc/self/mounts").read_text() == before
    assert list(Path("/run").glob("tfotest-checkout-*")) == []


def test_where_everybody_may_read_it_nothing_is_hidden(home: Path) -> None:
    home.chmod(0o755)
    done = run(home / "src" / "tfotrace", "cat", "../../secret")
    assert (done.returncode, done.stdout) == (0, "secret\n")


def test_a_checkout_that_is_closed_itself_is_said(home: Path) -> None:
    checkout = home / "src" / "tfotrace"
    home.chmod(0o755)
    (checkout / "tracer").chmod(0o700)
    done = run(checkout, "cat", "scripts/readable.sh")
    assert done.returncode == 1
    assert done.stderr == (
        f"readable.sh: others may not read this checkout, which some tests need: chmod -R go+rX {checkout}\n"
    )
