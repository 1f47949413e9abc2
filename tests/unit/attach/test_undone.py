"""What is attached by half is taken off again, or stays listed where `tfotrace detach` finds it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tracer.attach import attach as module
from tracer.attach.attach import Programs, attach
from tracer.attach.clsact import PARENT_INGRESS, FilterKey, NoEgressSideError
from tracer.attach.instances import Instance
from tracer.errors import CannotTraceError
from tracer.linux.interfaces import Interface
from tracer.vocabulary.vocabulary import HookChoice

KEY = FilterKey(4, PARENT_INGRESS, 1, 0x54464F00, 77, "tfotrace-1-2")


class StubbornFilter:
    """A filter that the kernel does not delete, on an interface that takes none at egress."""

    def __init__(self, _index: int, egress: bool, _fd: int, _name: str, announce: Callable[[FilterKey], None]) -> None:
        if egress:
            raise NoEgressSideError
        announce(KEY)
        self.key = KEY

    def detach(self) -> None:
        raise OSError(errno.ENOBUFS, "no buffer space")


@pytest.mark.parametrize("choice", [HookChoice.AUTO, HookChoice.CLSACT])
def test_a_filter_that_cannot_be_removed_stays_listed(monkeypatch: pytest.MonkeyPatch, choice: HookChoice) -> None:
    listed: set[Any] = set()
    instance = SimpleNamespace(
        filter_name="tfotrace-1-2", record=lambda key, *_: listed.add(key), forget=listed.difference_update
    )
    monkeypatch.setattr(module, "ClsactFilter", StubbornFilter)
    monkeypatch.setattr(module.survey, "has_tcx", lambda _: False)
    programs = cast(Programs, SimpleNamespace(tc_ingress=5, tc_egress=6, xdp_ingress=None, loaded_ns={77: 1077}))
    with pytest.raises(CannotTraceError):
        attach(Interface(4, "eth0", 1, up=True), programs, choice, cast(Instance, instance), one_of_many=True)
    assert listed == {KEY}
