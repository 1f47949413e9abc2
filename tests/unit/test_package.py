"""The wheel and the lock files: what pip gets."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, without network, by the setuptools of requirements-dev.lock."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, source / name)
    for name in ("LICENSES", "tracer", "tui", "tests", "scripts", "bench"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "build", "out"))
    out = tmp_path_factory.mktemp("wheel")
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", *offline, "--wheel-dir", str(out), str(source)]
    subprocess.run(command, check=True, timeout=110)
    (built,) = out.glob("tfotrace-*.whl")
    assert built.name == "tfotrace-0.1.0-py3-none-any.whl"
    return zipfile.ZipFile(built)


def sources(*patterns: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}


def test_wheel_holds_the_program_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = sources("tracer/**/*.py", "tui/**/*.py", "tracer/bpf/**/*.[ch]", "tui/*.tcss")
    assert "tracer/bpf/event.h" in expected
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected


def layers() -> list[str]:
    """The folders in the order of the import contract; "errors : version" come last."""
    (text,) = re.findall(r"^layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"\w+", text)


def folders_imported(folder: Path) -> set[str]:
    """The other folders of tracer that modules of a folder import."""
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    found = re.findall(r"^\s*(?:from|import) tracer\.(\w+)", text, re.MULTILINE)
    return {*found} - {folder.name, "errors", "version"}


def folders_allowed(docstring: str) -> set[str]:
    """Those that a folder's docstring allows it to import."""
    _, found, says = docstring.partition("May import ")
    if not found:
        assert "mports nothing" in docstring
        return set()
    if says.startswith("every other folder"):
        return set(layers())
    named = re.findall(r"(\w+)/", says.partition(".")[0])
    beneath = layers()[min(map(layers().index, named)) :] if "everything beneath" in says else []
    return {*named, *beneath}


def test_folders_of_tracer_say_what_they_are_for_and_import_nothing() -> None:
    found = [path for path in ROOT.glob("tracer/*/__init__.py") if path.parent.name != "bpf"]
    assert len(found) > 20
    for path in found:
        (docstring,) = ast.parse(path.read_text()).body  # and nothing else
        assert isinstance(docstring, ast.Expr), path
        imported = folders_imported(path.parent)
        assert imported <= folders_allowed(ast.literal_eval(docstring.value)), path
    assert {path.name for path in ROOT.glob("tracer/*.py")} == {"__init__.py", "__main__.py", "errors.py", "version.py"}


def test_the_root_part_does_without_large_libraries() -> None:
    # run.live is what its process has imported when it is forked
    words = (
        "import sys, tracer.run.live, tracer.root.part\n"
        "sys.exit(not {'numpy', 'bcc', 'pyroute2'}.isdisjoint(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", words], check=True, cwd=ROOT)


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    info = "tfotrace-0.1.0.dist-info"
    metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["License-Expression"] == "MIT AND (GPL-2.0-only OR MIT)"
    assert metadata["Requires-Python"] == ">=3.10"
    required = {
        re.split(r"[<>=; ]", line)[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line
    }
    assert required == {
        "google-re2",
        "lark",
        "msgspec",
        "numpy",
        "prometheus-client",
        "pygal",
        "pyroute2",
        "textual",
        "tomlkit",
        "zstandard",
    }
    assert {f"{info}/licenses/{name}" for name in ("LICENSE", "LICENSES/GPL-2.0-only.txt", "LICENSES/MIT.txt")} <= set(
        wheel.namelist()
    )
    assert b"tfotrace = tracer.cli.main:main" in wheel.read(f"{info}/entry_points.txt")


def pins(name: str) -> dict[str, set[str]]:
    """Package -> pinned versions (one for each marker) of a lock file."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if match := re.match(r"([a-z0-9-]+)==([^ ;]+)", line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def test_locks_are_exact_hashed_and_agree() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        blocks = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
        assert all(re.match(r"[a-z0-9-]+==\S+", block) and "--hash=sha256:" in block for block in blocks)
    run, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {"lark", "msgspec", "numpy", "pyroute2", "textual"} <= run.keys()
    assert "setuptools" in dev
    assert run.items() <= dev.items()


def test_python_3_10_has_a_numpy_of_its_own() -> None:
    """2.2 is the last numpy for Python 3.10."""
    lock = (ROOT / "requirements.lock").read_text()
    assert re.search(r"^numpy==2\.2\.\d+ ; python_full_version < '3\.11'", lock, re.MULTILINE)
