"""What a killed run leaves, and what removes it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.hooks import TCX_HERE, Own, foreign_filter, needs_tcx, state
from tests.support.leftovers import find_leftovers
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S
from tracer.attach import clsact, xdp
from tracer.attach.attach import HookChoice, attach
from tracer.attach.instances import Instance, instances, remove_leftovers
from tracer.linux import bpfsys, interfaces

pytestmark = pytest.mark.root

_CHILD = """
import sys
from pathlib import Path
from tests.support.hooks import Own
from tracer.attach import xdp
from tracer.linux import bpfsys, interfaces
from tracer.attach.attach import HookChoice, attach
from tracer.attach.instances import Instance
instance = Instance(Path(sys.argv[1]))
own = Own()
left = interfaces.find("left")
if sys.argv[2] == "xdp-netlink":
    record = lambda key: instance.record(key, "left", bpfsys.program_info(own.xdp.fd).loaded_ns)
    xdp.XdpAttachment(left.index, own.xdp.fd, bpfsys.XDP_FLAGS_DRV_MODE, record, use_link=False)
else:
    attachment = attach(left, own.programs, HookChoice(sys.argv[2]), instance)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def running(box: NetBox, directory: Path, choice: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(directory), choice],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()


BY_LINK = ["auto", "xdp-native", "xdp-generic"]


@needs_tcx
@pytest.mark.parametrize("choice", BY_LINK)
def test_sigkill_leaves_nothing_where_there_are_links(box: NetBox, tmp_path: Path, choice: str) -> None:
    before = state(box)
    with running(box, tmp_path, choice) as child:
        assert state(box) != before
        kill(child)
    wait_until(lambda: state(box) == before, "the links to vanish")
    assert find_leftovers(tmp_path) == []
    assert remove_leftovers(directory=tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(TCX_HERE, reason="with TCX links nothing is left")
@pytest.mark.parametrize("choice", BY_LINK)
def test_sigkill_leaves_filters_where_there_is_no_tcx(box: NetBox, tmp_path: Path, choice: str) -> None:
    index = interfaces.find("left").index
    clsact.ensure_qdisc(index, egress=True)  # that stays
    before = state(box)
    with running(box, tmp_path, choice) as child:
        assert bool(xdp.programs(index)) == (choice != "auto")
        kill(child)
    wait_until(lambda: xdp.programs(index) == [], "the XDP link to vanish", PATIENCE_S)
    told = remove_leftovers(directory=tmp_path)
    assert told == [
        f"removed the tc {side} filter that process {child.pid} left on left"
        for side in (("ingress", "egress") if choice == "auto" else ("egress",))
    ]
    assert state(box) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ifname", [None, "left"])
def test_filters_of_a_killed_run_are_removed_and_those_of_a_running_one_stay(
    box: NetBox, tmp_path: Path, ifname: str | None
) -> None:
    with ExitStack() as stack:
        stack.enter_context(foreign_filter("left", egress=False))
        before = state(box)
        child = stack.enter_context(running(box, tmp_path, "clsact"))
        assert find_leftovers(tmp_path) == []
        assert remove_leftovers(ifname, tmp_path) == []
        kill(child)
        left_behind = state(box)
        assert left_behind != before
        (leftover,) = find_leftovers(tmp_path)
        assert (leftover.pid, len(leftover.entries)) == (child.pid, 2)

        second = stack.enter_context(running(box, tmp_path, "clsact"))
        assert remove_leftovers("right", tmp_path) == []  # another interface
        told = remove_leftovers(ifname, tmp_path)
        assert told == [
            f"removed the tc {side} filter that process {child.pid} left on left" for side in ("ingress", "egress")
        ]
        names = {f.name for f in clsact.filters(interfaces.find("left").index, clsact.PARENT_INGRESS)}
        assert len(names) == 2
        assert "foreign" in names
        assert any(name.startswith(f"tfotrace-{second.pid}-") for name in names)
        assert [item.pid for item in instances(tmp_path)] == [second.pid]
        kill(second)
        remove_leftovers(directory=tmp_path)
        assert state(box) == before
        assert list(tmp_path.iterdir()) == []


def test_netlink_xdp_of_a_killed_run_is_removed(box: NetBox, tmp_path: Path) -> None:
    with running(box, tmp_path, "xdp-netlink") as child:
        kill(child)
    index = interfaces.find("left").index
    assert len(xdp.programs(index)) == 1
    assert remove_leftovers(directory=tmp_path) == [f"removed the XDP program that process {child.pid} left on left"]
    assert xdp.programs(index) == []


def test_a_leftover_in_another_namespace_is_reached_by_its_name(tmp_path: Path) -> None:
    box = NetBox()
    try:
        box.make_pair()
        with box.inside():
            with running(box, tmp_path, "clsact") as child:
                kill(child)
            index = interfaces.find("left").index
        assert remove_leftovers("lo", tmp_path) == []  # this namespace only
        assert len(find_leftovers(tmp_path)) == 1
        told = remove_leftovers(directory=tmp_path)
        assert len(told) == 2
        assert all(sentence.startswith("removed the tc ") for sentence in told)
        with box.inside():
            assert clsact.filters(index, clsact.PARENT_INGRESS) == []
    finally:
        box.close()


def test_a_leftover_out_of_reach_is_left_and_told_and_forgotten_once_its_program_has_gone(tmp_path: Path) -> None:
    box = NetBox()
    try:
        box.make_pair()
        with box.inside():
            with running(box, tmp_path, "clsact") as child:
                kill(child)
            # the namespace lives on by this descriptor only, which no other process could find by name
            keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    finally:
        box.close()
    (leftover,) = find_leftovers(tmp_path)
    told = remove_leftovers(directory=tmp_path)
    assert len(told) == 2
    assert all("cannot be reached from here" in sentence for sentence in told)
    assert find_leftovers(tmp_path) == [leftover]
    keeper.close()
    program_ids = [entry.key.program_id for entry in leftover.entries]
    wait_until(
        lambda: not any(map(bpfsys.program_info_by_id, program_ids)), "the namespace's filters to go", PATIENCE_S
    )
    assert remove_leftovers(directory=tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_clean_end_leaves_no_file(box: NetBox, own: Own, tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    attachment = attach(interfaces.find("left"), own.programs, HookChoice.CLSACT, instance)
    (path,) = tmp_path.iterdir()
    (listed,) = [one.entries for one in instances(tmp_path)]
    names = [entry.key.name for entry in listed if isinstance(entry.key, clsact.FilterKey)]
    assert names == [instance.filter_name] * 2
    assert path.stat().st_mode & 0o777 == 0o600
    attachment.detach()
    instance.close()
    assert list(tmp_path.iterdir()) == []
