"""The files of running and killed instances; no attachment is made, so no root is needed."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.leftovers import find_leftovers
from tracer.attach import instances as module
from tracer.attach.clsact import PARENT_INGRESS, FilterKey
from tracer.attach.instances import Instance, instances, remove_leftovers
from tracer.attach.xdp import XdpKey
from tracer.linux import bpfsys, netns
from tracer.linux.proc import boot_id, read_stat

FILTER = FilterKey(4, PARENT_INGRESS, 1, 0x54464F00, 77, "tfotrace-1-2")
XDP = XdpKey(5, 4, 78)


@pytest.fixture(autouse=True)
def loaded_programs(monkeypatch: pytest.MonkeyPatch) -> dict[int, bpfsys.ProgramInfo]:
    """Programs that the kernel has, in place of asking it."""
    loaded = {number: bpfsys.ProgramInfo(3, number, "p", "00", 1000 + number, 0, 0) for number in (77, 78)}
    monkeypatch.setattr(bpfsys, "program_info_by_id", loaded.get)
    return loaded


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Keys that were to be removed."""
    keys: list[object] = []

    def remove(key: object) -> bool:
        keys.append(key)
        return True

    monkeypatch.setattr(module, "_remove_here", remove)
    return keys


def abandon(instance: Instance) -> None:
    """What SIGKILL does: the lock goes, the file stays."""
    os.close(instance._fd)
    instance._fd = -1


def test_a_running_instance_is_listed_and_never_a_leftover(tmp_path: Path, removed: list[object]) -> None:
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    (found,) = instances(tmp_path)
    assert (found.pid, found.running) == (os.getpid(), True)
    assert found.path.name == f"{os.getpid()}-{read_stat(os.getpid())[1]}.json"
    assert found.path.stat().st_mode & 0o777 == 0o600
    (entry,) = found.entries
    assert (entry.key, entry.interface, entry.netns, entry.loaded_ns) == (FILTER, "eth0", netns.current(), 1077)
    assert find_leftovers(tmp_path) == []
    assert remove_leftovers(directory=tmp_path) == []
    assert removed == []
    instance.close()


def test_a_killed_instance_is_a_leftover_and_is_removed(tmp_path: Path, removed: list[object]) -> None:
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    instance.record(XDP, "eth1", 1078)
    abandon(instance)
    (leftover,) = find_leftovers(tmp_path)
    assert [entry.key for entry in leftover.entries] == [FILTER, XDP]
    assert remove_leftovers(directory=tmp_path) == [
        f"removed the tc ingress filter that process {os.getpid()} left on eth0",
        f"removed the XDP program that process {os.getpid()} left on eth1",
    ]
    assert removed == [FILTER, XDP]
    assert list(tmp_path.iterdir()) == []


def test_what_was_struck_is_not_listed(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    for number in range(50):
        instance.record(XdpKey(number, 4, 78), "a-long-interface-name", 1078)
    instance.forget([XdpKey(number, 4, 78) for number in range(49)])
    (found,) = instances(tmp_path)
    assert [entry.key for entry in found.entries] == [XdpKey(49, 4, 78)]
    instance.forget([XdpKey(49, 4, 78)])
    instance.close()
    instance.close()
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_does_not_fit_is_an_error_and_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = Instance(tmp_path)
    with monkeypatch.context() as patch:
        write = os.write
        patch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
        with pytest.raises(OSError, match="No space left"):
            instance.record(FILTER, "eth0", 1077)
    instance.forget([FILTER])
    instance.record(XDP, "eth1", 1078)
    assert [entry.key for found in instances(tmp_path) for entry in found.entries] == [XDP]


def test_a_file_that_cannot_be_made_shorter_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Instance) -> None:
        raise OSError(28, "No space left on device")

    instance = Instance(tmp_path)
    monkeypatch.setattr(Instance, "_write_anew", refuse)
    monkeypatch.setattr(module, "_LINES_MAX", 3)
    for number in range(10):
        instance.record(XdpKey(number, 4, 78), "eth1", 1078)
        instance.forget([XdpKey(number, 4, 78)])
    instance.record(XDP, "eth1", 1078)
    assert [entry.key for found in instances(tmp_path) for entry in found.entries] == [XDP]


def test_closing_with_something_still_listed_keeps_the_file(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    instance.close()
    assert [entry.key for item in find_leftovers(tmp_path) for entry in item.entries] == [FILTER]


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_program_that_is_not_the_same_any_more_is_left_alone(
    tmp_path: Path, removed: list[object], loaded_programs: dict[int, bpfsys.ProgramInfo], change: str
) -> None:
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    abandon(instance)
    if change == "gone":
        del loaded_programs[77]
    else:  # the same id, given out again
        loaded_programs[77] = bpfsys.ProgramInfo(3, 77, "p", "00", 5000, 0, 0)
    assert remove_leftovers(directory=tmp_path) == []
    assert removed == []
    assert list(tmp_path.iterdir()) == []


def test_a_failed_removal_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: object) -> bool:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "_remove_here", refuse)
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    abandon(instance)
    (told,) = remove_leftovers(directory=tmp_path)
    assert told.endswith("left on eth0 could not be removed: Operation not permitted")
    assert len(find_leftovers(tmp_path)) == 1


def test_without_leave_to_look_at_programs_a_filter_goes_by_its_name_and_xdp_stays(
    tmp_path: Path, removed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the systemd unit, which has no CAP_SYS_ADMIN."""

    def refuse(number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(bpfsys, "program_info_by_id", refuse)
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    instance.record(XDP, "eth1", 1078)
    abandon(instance)
    process = f"that process {os.getpid()} left on"
    assert remove_leftovers(directory=tmp_path) == [
        f"removed the tc ingress filter {process} eth0",
        f"the XDP program {process} eth1 may still be there; `sudo tfotrace detach` can check, and removes it",
    ]
    assert removed == [FILTER]
    (leftover,) = find_leftovers(tmp_path)
    assert [entry.key for entry in leftover.entries] == [XDP]


def test_an_earlier_boot_left_nothing(tmp_path: Path, removed: list[object]) -> None:
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    abandon(instance)
    (path,) = tmp_path.iterdir()
    first, *lines = path.read_text().splitlines()
    document = json.loads(first)
    document["boot"] = "00000000-0000-0000-0000-000000000000"
    path.write_text("\n".join([json.dumps(document), *lines]))
    assert find_leftovers(tmp_path) == []
    assert remove_leftovers(directory=tmp_path) == []
    assert (removed, list(tmp_path.iterdir())) == ([], [])


def test_killed_between_writing_and_cutting_the_file_reads_well(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    abandon(instance)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b'tail of a longer version"}]}\n')
    assert len(find_leftovers(tmp_path)) == 1


def test_what_comes_and_goes_does_not_make_the_file_grow(tmp_path: Path) -> None:
    """Thousands of containers: each adds lines, and so does the end of each."""
    instance = Instance(tmp_path)
    for number in range(3000):
        instance.record(XdpKey(number, 4, 78), "eth0", 1078)
    largest = 0
    for number in range(3000, 9000):
        instance.forget([XdpKey(number - 3000, 4, 78)])
        instance.record(XdpKey(number, 4, 78), "eth0", 1078)
        if number % 500 == 0:
            (path,) = tmp_path.iterdir()
            largest = max(largest, path.stat().st_size)
    assert largest < 4_000_000
    (found,) = instances(tmp_path)
    assert found.running
    assert [entry.key for entry in found.entries] == [XdpKey(number, 4, 78) for number in range(6000, 9000)]
    instance.close()


def test_after_an_unfinished_line_the_next_ones_count(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    os.write(instance._fd, b'{"kind": "xdp", "interf')
    instance.record(XDP, "eth1", 1078)
    abandon(instance)
    assert [entry.key for item in find_leftovers(tmp_path) for entry in item.entries] == [FILTER, XDP]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\xff",
        '{"pid": 1}',
        '{"pid": 1, "boot": BOOT, "attachments": [1]}',
        '{"pid": 1, "boot": BOOT, "attachments": [{"kind": "clsact", "key": {"ifindex": "1"}}]}',
        '{"pid": 1, "boot": BOOT, "attachments": [{"kind": "xdp", "interface": "e", "netns": 1, "loaded_ns": 1}]}',
    ],
)
def test_a_damaged_file_removes_nothing_and_is_cleared(tmp_path: Path, removed: list[object], text: str) -> None:
    (tmp_path / "1-2.json").write_text(text.replace("BOOT", json.dumps(boot_id())), encoding="latin-1")
    assert find_leftovers(tmp_path) == []
    assert remove_leftovers(directory=tmp_path) == []
    assert (removed, list(tmp_path.iterdir())) == ([], [])


def test_a_directory_open_to_others_is_not_believed(tmp_path: Path, removed: list[object]) -> None:
    instance = Instance(tmp_path)
    instance.record(FILTER, "eth0", 1077)
    abandon(instance)
    tmp_path.chmod(0o777)
    assert find_leftovers(tmp_path) == []
    assert remove_leftovers(directory=tmp_path) == []
    assert removed == []
    refused = Instance(tmp_path)
    assert refused.warning is not None
    assert refused._fd < 0


def test_without_a_directory_it_goes_on_and_says_so(tmp_path: Path) -> None:
    instance = Instance(tmp_path / "missing" / "run")
    assert instance.warning is not None
    assert "`tfotrace detach` will not find" in instance.warning
    instance.record(FILTER, "eth0", 1077)
    instance.forget([FILTER])
    instance.close()
    assert remove_leftovers(directory=tmp_path / "missing" / "run") == []


def test_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tracer.attach.instances import Instance\n"
        "instance = Instance(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert [(item.pid, item.running) for item in instances(tmp_path)] == [(child.pid, True)]
    finally:
        child.kill()
        child.communicate()
    assert [(item.pid, item.running) for item in instances(tmp_path)] == [(child.pid, False)]
    assert remove_leftovers(directory=tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_seen_under_its_name_without_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked_at_rename = []
    rename = os.rename

    def watched(source: Path, target: Path) -> None:
        with open(source, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked_at_rename.append(False)
            except BlockingIOError:
                locked_at_rename.append(True)
        rename(source, target)

    monkeypatch.setattr(os, "rename", watched)
    Instance(tmp_path).close()
    assert locked_at_rename == [True]


def test_drafts_of_killed_runs_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / f".{ended}-1.json").touch()
    living = tmp_path / f".{os.getpid()}-1.json"
    living.touch()
    other = tmp_path / ".no-draft.json"
    other.touch()
    assert remove_leftovers(directory=tmp_path) == []
    assert sorted(tmp_path.iterdir()) == sorted([living, other])
