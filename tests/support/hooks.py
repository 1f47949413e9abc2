"""Programs to attach, other programs next to them, and views of both."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.netbox import NetBox, wait_until
from tests.support.rawprog import SCHED_CLS, TC_ACT_OK, TC_ACT_UNSPEC, XDP, XDP_PASS, Counting
from tracer.attach import clsact, tcx, xdp
from tracer.attach.attach import Programs
from tracer.linux import bpfsys, interfaces
from tracer.vocabulary.vocabulary import Hook

FRAMES = 20
LOOPBACK = 1


def _kernel_has_tcx() -> bool:
    try:
        bpfsys.tcx_query(LOOPBACK, bpfsys.TCX_INGRESS)
    except PermissionError:
        return True  # an ordinary user, who runs none of these tests
    except OSError as error:
        if error.errno in tcx.NOT_HERE:
            return False
        raise
    return True


TCX_HERE = _kernel_has_tcx()  # 6.6 and newer
BY_DEFAULT = Hook.TCX if TCX_HERE else Hook.CLSACT  # what auto and tc come to here
needs_tcx = pytest.mark.skipif(not TCX_HERE, reason="this kernel has no TCX (6.6 and newer have)")


def tcx_programs(index: int) -> list[int]:
    """Ids of the TCX programs at ingress, then of those at egress; none where the kernel has no TCX."""
    if not TCX_HERE:
        return []
    return [one for side in (bpfsys.TCX_INGRESS, bpfsys.TCX_EGRESS) for one in bpfsys.tcx_query(index, side)]


def tc_programs(index: int) -> list[object]:
    """TCX programs and clsact filters at either side, whoever's they are."""
    found: list[object] = list(tcx_programs(index))
    for parent in (clsact.PARENT_INGRESS, clsact.PARENT_EGRESS):
        found += clsact.filters(index, parent)
    return found


_GET_LINK_BY_ID, _LINK_DETACH = 30, 34  # of enum bpf_cmd


def detach_links(pid: int) -> None:
    """What `bpftool link detach` does, to all TCX and XDP links that this process holds."""
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        info = Path(f"/proc/{pid}/fdinfo/{name}").read_text(encoding="ascii")
        found = re.search(r"^link_type:\t(?:tcx|xdp)\nlink_id:\t(\d+)$", info, re.MULTILINE)
        if found is not None:
            link = bpfsys._call(_GET_LINK_BY_ID, "=I", int(found[1]))
            try:
                bpfsys._call(_LINK_DETACH, "=I", link)
            finally:
                os.close(link)


class Own:
    """Programs as the root part hands them over, with counters."""

    def __init__(self) -> None:
        self.ingress = Counting.make(SCHED_CLS, TC_ACT_UNSPEC, "own_ingress")
        self.egress = Counting.make(SCHED_CLS, TC_ACT_UNSPEC, "own_egress")
        self.xdp = Counting.make(XDP, XDP_PASS, "own_xdp")
        self.programs = Programs(self.ingress.fd, self.egress.fd, self.xdp.fd)

    def close(self) -> None:
        for program in (self.ingress, self.egress, self.xdp):
            program.close()


@contextmanager
def foreign_tcx(name: str, egress: bool, before: bool = False) -> Iterator[Counting]:
    if not TCX_HERE:
        pytest.skip("no other TCX program can be there: this kernel has no TCX (6.6 and newer have)")
    program = Counting.make(SCHED_CLS, TC_ACT_OK, "foreign")
    side = bpfsys.TCX_EGRESS if egress else bpfsys.TCX_INGRESS
    link = bpfsys.link_create_tcx(program.fd, interfaces.find(name).index, side, before=before)
    try:
        yield program
    finally:
        os.close(link)
        program.close()


@contextmanager
def foreign_filter(name: str, egress: bool) -> Iterator[Counting]:
    """Made by another library, so that both must have understood the kernel alike."""
    from pyroute2 import IPRoute

    program = Counting.make(SCHED_CLS, TC_ACT_OK, "foreign")
    index = interfaces.find(name).index
    with IPRoute() as ipr:
        if not any(q.get_attr("TCA_KIND") == "clsact" for q in ipr.get_qdiscs(index=index)):
            ipr.tc("add", "clsact", index)
        parent = "ffff:fff3" if egress else "ffff:fff2"
        ipr.tc(
            "add-filter",
            "bpf",
            index,
            fd=program.fd,
            name="foreign",
            parent=parent,
            prio=1,
            direct_action=True,
            classid=1,
        )
    try:
        yield program
    finally:
        program.close()


def state(box: NetBox) -> dict[str, Any]:
    """What others can see of the hooks, by their own tools; without counters of use."""
    found: dict[str, Any] = {"qdisc": box.json("tc", "-j", "qdisc", "show"), "net": box.json("bpftool", "-j", "net")}
    for link in interfaces.all_interfaces():
        if link.name in ("left", "right", "lo"):
            for side in ("ingress", "egress"):
                found[f"{link.name} {side}"] = box.json("tc", "-j", "filter", "show", "dev", link.name, side)
            found[f"{link.name} tcx"] = tcx_programs(link.index)
            found[f"{link.name} xdp"] = xdp.programs(link.index)
    return found


def send_both_ways(box: NetBox) -> None:
    box.send("right", FRAMES)
    box.send("left", FRAMES)


def assert_sees_all(box: NetBox, ingress: Counting, egress: Counting) -> None:
    before = ingress.count, egress.count
    send_both_ways(box)
    wait_until(lambda: ingress.count - before[0] >= FRAMES, "every frame at ingress")
    wait_until(lambda: egress.count - before[1] >= FRAMES, "every frame at egress")
    assert (ingress.count - before[0], egress.count - before[1]) == (FRAMES, FRAMES)
