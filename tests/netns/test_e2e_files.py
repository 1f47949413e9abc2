"""-w with the real command: rotated, compressed, moved away, on a full disk; a failing file does not affect others."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from tests.support.hosts import WIRE, Hosts, Service
from tests.support.netbox import wait_until
from tests.support.patience import PATIENCE_S
from tests.support.tracing import Record, assert_balanced, decode, tracing
from tests.support.tracing import run as run_to_end
from tracer.records.record import Handshake
from tracer.records.run import End, NoticeRecord, Start

pytestmark = pytest.mark.root


def records(path: Path) -> list[Record]:
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    elif path.suffix == ".gz":
        data = gzip.decompress(data)
    return [decode(line) for line in data.splitlines(keepends=True)]


def ids(found: list[Record]) -> list[str]:
    return [one.id for one in found if isinstance(one, Handshake)]


def part(found: list[Record]) -> int:
    assert isinstance(found[0], Start)
    return found[0].part


def test_rotated_files_hold_everything_and_belong_to_the_user(hosts: Hosts, web: Service) -> None:
    words = [WIRE, "--json", "--netns", hosts.client.name, "--user", "nobody", "--rotate-size", "8K"]
    for name in ("f.jsonl", "f.jsonl.gz", "f.jsonl.zst"):
        words += ["-w", f"{{folder}}/{name}"]
    with tracing(*words) as run:
        for _ in range(20):
            run.wait_port(web.exchange(fast_open=True))
        assert run.stop() == 0
        assert_balanced(run.end)
        for suffix in (".jsonl", ".jsonl.gz", ".jsonl.zst"):
            files = [one for one in run.folder.iterdir() if one.name.endswith(suffix)]
            contents = sorted((records(one) for one in files), key=part)
            assert [part(one) for one in contents] == list(range(1, len(files) + 1))
            assert [id_ for one in contents for id_ in ids(one)] == [one.id for one in run.handshakes]
            assert isinstance(contents[-1][-1], End)
            for one in contents[:-1]:
                last = one[-1]
                assert isinstance(last, NoticeRecord)
                assert last.kind == "continued"
            assert {one.stat().st_uid for one in files} == {65534}
            if suffix == ".jsonl":
                assert len(files) > 3


@pytest.mark.parametrize("words", [[], ["--filter-record", "server.port > 0"]], ids=["all", "filtered"])
def test_sighup_goes_on_in_a_new_file(hosts: Hosts, web: Service, words: list[str]) -> None:
    with tracing(WIRE, "--json", "-w", "{folder}/f.jsonl", "--netns", hosts.client.name, *words) as run:
        path, moved = run.folder / "f.jsonl", run.folder / "f.jsonl.1"
        run.wait_port(web.exchange())
        path.rename(moved)
        os.killpg(run.user_part, signal.SIGHUP)  # to both parts, as a stop script may do
        wait_until(path.exists, "the new file", PATIENCE_S)
        run.wait_port(web.exchange())
        assert run.stop() == 0
        assert (run.end.reason, run.end.exit_code) == ("SIGINT", 0)
        assert_balanced(run.end)
        first, second = records(moved), records(path)
        assert (part(first), part(second)) == (1, 2)
        assert ids(first) + ids(second) == [one.id for one in run.handshakes]
        assert len(ids(first)) == len(ids(second)) == 1
        assert isinstance(second[-1], End)


def test_where_the_new_file_cannot_be_made_it_ends_early(hosts: Hosts, web: Service) -> None:
    words = (WIRE, "--json", "-w", "{folder}/f.jsonl", "--netns", hosts.client.name, "--user", "nobody")
    with tracing(*words) as run:
        run.wait_port(web.exchange())
        (run.folder / "f.jsonl").rename(run.folder / "f.jsonl.1")
        run.folder.chmod(0o755)
        run.process.send_signal(signal.SIGHUP)
        assert run.wait_end() == 4
        told = f"cannot write to {run.folder}/f.jsonl: Permission denied"
        assert (run.end.reason, run.end.exit_code) == (told, 4)
        assert run.said.count(f"tfotrace: {told}") == 1


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["f.jsonl", "f.jsonl.zst"])
def test_a_full_disk_takes_nothing_from_the_others(hosts: Hosts, web: Service, tmp_path: Path, name: str) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        words = (WIRE, "--json", "-w", str(disk / name), "-w", "{folder}/whole.jsonl", "--netns", hosts.client.name)
        with tracing(*words) as run:
            while run.process.poll() is None and len(run.lines) < 3000:
                web.exchange()
            assert run.wait_end() == 4
            told = f"cannot write to {disk / name}: No space left on device"
            assert [line for line in run.said if "cannot write" in line] == [f"tfotrace: {told}"]
            assert run.end.reason == told
            assert_balanced(run.end)
            assert run.end.balance.dropped > 0  # and said: not written everywhere
            assert ids(records(run.folder / "whole.jsonl")) == [one.id for one in run.handshakes]
            assert run.end.totals.handshakes == len(run.handshakes)
            if name == "f.jsonl":
                kept = ids(records(disk / name))
                assert kept == [one.id for one in run.handshakes][: len(kept)]
                assert kept


def test_quiet_says_nothing_on_standard_output(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--quiet", "-w", "{folder}/f.jsonl", "--netns", hosts.client.name, "--count", "1") as run:
        web.exchange()
        assert run.wait_end() == 0
        assert run.lines == []
        assert len(ids(records(run.folder / "f.jsonl"))) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-w", "a.pcap"], "a.pcapng"),
        (["-w", "/tmp/x.jsonl", "-w", "/tmp/../tmp/x.jsonl"], "named twice"),
        (["-w", "/tmp/x.jsonl", "--rotate-keep", "3"], "--rotate-size"),
        (["-w", "/dev/null", "--rotate-size", "1M"], "/dev/null is not a regular file"),
    ],
)
def test_a_wrong_name_is_one_sentence(hosts: Hosts, words: list[str], told: str) -> None:
    run = run_to_end(WIRE, "--json", "--netns", hosts.client.name, *words)
    assert (run.code, run.out) == (2, b"")
    assert told in run.said[-1]
    assert len(run.said) == 1


def test_a_folder_in_the_place_of_a_file_is_a_notice_and_nothing_is_lost(hosts: Hosts, web: Service) -> None:
    words = (WIRE, "--json", "--netns", hosts.client.name, "-w", "{folder}/f.jsonl", "-w", "{folder}/other.jsonl")
    with tracing(*words, "--rotate-size", "1K") as run:
        run.wait_port(web.exchange())
        path = run.folder / "f.jsonl"
        moved = path.rename(run.folder / "moved")
        path.mkdir()
        for _ in range(3):
            run.wait_port(web.exchange())
        assert run.stop() == 0
        assert_balanced(run.end)
        assert path.is_dir()
        path.rmdir()  # nothing was put into it
        files = [moved, *run.folder.glob("f.2*.jsonl")]
        found = [id_ for one in files for id_ in ids(records(one))]
        assert sorted(found) == sorted(one.id for one in run.handshakes)
        assert isinstance(records(moved)[-1], End)
        others = [one for file in run.folder.glob("other.*") for one in records(file)]
        notices = [one.text for one in others if isinstance(one, NoticeRecord)]
        assert len([text for text in notices if "f.jsonl is a folder now" in text]) == 1, notices
