"""What is tried again, when, and what is told of it; attaching itself is tests/netns/test_many_interfaces.py's."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from tracer.attach.attach import Attachment, Hook, InterfaceGoneError
from tracer.attach.instances import Instance
from tracer.errors import CannotTraceError
from tracer.ipc.messages import INTERFACES_TOLD, InterfacesChanged, Notice
from tracer.linux.interfaces import Follower, Interface
from tracer.loader.load import LoadOptions
from tracer.records.interface_sums import InterfaceSums
from tracer.root import interfaces as module
from tracer.root.interfaces import LAST_RETRY_S, MANY, Interfaces
from tracer.root.kernel import Kernel
from tracer.root.request import RootRequest
from tracer.vocabulary.vocabulary import HookChoice

ETHER = 1


@dataclass
class FakeAttachment:
    """An attachment that somebody may remove."""

    name: str
    hook: Hook = Hook.CLSACT
    why: str = "because"
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    intact: bool = True

    def is_intact(self) -> bool:
        return self.intact

    def detach(self) -> None:
        self.intact = False


@dataclass
class Host:
    """Interfaces, those that refuse with which sentence, the time, and a kernel that notes what it traces."""

    there: dict[int, Interface]
    refusing: dict[int, str] = field(default_factory=dict)
    vanishing: set[int] = field(default_factory=set)  # they go while they are attached to
    is_full: bool = False  # the table of interfaces
    now: float = 1000.0
    attached: dict[int, FakeAttachment] = field(default_factory=dict)
    traced: set[int] = field(default_factory=set)
    news: list[Notice] = field(default_factory=list)
    loaded: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(programs={"tc_ingress": 1, "tc_egress": 2}))

    def attach(self, interface: Interface, *_: object, one_of_many: bool) -> Attachment:
        assert one_of_many == (len(self.there) > MANY)
        if interface.index in self.vanishing:
            raise InterfaceGoneError("it went away")
        if interface.index in self.refusing:
            raise CannotTraceError(self.refusing[interface.index])
        made = self.attached[interface.index] = FakeAttachment(interface.name)
        return cast(Attachment, made)

    def trace_interface(self, index: int, group: int, has_ethernet_header: bool) -> None:
        if self.is_full:
            raise OSError(errno.E2BIG, "too big")
        self.traced.add(index)

    def ignore_interface(self, index: int) -> None:
        self.traced.discard(index)

    def told(self, kind: str) -> list[str]:
        return [one.text for one in self.news if one.kind == kind]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host({index: Interface(index, f"veth{index}", ETHER, up=True) for index in range(1, 501)})
    monkeypatch.setattr(module, "attach", made.attach)
    monkeypatch.setattr(module, "all_up", lambda: list(made.there.values()))
    monkeypatch.setattr(module, "by_index", made.there.get)
    monkeypatch.setattr(module, "find_members", lambda name: [one for one in made.there.values() if one.name == name])
    monkeypatch.setattr(module, "Programs", lambda *_: object())
    monkeypatch.setattr(module.time, "monotonic", lambda: made.now)
    return made


def started(host: Host, *names: str) -> tuple[Interfaces, list[Notice]]:
    made = Interfaces(RootRequest(names or ("any",), HookChoice.AUTO, LoadOptions(), 5.0), host.news.append)
    made.find()
    parts = cast(Kernel, host), cast(Instance, None), cast(Follower, None)
    failures = made.attach_all(*parts, lambda: True)
    return made, failures + made.switch_on_all()


def wait(host: Host, interfaces: Interfaces, seconds: float) -> None:
    """That time passes, with a look at all programs each quarter of a second."""
    for _ in range(int(seconds * 4)):
        host.now += 0.25
        interfaces.check()


def test_those_that_refuse_are_told_in_few_notices_and_tried_again(host: Host) -> None:
    host.refusing = dict.fromkeys(range(100, 200), "no room")
    made, failures = started(host)
    assert (len(made), len(failures)) == (400, 11)
    assert failures[-1].text == "90 more interfaces cannot be traced, veth110 and veth199 among them"
    wait(host, made, 20)
    assert host.news == []  # the reason is known
    host.refusing = {100: "another reason"}
    wait(host, made, 2 * LAST_RETRY_S)
    assert host.told("interface_not_traced") == ["another reason"]
    assert len(host.told("interface_added")) == 99
    assert host.traced == set(host.there) - {100}
    assert made.sums == InterfaceSums(traced=499, not_traced=1)


def test_where_all_refuse_the_reason_ends_the_start(host: Host) -> None:
    host.refusing = dict.fromkeys(host.there, "the kernel is too old")
    with pytest.raises(CannotTraceError, match="too old"):
        started(host)


def test_removed_programs_come_back_at_once_and_later_and_later_if_that_goes_on(host: Host) -> None:
    made, _ = started(host)
    removals = 0
    gaps: list[float] = []
    last = host.now
    while host.now < 1600:
        if 7 in host.traced:
            gaps.append(host.now - last)
            last = host.now
            host.attached[7].intact = False
            removals += 1
        wait(host, made, 0.25)
    wait(host, made, LAST_RETRY_S + 1)
    assert len(host.told("detached")) == len(host.told("attached_again")) == removals
    assert gaps[1] <= 0.5
    assert [round(gap) for gap in gaps[2:9]] == [1, 2, 4, 8, 16, 32, 60]
    assert max(gaps) < LAST_RETRY_S + 1
    assert made.sums == InterfaceSums(traced=500, removed=removals, attached_again=removals)


def test_what_is_gone_is_not_tried_again(host: Host) -> None:
    host.refusing = {3: "no room"}
    made, _ = started(host)
    for index in (3, 4):
        del host.there[index]
    host.attached[4].intact = False
    wait(host, made, 5)
    assert sorted(host.told("interface_gone")) == ["veth3 has gone", "veth4 has gone"]
    made.on_gone(4)  # its event comes later
    assert made.sums == InterfaceSums(traced=499, gone=2)


def test_changes_are_told_in_parts_and_again_if_nobody_took_them(host: Host) -> None:
    made, _ = started(host)
    assert [len(part) for part in made.in_parts()] == [INTERFACES_TOLD, INTERFACES_TOLD, 100]
    taken: list[InterfacesChanged] = []
    for index in range(1, 301):
        made.on_gone(index)
    made.tell_changes(lambda _: False)
    made.tell_changes(lambda message: taken.append(message) is None)
    assert [len(one.gone) for one in taken] == [INTERFACES_TOLD, 100]
    assert sorted(index for one in taken for index in one.gone) == list(range(1, 301))
    made.tell_changes(lambda _: pytest.fail("nothing has changed since"))


def test_a_named_interface_that_flaps_while_it_comes_back_is_still_wanted(host: Host) -> None:
    host.there = {1: Interface(1, "left", ETHER, up=True), 2: Interface(2, "right", ETHER, up=True)}
    made, _ = started(host, "left", "right")
    made.on_gone(1)
    host.vanishing = {11}
    for index in (11, 12):
        made.on_up(Interface(index, "left", ETHER, up=True))
        if index == 11:
            made.on_gone(11)
    assert host.told("interface_gone") == ["left has gone"]
    assert host.told("interface_added") == ["left has come back and is traced"]
    assert host.traced == {2, 12}


def test_an_interface_that_comes_up_while_it_is_not_traced_is_not_down_later(host: Host) -> None:
    made, _ = started(host)
    veth = host.there[7]
    made.on_down(veth)
    host.attached[7].intact = False
    host.refusing = {7: "no room"}
    wait(host, made, 1)
    assert 7 not in host.traced
    made.on_up(veth)
    host.refusing = {}
    wait(host, made, 1)
    assert 7 in host.traced
    made.on_down(veth)
    assert host.told("interface_down") == ["veth7 is down"] * 2


def test_a_full_table_is_told_once_for_each_interface(host: Host) -> None:
    made, _ = started(host)
    host.is_full = True
    host.there[900] = Interface(900, "late", ETHER, up=True)
    made.on_up(host.there[900])
    wait(host, made, 2 * LAST_RETRY_S)
    assert len(host.told("interface_not_traced")) == 1
    assert not host.attached[900].intact  # our programs are off again
    host.is_full = False
    wait(host, made, LAST_RETRY_S + 1)
    assert host.told("interface_added") == ["late can be traced now (by clsact)"]
