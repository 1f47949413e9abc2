"""Which listening sockets get a SYN, by the kernel's rules; tests/netns/test_host_witness.py asks the kernel itself."""

from __future__ import annotations

import ipaddress
import socket
from itertools import count

import pytest

from tracer.linux import sock_diag
from tracer.linux.modules import Modules
from tracer.linux.sock_diag import Listener
from tracer.root.listeners import Listeners, that_listen
from tracer.vocabulary.addresses import sixteen_bytes


def mapped(text: str) -> bytes:
    return sixteen_bytes(ipaddress.ip_address(text).packed)


def four(text: str, inode: int, device: int | None = 0) -> Listener:
    return Listener(socket.AF_INET, mapped(text), 443, inode, None, device)


def six(text: str, inode: int, v6only: bool | None = False, device: int | None = 0) -> Listener:
    return Listener(socket.AF_INET6, mapped(text), 443, inode, v6only, device)


@pytest.mark.parametrize(
    ("found", "server", "inodes"),
    [
        ([], "10.0.0.1", []),
        ([four("10.0.0.1", 1), four("10.0.0.2", 2)], "10.0.0.1", [1]),
        ([four("10.0.0.2", 2)], "10.0.0.1", []),
        ([four("0.0.0.0", 1), four("10.0.0.1", 2)], "10.0.0.1", [2]),
        ([four("0.0.0.0", 1), four("10.0.0.1", 2)], "10.0.0.2", [1]),
        ([four("0.0.0.0", 1), four("0.0.0.0", 2)], "10.0.0.1", [1, 2]),  # SO_REUSEPORT
        ([four("10.0.0.1", 1), four("10.0.0.1", 2), four("0.0.0.0", 3)], "10.0.0.1", [1, 2]),
        ([six("::", 1)], "10.0.0.1", [1]),
        ([six("::", 1)], "2001:db8::1", [1]),
        ([six("::", 1, True)], "10.0.0.1", []),
        ([six("::", 1, True)], "2001:db8::1", [1]),
        # as /proc has them
        ([six("::", 1, None)], "10.0.0.1", None),
        ([six("::", 1, None, None)], "2001:db8::1", None),
        ([four("10.0.0.1", 1, None)], "10.0.0.1", None),
        ([four("10.0.0.2", 1, None)], "10.0.0.1", []),
        ([four("0.0.0.0", 1, None), four("0.0.0.0", 2)], "10.0.0.1", [2, 1]),
        ([six("::", 1, None)], "2001:db8::1", [1]),
        ([six("::", 1), four("0.0.0.0", 2)], "10.0.0.1", [2]),
        ([six("::", 1), four("0.0.0.0", 2)], "2001:db8::1", [1]),
        ([six("::", 1), six("2001:db8::1", 2)], "2001:db8::1", [2]),
        ([six("::ffff:10.0.0.1", 1), four("0.0.0.0", 2)], "10.0.0.1", [1]),
        ([six("::ffff:0.0.0.0", 1)], "10.0.0.1", [1]),
        ([six("::ffff:0.0.0.0", 1)], "2001:db8::1", []),
        ([four("0.0.0.0", 1)], "2001:db8::1", []),
        # by which interface the SYN came to the stack is not known
        ([four("0.0.0.0", 1, device=3)], "10.0.0.1", None),
        ([four("0.0.0.0", 1, device=3), four("0.0.0.0", 2)], "10.0.0.1", [2, 1]),
        ([four("0.0.0.0", 1, device=3), four("10.0.0.1", 2)], "10.0.0.1", [2]),
        ([four("10.0.0.1", 1, device=3), four("0.0.0.0", 2)], "10.0.0.1", [2, 1]),
        ([six("::", 1, True, device=3)], "10.0.0.1", []),
    ],
)
def test_who_listens(found: list[Listener], server: str, inodes: list[int] | None) -> None:
    chosen = that_listen(found, mapped(server))
    assert (None if chosen is None else [one.inode for one in chosen]) == inodes


def test_what_was_read_slowly_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = four("10.0.0.1", 1)
    monkeypatch.setattr(Modules, "present", lambda *_: True)
    monkeypatch.setattr(sock_diag, "listeners", lambda *_: [listener])
    clock = count(0, 60_000_000)  # nanoseconds from one look at it to the next
    assert Listeners(clock=lambda: next(clock)).at(443, 1_000_000_000) == [listener]
