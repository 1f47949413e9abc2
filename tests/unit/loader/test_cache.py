"""What is cached of a compilation, when it is used, and what its key depends on. No root, no compiler, no kernel."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tracer.attach import instances
from tracer.linux import bpfsys
from tracer.loader import artifact as module
from tracer.loader import cache, load
from tracer.loader.artifact import Artifact, NotKeepableError, Program, take
from tracer.loader.cache import KEPT, fetch, key, store

HASH_KEY = 0x9E3779B97F4A7C15
NAME = "0" * 64
SAMPLE = Artifact(
    [Program("tc_ingress", 3, bytes(range(64)), [(0, 0)], [2])],
    [bpfsys.MapInfo(2, 0, 4, 2888, 8192, 0, "flows", 0, 1, 19)],
    b"\x9f\xebtypes",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where artifacts are kept; not there yet, as after a boot."""
    return tmp_path / "run" / "programs"


@pytest.fixture
def kept(folder: Path) -> Path:
    """The file of one kept artifact."""
    store(NAME, SAMPLE, folder)
    (path,) = folder.iterdir()
    return path


# --- files ---


def test_what_was_kept_comes_back(folder: Path) -> None:
    assert fetch(NAME, folder) is None
    store(NAME, SAMPLE, folder)
    assert fetch(NAME, folder) == SAMPLE
    assert fetch("1" * 64, folder) is None


def test_nobody_else_may_read_it(kept: Path) -> None:
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700


def test_it_lies_where_instances_are_listed() -> None:
    assert cache.DIRECTORY.parent == instances.RUN_DIR


def change_byte(position: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(data)

    return change


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def move_and_link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to("elsewhere")


def move_folder_and_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")


def move_run_and_link(path: Path) -> None:
    run = path.parent.parent
    run.rename(run.with_name("elsewhere"))
    run.symlink_to("elsewhere")


def become_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def be_someone_elses(path: Path) -> None:
    path.write_bytes(cache._encode("1" * 64, SAMPLE))


HARM: dict[str, Callable[[Path], None]] = {
    "first byte of the checksum": change_byte(0),
    "first byte of the content": change_byte(32),
    "last byte": change_byte(-1),
    "empty": cut(0),
    "shorter than the checksum": cut(31),
    "checksum only": cut(32),
    "cut": cut(100),
    "longer": lengthen,
    "kept under another key": be_someone_elses,
    "open to the world": lambda path: path.chmod(0o602),
    "open to the group": lambda path: path.chmod(0o660),
    "readable by others": lambda path: path.chmod(0o604),
    "a link": move_and_link,
    "a pipe": become_pipe,
    "a folder": become_folder,
    "in a folder that is open": lambda path: path.parent.chmod(0o711),
    "below a folder that is open": lambda path: path.parent.parent.chmod(0o777),
    "in a folder that is a link": move_folder_and_link,
    "below a folder that is a link": move_run_and_link,
}


@pytest.mark.parametrize("what", HARM)
def test_what_is_odd_is_not_believed(kept: Path, what: str) -> None:
    assert fetch(NAME, kept.parent) == SAMPLE
    HARM[what](kept)
    assert fetch(NAME, kept.parent) is None


def test_another_users_file_is_not_believed(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    def owned_by_another(fd: int) -> os.stat_result:
        status = real(fd)
        if not os.path.samestat(status, kept.stat()):
            return status
        values = list(status)
        values[4] += 1  # st_uid
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", owned_by_another)
    assert fetch(NAME, kept.parent) is None


def test_another_users_folder_is_not_believed(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    assert fetch(NAME, kept.parent) is None
    with pytest.raises(PermissionError):
        store(NAME, SAMPLE, kept.parent)


@pytest.mark.parametrize("what", ["empty", "last byte", "open to the world", "a link", "a pipe"])
def test_what_is_not_believed_is_replaced(kept: Path, what: str) -> None:
    HARM[what](kept)
    store(NAME, SAMPLE, kept.parent)
    assert fetch(NAME, kept.parent) == SAMPLE


def test_a_link_is_replaced_and_never_written_through(kept: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    kept.unlink()
    kept.symlink_to(victim)
    store(NAME, SAMPLE, kept.parent)
    assert victim.read_text() == "precious"
    assert not kept.is_symlink()


@pytest.mark.parametrize("what", ["in a folder that is open", "in a folder that is a link"])
def test_nothing_is_kept_where_others_may_write(kept: Path, what: str) -> None:
    HARM[what](kept)
    with pytest.raises(OSError, match=r"others|directory|symbolic"):
        store("1" * 64, SAMPLE, kept.parent)


def test_the_oldest_go(folder: Path) -> None:
    names = [f"{number:064}" for number in range(KEPT + 3)]
    for age, name in enumerate(names):
        store(name, SAMPLE, folder)
        (path,) = folder.glob(f"{name}*")
        os.utime(path, (1000 + age, 1000 + age))
    # the one written last was the newest at the time; the drafts of killed runs count as files
    assert [name for name in names if fetch(name, folder)] == names[3:]
    (folder / ".1-draft").write_bytes(b"")
    os.utime(folder / ".1-draft", (1, 1))
    store(names[-1], SAMPLE, folder)
    assert not (folder / ".1-draft").exists()


def test_writers_at_once_leave_one_whole_file(folder: Path) -> None:
    variants = [Artifact(SAMPLE.programs, SAMPLE.maps, bytes([number]) * 200_000) for number in range(3)]
    store(NAME, variants[0], folder)
    failures: list[object] = []

    def write(variant: Artifact) -> None:
        try:
            for _ in range(20):
                store(NAME, variant, folder)
                if fetch(NAME, folder) not in variants:
                    failures.append("a file that nobody wrote")
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=write, args=(variant,)) for variant in variants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(list(folder.iterdir())) == 1


# --- the key ---


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Something to compile."""
    path = tmp_path / "bpf"
    (path / "include").mkdir(parents=True)
    (path / "main.c").write_text("int f;")
    (path / "include" / "a.h").write_text("int a;")
    return path


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python module that must not be imported."""
    path = tmp_path / "modules" / "imaginary_compiler.py"
    path.parent.mkdir()
    path.write_text("raise AssertionError('imported')\n")
    monkeypatch.syspath_prepend(path.parent)
    return path


def key_of(sources: Path, flags: tuple[str, ...] = ("-DA=1", "-DB")) -> str | None:
    return key(sources, flags, ("tc_ingress",), compiler="imaginary_compiler")


def test_the_key_is_the_same_from_run_to_run(sources: Path, compiler: Path) -> None:
    first = key_of(sources)
    assert first is not None
    assert len(first) == 64
    assert key_of(sources) == first


CHANGES: dict[str, Callable[[Path], object]] = {
    "source": lambda path: (path / "main.c").write_text("int g;"),
    "header": lambda path: (path / "include" / "a.h").write_text("int b;"),
    "new file": lambda path: (path / "b.h").write_text(""),
    "renamed file": lambda path: (path / "main.c").rename(path / "other.c"),
    "lost file": lambda path: (path / "include" / "a.h").unlink(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_other_sources_are_another_key(sources: Path, compiler: Path, what: str) -> None:
    before = key_of(sources)
    CHANGES[what](sources)
    assert key_of(sources) not in (before, None)


def test_other_flags_are_another_key(sources: Path, compiler: Path) -> None:
    flags = [("-DA=1", "-DB"), ("-DA=2", "-DB"), ("-DA=1",), ("-DA=1-DB",), ("-DB", "-DA=1"), ()]
    assert len({key_of(sources, one) for one in flags}) == len(flags)


def test_another_compiler_is_another_key(sources: Path, compiler: Path) -> None:
    before = key_of(sources)
    os.utime(compiler, (1000, 1000))
    after = key_of(sources)
    compiler.write_text("raise AssertionError('never imported')\n")
    os.utime(compiler, (1000, 1000))
    assert len({before, after, key_of(sources)}) == 3


def test_without_the_compiler_nothing_is_kept(sources: Path) -> None:
    assert key(sources, (), (), compiler="a_module_that_is_nowhere") is None


def test_another_kernel_is_another_key(sources: Path, compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.uname()
    keys = {key_of(sources)}
    for position in (2, 3, 4):  # release, version, machine
        fields = list(here)
        fields[position] += "x"
        monkeypatch.setattr(os, "uname", lambda fields=fields: os.uname_result(fields))
        keys.add(key_of(sources))
    assert len(keys) == 4


def test_the_hash_key_is_no_part_of_the_flags_that_count() -> None:
    options = load.LoadOptions()
    assert options.flags() == options.flags()
    assert [flag for flag in options.flags(HASH_KEY) if flag not in options.flags()] == [
        "-DHASH_KEY=0x9e3779b97f4a7c15ULL"
    ]


# --- taking ---


def constant(value: int, source: int = 0, register: int = 1) -> bytes:
    low, high = value & 0xFFFFFFFF, value >> 32
    return struct.pack("<BBhIBBhI", 0x18, source << 4 | register, 0, low, 0, 0, 0, high)


def call(number: int, source: int = 0) -> bytes:
    return struct.pack("<BBhI", 0x85, source << 4, 0, number)


EXIT = struct.pack("<BBhI", 0x95, 0, 0, 0)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps 5 and 6, which share their types."""

    def map_info(fd: int) -> bpfsys.MapInfo:
        if fd not in (5, 6):
            raise OSError(9, "bad descriptor")
        return bpfsys.MapInfo(2, 100 + fd, 4, 8, 1, 0, f"map{fd}", 77, 1, fd)

    monkeypatch.setattr(bpfsys, "map_get_info", map_info)
    monkeypatch.setattr(bpfsys, "btf_by_id", lambda number: f"btf {number}".encode())


def taken(code: bytes) -> Artifact:
    return take({"p": (3, code)}, {"named": 5}, HASH_KEY)


def test_descriptors_and_the_hash_key_are_left_open(kernel: None) -> None:
    code = (
        constant(6, 1) + constant(HASH_KEY) + constant(1 << 40) + constant(5, 1) + call(1) + constant(HASH_KEY) + EXIT
    )
    found = taken(code)
    (program,) = found.programs
    assert program.maps == [(0, 1), (6, 0)]
    assert program.keys == [2, 9]
    assert [(one.name, one.btf_value_type) for one in found.maps] == [("named", 5), ("map6", 6)]
    assert found.btf == b"btf 77"
    assert struct.pack("<I", HASH_KEY & 0xFFFFFFFF) not in program.code
    assert struct.pack("<I", HASH_KEY >> 32) not in program.code
    other = HASH_KEY ^ 0xFFFF0000FFFF0000
    completed = module._completed(program, [21, 22], other)
    assert completed == (
        constant(22, 1) + constant(other) + constant(1 << 40) + constant(21, 1) + call(1) + constant(other) + EXIT
    )


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(constant(HASH_KEY) + constant(7, 1), id="no map of ours"),
        pytest.param(constant(HASH_KEY) + constant(5, 2), id="value of a map"),
        pytest.param(constant(HASH_KEY) + call(8, 1), id="call of a function"),
        pytest.param(constant(HASH_KEY) + call(8, 2), id="call of a kernel function"),
        pytest.param(constant(HASH_KEY) + constant(5, 1)[:8], id="cut"),
        pytest.param(
            constant(HASH_KEY) + struct.pack("<BBhI", 0xB4, 1, 0, HASH_KEY & 0xFFFFFFFF), id="the key in pieces"
        ),
        pytest.param(constant(5, 1) + EXIT, id="no key at all"),
    ],
)
def test_what_cannot_be_loaded_again_is_not_kept(kernel: None, code: bytes) -> None:
    with pytest.raises((NotKeepableError, OSError)):
        taken(code)


@pytest.mark.parametrize("place", [-1, 1, 2, 3, 100])
def test_nothing_is_put_where_no_constant_is(place: int) -> None:
    program = Program("p", 3, constant(1) + EXIT + EXIT, [], [place])
    with pytest.raises(ValueError, match="no constant"):
        module._completed(program, [], HASH_KEY)
