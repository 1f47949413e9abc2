"""Functions by address, in a file like /proc/kallsyms and in the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tracer.linux.kallsyms import KALLSYMS, Known, Lookup, is_open

LINES = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000100 T first
ffffffff81000200 D some_data
ffffffff81000300 t second.isra.0
ffffffff81000400 T third
ffffffffc0000100 t in_a_module\t[nf_tables]
ffffffffc0000050 t before_it\t[nf_tables]
"""


def named(path: Path, *addresses: int) -> dict[int, str | None]:
    lookup = Lookup(addresses, path)
    assert not any(lookup.steps())
    return lookup.names


@pytest.fixture
def symbols(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text(LINES)
    return path


def test_an_address_lies_in_the_function_that_begins_before_it(symbols: Path) -> None:
    assert is_open(symbols)
    assert named(
        symbols, 0xFFFFFFFF81000100, 0xFFFFFFFF81000350, 0xFFFFFFFF810002FF, 0xFFFFFFFF81000500, 0xFFFFFFFFC0000123,
        0xFFFFFFFFC0000060,
    ) == {
        0xFFFFFFFF81000100: "first",
        0xFFFFFFFF810002FF: "first",  # data is no function
        0xFFFFFFFF81000350: "second",  # without the compiler's suffix
        0xFFFFFFFF81000500: "third",
        0xFFFFFFFFC0000060: "before_it",  # modules are not sorted
        0xFFFFFFFFC0000123: "in_a_module",
    }  # fmt: skip


def test_one_alone_and_none(symbols: Path) -> None:
    assert named(symbols, 0xFFFFFFFF81000100) == {0xFFFFFFFF81000100: "first"}
    assert named(symbols, 0x1000) == {0x1000: None}
    assert named(symbols) == {}


def test_a_closed_file_names_nothing(tmp_path: Path) -> None:
    closed = tmp_path / "kallsyms"
    closed.write_text("".join(f"{0:016x}{line[16:]}\n" for line in LINES.splitlines()))
    assert not is_open(closed)
    assert not is_open(tmp_path / "missing")
    assert named(closed, 0xFFFFFFFF81000100) == {0xFFFFFFFF81000100: None}


def test_known_functions_end_where_the_next_one_begins(symbols: Path) -> None:
    known = Known(["first", "second", "before_it", "third", "missing"], symbols)
    assert known.find(0xFFFFFFFF81000100) is None  # not read yet
    assert not any(known.steps())
    for address, name in {
        0xFFFFFFFF810000FF: None,
        0xFFFFFFFF81000100: "first",
        0xFFFFFFFF810002FF: "first",
        0xFFFFFFFF81000300: "second",
        0xFFFFFFFFC00000FF: "before_it",
        0xFFFFFFFFC0000100: None,
    }.items():
        assert known.find(address) == name


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel hides addresses from others")
def test_the_real_one() -> None:
    if not is_open():
        pytest.skip("this kernel hides its addresses")
    with KALLSYMS.open() as file:
        at = next(int(line.split()[0], 16) for line in file if line.split()[2] == "tcp_v4_rcv")
    assert named(KALLSYMS, at + 5) == {at + 5: "tcp_v4_rcv"}


@pytest.mark.parametrize(
    "damaged", ["ffff", "ffffffff81000050 ", "ffffffff81000050 t", "ffffffff8100zzzz t odd", "\x00" * 40, "x" * 60]
)
def test_damaged_lines_are_left_out(symbols: Path, damaged: str) -> None:
    symbols.write_text(f"{damaged}\n{LINES}{damaged}")
    assert named(symbols, 0xFFFFFFFF81000100) == {0xFFFFFFFF81000100: "first"}
    known = Known(["first", "odd"], symbols)
    assert not any(known.steps())
    assert known.find(0xFFFFFFFF81000101) == "first"
