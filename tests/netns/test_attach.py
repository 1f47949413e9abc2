"""tc programs on real interfaces, next to and behind other programs."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.support.hooks import (
    BY_DEFAULT,
    FRAMES,
    Own,
    assert_sees_all,
    foreign_filter,
    foreign_tcx,
    needs_tcx,
    state,
    tcx_programs,
)
from tests.support.netbox import NetBox, wait_until
from tests.support.rawprog import SCHED_CLS, TC_ACT_OK, Counting
from tracer.attach import clsact, tcx
from tracer.attach.attach import Hook, HookChoice, Programs, attach
from tracer.attach.instances import Instance
from tracer.errors import CannotTraceError
from tracer.linux import bpfsys, interfaces

pytestmark = pytest.mark.root

TC_CHOICES = [HookChoice.AUTO, HookChoice.CLSACT]


@pytest.mark.parametrize("choice", TC_CHOICES)
def test_tc_sees_each_frame_once_and_leaves_no_trace(
    box: NetBox, own: Own, instance: Instance, choice: HookChoice
) -> None:
    left = interfaces.find("left")
    clsact.ensure_qdisc(left.index, egress=True)  # so that before and after can be the same for clsact
    before = state(box)
    attachment = attach(left, own.programs, choice, instance)
    assert attachment.hook is (Hook.CLSACT if choice is HookChoice.CLSACT else BY_DEFAULT)
    assert (attachment.ifindex, attachment.name) == (left.index, "left")
    assert (attachment.others, attachment.warnings) == ((), ())
    assert attachment.is_intact()
    assert state(box) != before
    assert_sees_all(box, own.ingress, own.egress)
    assert own.xdp.count == 0
    attachment.detach()
    attachment.detach()
    assert not attachment.is_intact()
    assert state(box) == before
    seen = own.ingress.count
    with foreign_filter("left", egress=False) as foreign:
        box.send("right", FRAMES)
        wait_until(lambda: foreign.count == FRAMES, "frames after detach")
    assert own.ingress.count == seen


@needs_tcx
@pytest.mark.parametrize("choice", [HookChoice.AUTO, HookChoice.TC])
def test_auto_and_tc_are_tcx_and_say_why(box: NetBox, own: Own, choice: HookChoice) -> None:
    attachment = attach(interfaces.find("left"), own.programs, choice)
    try:
        assert "TCX links" in attachment.why
        assert ("default" in attachment.why) == (choice is HookChoice.AUTO)
    finally:
        attachment.detach()


def test_tcx_sees_every_frame_behind_a_foreign_tcx_program(box: NetBox, own: Own) -> None:
    with foreign_tcx("left", egress=False) as one, foreign_tcx("left", egress=True) as two:
        before = state(box)
        attachment = attach(interfaces.find("left"), own.programs, HookChoice.AUTO)
        assert_sees_all(box, own.ingress, own.egress)
        assert (one.count, two.count) == (FRAMES, FRAMES)
        assert attachment.others == (
            f'TCX ingress program "foreign" (id {one.id})',
            f'TCX egress program "foreign" (id {two.id})',
        )
        assert attachment.warnings == ()
        attachment.detach()
        assert state(box) == before


@pytest.mark.parametrize("choice", TC_CHOICES)
def test_sees_every_frame_behind_a_foreign_filter_at_priority_one(
    box: NetBox, own: Own, instance: Instance, choice: HookChoice
) -> None:
    with foreign_filter("left", egress=False) as one, foreign_filter("left", egress=True) as two:
        before = state(box)
        attachment = attach(interfaces.find("left"), own.programs, choice, instance)
        assert_sees_all(box, own.ingress, own.egress)
        assert (one.count, two.count) == (FRAMES, FRAMES)
        assert attachment.others == (
            f"tc ingress filter prio 1 bpf foreign (id {one.id})",
            f"tc egress filter prio 1 bpf foreign (id {two.id})",
        )
        assert attachment.warnings == ()
        attachment.detach()
        assert state(box) == before


def test_clsact_behind_a_foreign_tcx_program_warns(box: NetBox, own: Own, instance: Instance) -> None:
    with foreign_tcx("left", egress=False) as foreign:
        attachment = attach(interfaces.find("left"), own.programs, HookChoice.CLSACT, instance)
        assert attachment.warnings == (
            f'TCX ingress program "foreign" (id {foreign.id}) runs before tfotrace on left; '
            "what it drops, redirects or accepts is not traced",
        )
        box.send("right", FRAMES)
        wait_until(lambda: foreign.count == FRAMES, "frames at the foreign program")
        assert own.ingress.count == 0  # the warning is true
        attachment.detach()


def test_a_program_that_comes_later_is_found_by_looking_again(box: NetBox, own: Own) -> None:
    attachment = attach(interfaces.find("left"), own.programs, HookChoice.AUTO)
    with foreign_tcx("left", egress=True, before=True) as foreign:
        assert list(attachment.warnings) == []
        attachment.look_again()
        (warning,) = attachment.warnings
        assert f'TCX egress program "foreign" (id {foreign.id})' in warning
    attachment.detach()


def test_a_filter_of_another_kind_at_priority_one_is_left_and_warned_of(
    box: NetBox, own: Own, instance: Instance
) -> None:
    box.run("tc", "qdisc", "add", "dev", "left", "clsact")
    box.run(
        "tc", "filter", "add", "dev", "left", "ingress", "protocol", "ip", "prio", "1", "u32", "match", "u32", "0", "0"
    )
    before = state(box)
    attachment = attach(interfaces.find("left"), own.programs, HookChoice.CLSACT, instance)
    (warning,) = attachment.warnings
    assert "tc ingress filter prio 1 u32" in warning
    assert_sees_all(box, own.ingress, own.egress)
    attachment.detach()
    assert state(box) == before


@pytest.mark.parametrize("choice", TC_CHOICES)
def test_two_attachments_on_one_interface(box: NetBox, own: Own, tmp_path: Path, choice: HookChoice) -> None:
    second_own = Own()
    instance = Instance(tmp_path)
    left = interfaces.find("left")
    try:
        first = attach(left, own.programs, choice, instance)
        second = attach(left, second_own.programs, choice, instance)
        assert len(second.others) == 2
        assert second.warnings == ()
        assert_sees_all(box, own.ingress, own.egress)
        assert second_own.ingress.count == second_own.egress.count == FRAMES
        first.detach()
        assert second.is_intact()
        assert_sees_all(box, second_own.ingress, second_own.egress)
        assert own.ingress.count == FRAMES
        second.detach()
    finally:
        second_own.close()
        instance.close()


def test_clsact_says_that_an_ingress_qdisc_has_no_egress_side_and_undoes_its_half(
    box: NetBox, own: Own, instance: Instance
) -> None:
    box.run("tc", "qdisc", "add", "dev", "left", "ingress")
    before = state(box)
    with pytest.raises(CannotTraceError, match="ingress"):
        attach(interfaces.find("left"), own.programs, HookChoice.CLSACT, instance)
    assert state(box) == before


def test_somebody_deleting_the_qdisc_is_noticed_and_survived(box: NetBox, own: Own, instance: Instance) -> None:
    attachment = attach(interfaces.find("left"), own.programs, HookChoice.CLSACT, instance)
    box.run("tc", "qdisc", "del", "dev", "left", "clsact")
    assert not attachment.is_intact()
    attachment.detach()


def test_detach_does_not_delete_a_filter_that_took_our_place(box: NetBox, own: Own, instance: Instance) -> None:
    left = interfaces.find("left")
    attachment = attach(left, own.programs, HookChoice.CLSACT, instance)
    (ours,) = clsact.filters(left.index, clsact.PARENT_INGRESS)
    box.run("tc", "filter", "del", "dev", "left", "ingress")
    foreign = Counting.make(SCHED_CLS, TC_ACT_OK, "foreign")
    key = clsact.FilterKey(left.index, ours.parent, ours.priority, ours.handle, foreign.id, "foreign")
    clsact._add(key, foreign.fd)
    attachment.detach()
    assert clsact.exists(key)
    foreign.close()


@pytest.mark.parametrize("refused", ["both", "egress"])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, bpfsys.ENOTSUPP])
def test_without_tcx_auto_takes_clsact_on_both_sides(
    box: NetBox, own: Own, instance: Instance, monkeypatch: pytest.MonkeyPatch, refused: str, code: int
) -> None:
    create = bpfsys.link_create_tcx

    def old_kernel(prog_fd: int, ifindex: int, attach_type: int, before: bool = True) -> int:
        if refused == "both" or attach_type == bpfsys.TCX_EGRESS:
            raise OSError(code, "not here")
        return create(prog_fd, ifindex, attach_type, before)

    monkeypatch.setattr(bpfsys, "link_create_tcx", old_kernel)
    left = interfaces.find("left")
    attachment = attach(left, own.programs, HookChoice.AUTO, instance)
    assert attachment.hook is Hook.CLSACT
    assert "this kernel has no TCX links" in attachment.why
    assert tcx_programs(left.index) == []
    assert_sees_all(box, own.ingress, own.egress)
    attachment.detach()
    with_xdp = attach(left, own.programs, HookChoice.XDP_GENERIC, instance)
    assert with_xdp.hook is Hook.XDP_GENERIC
    assert_sees_all(box, own.xdp, own.egress)
    with_xdp.detach()
    assert clsact.filters(left.index, clsact.PARENT_EGRESS) == []


@needs_tcx
def test_a_failure_at_egress_undoes_ingress(
    box: NetBox, own: Own, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(box)
    programs = Programs(own.ingress.fd, own.xdp.fd, None)  # of the wrong type for egress
    monkeypatch.setattr(tcx, "NOT_HERE", frozenset())
    with pytest.raises(CannotTraceError, match="could not attach to left"):
        attach(interfaces.find("left"), programs, HookChoice.AUTO, instance)
    assert state(box) == before


@needs_tcx
def test_without_the_right_to_it_the_sentence_names_root(
    box: NetBox, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(bpfsys, "link_create_tcx", refuse)
    with pytest.raises(CannotTraceError, match="run tfotrace as root"):
        attach(interfaces.find("left"), own.programs, HookChoice.AUTO)
