"""Names of cgroups, owners of sockets, and batches that wait for answers."""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.rows import random_batch
from tracer.handshake.batch import Batch
from tracer.handshake.owners import processes
from tracer.ipc.messages import OwnerAnswer, OwnerQuestion, SocketOwner
from tracer.linux.btf import Btf, BtfError
from tracer.linux.cgroup import name_from_proc, name_of_path
from tracer.linux.proc import read_name_and_uid
from tracer.records.ends import Process
from tracer.root.socket_owners import LAST_NUMBER, Holder, OwnerFinder, Scan, choose
from tracer.run.socket_owners import HOLD_S, OwnerLookup

ID = "3f" * 32


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", None),
        ("/../..", None),
        ("/init.scope", "init.scope"),
        ("/system.slice/nginx.service", "nginx.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-web-7.scope", "app-web-7.scope"),
        (f"/system.slice/docker-{ID}.scope", f"docker-{ID}.scope"),
        (f"/system.slice/docker-{ID}.scope/init.scope", f"docker-{ID}.scope"),
        (f"/docker/{ID}", f"docker/{ID}"),
        (f"/machine.slice/libpod-{ID}.scope/container", f"libpod-{ID}.scope"),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", f"cri-containerd-{ID}.scope"),
        (f"/kubepods/burstable/pod1/{ID}", f"pod1/{ID}"),
        ("/lxc.payload.web/system.slice/nginx.service", "lxc.payload.web"),
        ("/lxc/web", "lxc/web"),
        ("/system.slice/foo.service/worker", "foo.service"),
        ("/mine/deeper", "deeper"),
    ],
)
def test_what_a_cgroups_path_says(path: str, name: str | None) -> None:
    assert name_of_path(path) == name


def test_the_v2_hierarchy_comes_before_systemds_own_and_others_say_nothing() -> None:
    assert name_from_proc("4:memory:/a\n1:name=systemd:/b.service\n0::/c.service\n") == "c.service"
    assert name_from_proc("4:memory:/a\n1:name=systemd:/b.service\n0::/\n") == "b.service"
    assert name_from_proc("4:memory:/a\nnonsense\n") is None


def holder(pid: int) -> Holder:
    return Holder(pid, 0, 1, 3)


@pytest.mark.parametrize(
    ("pids", "parents", "chosen"),
    [
        ([], {}, None),
        ([7], {7: 1}, 7),
        ([7, 8, 9], {7: 1, 8: 7, 9: 7}, 7),
        ([7, 9], {7: 1, 8: 7, 9: 8}, 7),  # by way of one that closed it
        ([8, 9], {7: 1, 8: 7, 9: 7}, None),  # siblings
        ([8, 9], {8: 1, 9: 1}, None),
        ([1, 8], {8: 1}, 8),  # handed over by the service manager
        ([1], {}, 1),
        ([8, 9], {8: 9, 9: 8}, None),  # a pid was taken again while /proc was read
    ],
)
def test_whose_socket_it_is(pids: list[int], parents: dict[int, int], chosen: int | None) -> None:
    found = choose(map(holder, pids), parents)
    assert (found.pid if found else None) == chosen


def test_the_uid_is_the_effective_one(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "comm").write_text("x\n")
    (tmp_path / "7" / "status").write_text("Name:\tx\nUid:\t1\t2\t3\t4\n")
    assert read_name_and_uid(7, str(tmp_path)) == ("x", 2)
    (tmp_path / "7" / "status").write_text("Name:\tx\n")
    with pytest.raises(ValueError, match="no uid"):
        read_name_and_uid(7, str(tmp_path))


def answers(finder: OwnerFinder) -> list[OwnerAnswer]:
    deadline = time.monotonic() + 30
    found: list[OwnerAnswer] = []
    while not found:
        assert time.monotonic() < deadline
        found = finder.advance()
    return found


def test_a_socket_of_this_process_is_found_and_asked_about_again() -> None:
    finder = OwnerFinder()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = os.fstat(listener.fileno()).st_ino
        assert finder.ask(1, [number], []) == OwnerAnswer(1, [], {})
        (answer,) = answers(finder)
        (owner,) = answer.sockets
        assert (answer.number, owner.socket, owner.pid, owner.uid) == (1, number, os.getpid(), os.geteuid())
        assert finder.ask(2, [number], []).sockets == [owner]  # at once
        assert finder.last_word() == OwnerAnswer(LAST_NUMBER, [owner], {})
    assert finder.ask(3, [number], []).sockets == []  # closed: to be looked for again
    (answer,) = answers(finder)
    assert answer.sockets == [SocketOwner(number)]
    assert finder.ask(4, [number], []).sockets == [SocketOwner(number)]  # not again within a second
    finder.close()


def test_a_scan_goes_on_in_slices() -> None:
    with socket.socket() as mine:
        number = os.fstat(mine.fileno()).st_ino
        scan = Scan([number])
        slices = 1
        while not scan.advance(0):
            slices += 1
        assert slices > 1
        found = scan.owner(number)
        assert found is not None
        assert found.pid == os.getpid()


# --- the desk ---


def batch(client: int, server: int, pid: int = 0, cgroup: int = 0) -> Batch:
    one = random_batch(1, 3)
    one.events["client_socket"] = client
    one.events["server_socket"] = server
    one.events["client_process"] = 0
    one.events["client_process"]["pid"] = pid
    one.events["client_process"]["uid"] = 5
    one.events["client_process"]["cgroup"] = cgroup
    one.events["client_process"]["name"][:, :4] = list(b"curl") if pid else 0
    return replace(one, owners=None)


NGINX = SocketOwner(9, 70, "nginx", 0, "nginx.service")


def test_a_batch_waits_for_an_answer_that_is_younger_than_itself() -> None:
    asked: list[OwnerQuestion] = []
    desk = OwnerLookup(asked.append)
    desk.admit(batch(0, 9), 10.0)
    assert desk.release(10.0) == []
    assert asked == [OwnerQuestion(1, [9], [])]
    desk.answered(OwnerAnswer(1, [NGINX], {}))
    (first,) = desk.release(10.01)
    assert processes(first, {})[1] == [Process(70, "nginx", 0, "nginx.service")] * 3
    desk.admit(batch(0, 9), 11.0)
    assert desk.release(11.0) == []  # what was so before is asked again
    (late,) = desk.release(11.0 + HOLD_S)
    assert processes(late, {}) == ([None] * 3, [None] * 3)
    desk.answered(OwnerAnswer(2, [NGINX], {}))  # too late
    desk.admit(batch(0, 9), 12.0)
    assert desk.release(12.0) == []
    assert not desk._answers  # nobody waits for those of before
    desk.answered(OwnerAnswer(3, [NGINX], {}))
    assert len(desk.release(12.01)) == 1
    assert not desk._answers


def test_batches_keep_their_order_and_what_waits_for_nothing_passes() -> None:
    desk = OwnerLookup(lambda _: None)
    plain, waiting = batch(0, 0), batch(8, 0)
    desk.admit(plain, 1.0)
    assert desk.release(1.0) == [plain]
    desk.admit(waiting, 2.0)
    desk.admit(plain, 2.0)
    assert desk.release(2.0) == []
    assert [len(one) for one in desk.release(2.0, everything=True)] == [3, 3]


def test_who_the_kernel_named_is_not_asked_about_but_for_the_cgroup() -> None:
    asked: list[OwnerQuestion] = []
    desk = OwnerLookup(asked.append)
    desk.admit(batch(8, 0, pid=44, cgroup=77), 1.0)
    desk.release(1.0)
    assert asked == [OwnerQuestion(1, [], [77])]
    desk.answered(OwnerAnswer(1, [], {77: "a.scope"}))
    (found,) = desk.release(1.0)
    assert processes(found, desk.cgroups)[0] == [Process(44, "curl", 5, "a.scope")] * 3


def test_at_the_end_only_the_last_word_counts() -> None:
    asked: list[OwnerQuestion] = []
    desk = OwnerLookup(asked.append)
    desk.close(1.0)
    desk.admit(batch(0, 9), 1.0)
    assert desk.release(1.0) == []
    assert asked == []
    desk.answered(OwnerAnswer(LAST_NUMBER, [NGINX], {}))
    (found,) = desk.release(1.0, everything=True)
    assert processes(found, {})[1][0] == Process(70, "nginx", 0, "nginx.service")


# --- BTF ---


def btf(types: bytes, strings: bytes) -> bytes:
    return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


def test_offsets_are_found_within_unnamed_unions() -> None:
    strings = b"\0a\0b\0outer\0"  # a = 1, b = 3, outer = 5
    types = struct.pack("=IIII", 1, 1 << 24, 4, 32)  # 1: int a
    types += struct.pack("=III", 0, 5 << 24 | 1, 4) + struct.pack("=III", 3, 1, 0)  # 2: union { int b; }
    types += struct.pack("=III", 5, 4 << 24 | 2, 12) + struct.pack("=IIIIII", 1, 1, 0, 0, 2, 64)  # 3: struct outer
    found = Btf(btf(types, strings))
    assert (found.offset("outer", "a"), found.offset("outer", "b"), found.size("outer")) == (0, 8, 12)
    with pytest.raises(BtfError, match="no member c"):
        found.offset("outer", "c")
    with pytest.raises(BtfError, match="struct inner"):
        found.offset("inner", "a")


@pytest.mark.parametrize("data", [b"", b"\0" * 40, btf(b"", b"\0")[:10]])
def test_what_is_no_btf(data: bytes) -> None:
    with pytest.raises(BtfError):
        Btf(data)
