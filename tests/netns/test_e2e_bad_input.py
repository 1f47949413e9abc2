"""Every failure is reported in one sentence, with the exit code of DESIGN.md section 2 and never a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netbox import NetBox
from tests.support.tracing import CHECKOUT, COMMAND, NOT_ROOT, decode, one_sentence, run
from tracer.records.run import End, Start

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def box() -> Iterator[NetBox]:
    """lo is up, "left" and "right" are, "asleep" is not."""
    box = NetBox()
    try:
        box.make_pair()
        box.run("ip", "link", "set", "lo", "up")
        box.run("ip", "link", "add", "asleep", "type", "veth", "peer", "name", "asleep-peer")
        yield box
    finally:
        box.close()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "give an interface"),
        (("nosuch0",), '"nosuch0"'),
        (("left", "nosuch0"), '"nosuch0"'),
        (("left+nosuch0",), '"nosuch0"'),
        (("",), "no interface"),
        (("left+",), "no interface"),
        (("caf\N{LATIN SMALL LETTER E WITH ACUTE}",), "no interface"),
        (("\udcff",), "no interface"),  # a byte that is no UTF-8
        (("two\nlines",), "no interface"),
        (("\x1b[31mred",), "no interface"),
        (("a-name-that-no-interface-can-have",), "no interface"),
        (("asleep",), "ip link set asleep up"),
        (("left", "asleep"), "ip link set asleep up"),
        (("left+asleep",), "ip link set asleep up"),
        (("left", "left"), "twice"),
        (("left+left",), "twice"),
        (("left+right", "left"), "twice"),
        (("-i", "left", "left"), "twice"),
        (("any", "left"), "any"),
        (("left", "--duration", "-1"), "--duration"),
        (("left", "--duration", "0"), "--duration"),
        (("left", "--duration", "nan"), "--duration"),
        (("left", "--duration", "soon"), "--duration"),
        (("left", "--count", "0"), "--count"),
        (("left", "--count", "-1"), "--count"),
        (("left", "--count", "1.5"), "--count"),
        (("left", "--count", "\N{SUPERSCRIPT TWO}"), "whole number"),
        (("left", "--hook", "nonsense"), "xdp-native"),
        (("left", "--transport", "pigeon"), "perf"),
        (("left", "--user", "nobody-such"), "nobody-such"),
        (("left", "--user", ""), "--user"),
        (("left", "--user", "4294967299"), "4294967299"),
        (("left", "-w", "/nosuch/file"), "/nosuch/file"),
        (("left", "-w", "/"), "/"),
        (("left", "--ready-file", "/nosuch/file"), "/nosuch/file"),
        (("left", "--netns", "nonsense"), "nonsense"),
        (("left", "--netns", "\udcff"), "no network namespace"),
        (("left", "--netns", "pid:0"), "pid:0"),
        (("left", "--netns", "/etc/passwd"), "/etc/passwd"),
        (("left", "--table-size", "0"), "--table-size"),
        (("left", "--table-size", "99999999999"), "16777216"),
        (("left", "--response-timeout", "-5"), "--response-timeout"),
        (("left", "--json", "--text"), "--text"),
        (("left", "--no-such-option"), "--no-such-option"),
        (("doctor", "lo", "lo"), "named twice"),
        (("doctor", "any", "lo"), "do not name others"),
        (("doctor", "nosuch0"), '"nosuch0"'),
        (("doctor", "--netns", "nonsense"), "nonsense"),
        (("replay", "/no/such/trace.pcapng"), "No such file"),
        (("demo", "left"), "left"),
        (("schema", "left"), "left"),
        (("detach", "nosuch0"), '"nosuch0"'),
    ],
    ids=lambda value: ascii(" ".join(value)) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_2(box: NetBox, words: tuple[str, ...], hint: str) -> None:
    one_sentence(run(*words, prefix=box.command()), 2, hint)


def test_a_user_who_may_not_read_the_program_is_named(box: NetBox, tmp_path: Path) -> None:
    """Most of it is imported after root was left: out of reach behind a folder that is root's alone, say a home."""
    folder = tmp_path / "home"
    shutil.copytree(CHECKOUT / "tracer", folder / "tracer", ignore=shutil.ignore_patterns("__pycache__"))
    folder.chmod(0o700)
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); from tracer.cli.main import main; sys.exit(main())"
    command = (sys.executable, "-I", "-c", start)
    done = run("left", "--json", "--user", "nobody", prefix=box.command(), command=command)
    one_sentence(done, 2, "user nobody may not read", str(folder / "tracer"), "make install")


@pytest.mark.parametrize("words", [("lo",), ("any",), ("demo",), ("detach",)], ids=" ".join)
def test_who_is_not_root_is_told_so(words: tuple[str, ...]) -> None:
    one_sentence(run(*words, prefix=NOT_ROOT), 3, "root", "sudo")


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("demo", "--help"), ("schema",)], ids=" ".join)
def test_what_needs_no_root_runs_without(words: tuple[str, ...]) -> None:
    done = run(*words, prefix=NOT_ROOT)
    assert (done.code, done.err) == (0, "")
    assert done.out


def test_root_without_capabilities_is_told_what_the_kernel_refuses(box: NetBox) -> None:
    prefix = [*box.command(), "setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    one_sentence(run("left", prefix=prefix), 3)


def test_no_interface_that_is_up() -> None:
    empty = NetBox()
    try:
        one_sentence(run("any", prefix=empty.command()), 3, "no interface is up")
    finally:
        empty.close()


@pytest.mark.parametrize("words", [("left", "--json"), ("demo",)], ids=" ".join)
def test_without_bcc_it_names_the_package(box: NetBox, tmp_path: Path, words: tuple[str, ...]) -> None:
    # a Python that has what pip installs, and not what the distribution does
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    Path(site, "all.pth").write_text(f"{sysconfig.get_path('purelib')}\n{CHECKOUT}\n")
    command = [str(python), "-I", "-m", "tracer"]
    assert subprocess.run([python, "-I", "-c", "import bcc"], capture_output=True).returncode == 1
    one_sentence(run(*words, command=command, prefix=box.command()), 3, "python3-bpfcc")


# --- streams that are closed or full ---

SHELL = ["sh", "-c", 'exec "$@" {}', "sh"]


def redirected(how: str) -> list[str]:
    return [word.replace("{}", how) for word in SHELL]


@pytest.mark.parametrize("form", ["--json", "--text"])
@pytest.mark.parametrize("how", [">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(box: NetBox, form: str, how: str) -> None:
    done = run("left", form, "--duration", "0.5", prefix=[*box.command(), *redirected(how)])
    assert done.code == 0, done
    assert "Traceback" not in done.err
    if "2>&-" not in how:
        assert all(line.startswith("tfotrace: ") for line in done.said)
        assert "handshakes in" in done.err
    if ">&-" in how.replace("2>&-", ""):
        assert done.out == b""
    elif form == "--json":
        assert done.out.count(b"\n") == 2  # start and end


def test_json_of_a_closed_stdout_still_goes_to_the_file(box: NetBox, tmp_path: Path) -> None:
    # nothing else that is opened may take the place of standard output and get what was meant for it
    path = tmp_path / "file"
    done = run("left", "--json", "-w", str(path), "--duration", "0.5", prefix=[*box.command(), *redirected(">&-")])
    assert done.code == 0
    assert path.read_bytes().count(b'"event":"start"') == 1
    assert path.read_bytes().count(b'"event":"end"') == 1


def test_a_file_name_that_is_no_utf_8_is_no_failure(box: NetBox, tmp_path: Path) -> None:
    path = f"{tmp_path}/\udcff"
    done = run("left", "--json", "-w", path, "--duration", "0.2", prefix=box.command())
    assert (done.code, "Traceback" in done.err) == (0, False)
    first, last = [decode(line) for line in done.out.splitlines()]
    assert isinstance(first, Start)
    assert isinstance(last, End)
    assert Path(path).read_bytes() == done.out


@pytest.mark.parametrize("words", [("schema",), ("--help",), ("--version",), ("demo", "--help")], ids=" ".join)
@pytest.mark.parametrize("how", [">&-", ">/dev/full"])
def test_short_commands_with_nowhere_to_write(words: tuple[str, ...], how: str) -> None:
    done = run(*words, prefix=redirected(how))
    assert "Traceback" not in done.err
    assert "Exception" not in done.err
    if how == ">&-":
        assert done.code == 0
    else:
        one_sentence(done, 4, "No space left")


@pytest.mark.parametrize("words", [("schema",), ("--help",)], ids=" ".join)
def test_a_reader_of_a_short_command_that_leaves(words: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as stream:
        done = run(*words, stdout=stream)
    assert (done.code, done.err) == (0, "")


def test_the_command_is_the_one_that_the_start_script_runs() -> None:
    script = (CHECKOUT / "tfotrace").read_text()
    assert "-I -m tracer" in script
    assert COMMAND[1:] == ("-I", "-m", "tracer")
