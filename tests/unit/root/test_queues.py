"""Which listeners dropped something when the namespace's counter moved (tracer/root/queues.py)."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import pytest

from tracer.ipc.messages import Drops, FullQueue
from tracer.linux import sock_diag
from tracer.linux.modules import Modules
from tracer.linux.sock_diag import Listener
from tracer.root import queues
from tracer.root.queues import Queues

ANY = bytes(16)


def one(inode: int, drops: int | None = 0, queued: int | None = 0, backlog: int | None = 5) -> Listener:
    return Listener(socket.AF_INET6, ANY, 443, inode, False, 0, queued, backlog, drops)


@dataclass
class Kernel:
    """Listeners, and a clock that a test sets."""

    found: list[Listener] | None = field(default_factory=list)
    reads: int = 0
    now_ns: int = 100

    def listeners(self, ports: object, limit: int) -> list[Listener] | None:
        assert ports is None
        assert limit == queues.LISTENERS_MAX
        self.reads += 1
        return self.found

    def clock(self) -> int:
        return self.now_ns

    def look(self, watched: Queues, drops: int, now_ns: int, *found: Listener) -> None:
        self.now_ns = now_ns
        if found:
            self.found = [*found]
        watched.look({"ListenDrops": drops}, now_ns)


class Present(Modules):
    def present(self, name: str) -> bool:
        return name == sock_diag.MODULE


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(sock_diag, "listeners", kernel.listeners)
    return kernel


@pytest.fixture
def watched(kernel: Kernel) -> Queues:
    return Queues(Present(), kernel.clock)


def test_listeners_are_read_when_the_counter_moves(kernel: Kernel, watched: Queues) -> None:
    for now, drops in ((100, 4), (200, 4), (300, 4)):
        kernel.look(watched, drops, now, one(7, 1))
    assert kernel.reads == 1
    kernel.look(watched, 5, 400, one(7, 2))
    assert kernel.reads == 2
    (said,) = watched.of([one(7, 2)])
    assert (said.known_ns, said.dropped, said.full) == ((100, 400), [Drops(300, 400, True)], None)


def test_who_dropped(kernel: Kernel, watched: Queues) -> None:
    kernel.look(watched, 0, 100, one(7), one(8, 3))
    kernel.look(watched, 1, 200, one(7, 1), one(8, 4))
    kernel.look(watched, 2, 300, one(7, 1), one(8, 5, 6), one(9))
    first, second, third = watched.of([one(7), one(8), one(9)])
    assert first.dropped == [Drops(100, 200, False)]
    assert second.dropped == [Drops(100, 200, False), Drops(200, 300, True)]
    assert second.full == FullQueue(300, 6, 5)
    assert third.dropped == []


def test_new_sockets_began_with_none(kernel: Kernel, watched: Queues) -> None:
    kernel.look(watched, 0, 100, one(7, 9))
    (said,) = watched.of([one(8)])
    assert (said.known_ns, said.dropped) == ((0, 100), [])
    kernel.look(watched, 1, 200, one(7, 9), one(8, 1))
    (said,) = watched.of([one(8)])
    assert (said.known_ns, said.dropped) == ((0, 200), [Drops(100, 200, True)])


def test_full_now(kernel: Kernel, watched: Queues) -> None:
    kernel.look(watched, 0, 100, one(7))
    kernel.now_ns = 150
    (said,) = watched.of([one(7, queued=6)])
    assert (said.queued, said.backlog, said.full) == (6, 5, FullQueue(150, 6, 5))
    (later,) = watched.of([one(7, queued=0)])
    assert (later.queued, later.full) == (0, FullQueue(150, 6, 5))


@pytest.mark.parametrize("found", [None, [one(7, None)]])
def test_nothing_is_known(kernel: Kernel, watched: Queues, found: list[Listener] | None) -> None:
    kernel.found = found
    kernel.look(watched, 0, 100)
    kernel.look(watched, 0, 200)
    assert (kernel.reads, watched.is_blind) == (1, False)
    kernel.look(watched, 1, 300)
    assert (kernel.reads, watched.is_blind) == (2, True)
    (said,) = watched.of([one(7, None, 6)])
    assert (said.known_ns, said.dropped, said.full) == (None, [], FullQueue(300, 6, 5))
    assert watched.of([one(7, None, None, None)]) == []
    kernel.look(watched, 1, 300 + queues.AGAIN_NS, one(7, 2))
    (said,) = watched.of([one(7)])
    assert (said.known_ns, said.dropped) == ((300 + queues.AGAIN_NS,) * 2, [])
    assert not watched.is_blind


def test_without_the_module_nobody_asks(kernel: Kernel) -> None:
    blind = Queues(Modules(*["/none"] * 3), kernel.clock)
    kernel.look(blind, 0, 100, one(7))
    kernel.look(blind, 1, 200)
    assert (kernel.reads, blind.is_blind) == (0, True)


def test_what_is_kept_is_bounded(kernel: Kernel, watched: Queues) -> None:
    for number in range(100):
        kernel.look(watched, number, 100 * number, one(7, number), *(one(100 * number + at) for at in range(8, 50)))
    (said,) = watched.of([one(7)])
    assert len(said.dropped) == queues.KEPT
    assert len(watched.of([one(number) for number in range(100)])) == queues.ANSWERS_MAX
