"""XDP programs on real interfaces, and tc if another program has the place."""

from __future__ import annotations

import pytest

from tests.support.hooks import BY_DEFAULT, TCX_HERE, Own, assert_sees_all, state
from tests.support.netbox import NetBox
from tests.support.rawprog import XDP, XDP_PASS, Counting
from tracer.attach import clsact, xdp
from tracer.attach.attach import Hook, HookChoice, Programs, attach
from tracer.linux import bpfsys, interfaces

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("choice", "hook", "level"),
    [
        (HookChoice.XDP, Hook.XDP_NATIVE, "driver"),
        (HookChoice.XDP_NATIVE, Hook.XDP_NATIVE, "driver"),
        (HookChoice.XDP_GENERIC, Hook.XDP_GENERIC, "generic"),
    ],
)
def test_xdp_ingress_with_tc_egress(box: NetBox, own: Own, choice: HookChoice, hook: Hook, level: str) -> None:
    left = interfaces.find("left")
    if not TCX_HERE:
        clsact.ensure_qdisc(left.index, egress=True)  # that stays
    before = state(box)
    attachment = attach(left, own.programs, choice)
    assert attachment.hook is hook
    assert [program.level for program in xdp.programs(left.index)] == [level]
    assert_sees_all(box, own.xdp, own.egress)
    assert own.ingress.count == 0
    attachment.detach()
    attachment.detach()
    assert state(box) == before


@pytest.mark.parametrize("flags", [bpfsys.XDP_FLAGS_DRV_MODE, bpfsys.XDP_FLAGS_SKB_MODE])
def test_xdp_by_netlink_as_on_older_kernels(box: NetBox, own: Own, flags: int) -> None:
    index = interfaces.find("left").index
    announced: list[xdp.XdpKey] = []
    piece = xdp.XdpAttachment(index, own.xdp.fd, flags, announced.append, use_link=False)
    assert announced == [piece.key]
    assert piece.is_intact()
    second = Counting.make(XDP, XDP_PASS, "second")
    with pytest.raises(xdp.XdpTakenError):
        xdp.XdpAttachment(index, second.fd, flags, announced.append, use_link=False)
    second.close()
    piece.detach()
    piece.detach()
    assert xdp.programs(index) == []


def test_netlink_xdp_detach_leaves_a_program_that_took_our_place(box: NetBox, own: Own) -> None:
    index = interfaces.find("left").index
    flags = bpfsys.XDP_FLAGS_DRV_MODE
    piece = xdp.XdpAttachment(index, own.xdp.fd, flags, lambda key: None, use_link=False)
    foreign = Counting.make(XDP, XDP_PASS, "foreign")
    xdp._set(index, foreign.fd, flags)
    piece.detach()
    assert [program.program_id for program in xdp.programs(index)] == [foreign.id]
    foreign.close()


@pytest.mark.parametrize("choice", [HookChoice.AUTO, HookChoice.XDP, HookChoice.XDP_NATIVE, HookChoice.XDP_GENERIC])
@pytest.mark.parametrize("by_link", [True, False])
def test_a_foreign_xdp_program_keeps_its_place(box: NetBox, own: Own, choice: HookChoice, by_link: bool) -> None:
    left = interfaces.find("left")
    foreign = Counting.make(XDP, XDP_PASS, "foreign")
    piece = xdp.XdpAttachment(left.index, foreign.fd, bpfsys.XDP_FLAGS_DRV_MODE, lambda key: None, use_link=by_link)
    there = [xdp.XdpProgram(foreign.id, "driver")]
    attachment = attach(left, own.programs, choice)
    assert attachment.hook is BY_DEFAULT
    words = f'XDP program "foreign" (id {foreign.id}) at driver level'
    if choice is not HookChoice.AUTO:
        assert f"tc instead of {choice.value}, because {words} is there already" in attachment.why
    assert attachment.others == (words,)
    assert attachment.warnings[0].startswith(f"{words} runs before tfotrace on left")
    assert xdp.programs(left.index) == there
    assert_sees_all(box, own.ingress, own.egress)
    attachment.detach()
    assert xdp.programs(left.index) == there
    piece.detach()
    foreign.close()


def test_without_an_xdp_program_tc_is_taken(box: NetBox, own: Own) -> None:
    programs = Programs(own.ingress.fd, own.egress.fd, None)
    attachment = attach(interfaces.find("left"), programs, HookChoice.XDP)
    assert attachment.hook is BY_DEFAULT
    assert "no XDP program" in attachment.why
    attachment.detach()
