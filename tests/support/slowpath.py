"""A slow path for kernels without netem: two hosts joined by tun devices and a relay.

The relay delays every packet by at least DELAY_S in each direction; a busy machine adds the same to every round trip.
IPv4, one relay for both directions.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.hosts import ADDRESSES, Hosts, two_hosts
from tests.support.netbox import NetBox
from tests.support.patience import PATIENCE_S
from tests.support.tracing import CHECKOUT

DEVICE = "path"
DELAY_S = 0.02  # each way
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MTU = 1500


def _tun(box: NetBox, address: str) -> int:
    """A tun device named DEVICE in a namespace; it goes with the descriptor."""
    with box.inside():
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH14x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
            box.run("ip", "address", "add", f"{address}/24", "dev", DEVICE)
            box.run("ip", "link", "set", DEVICE, "up")
        except BaseException:
            os.close(fd)
            raise
    return fd


class Relay:
    """Packets of either device to the other one, in the order in which they are due."""

    def __init__(self, left: int, right: int, delay_s: float) -> None:
        self._other = {left: right, right: left}
        self._delay_s = delay_s
        self._waiting: list[tuple[float, int, int, bytes]] = []  # when, a number, where to, what
        self._number = 0

    def run(self, until: int) -> None:
        """Relay until `until`, a descriptor, can be read: whoever holds its other end has gone."""
        while True:
            wait_s = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            ready, _, _ = select.select([*self._other, until], [], [], wait_s)
            now = time.monotonic()
            if until in ready:
                return
            for fd in ready:
                self._take_all(fd, now + self._delay_s)
            self._send_due()

    def _take_all(self, fd: int, due: float) -> None:
        while True:
            try:
                packet = os.read(fd, _MTU)
            except BlockingIOError:
                return
            self._number += 1
            heapq.heappush(self._waiting, (due, self._number, self._other[fd], packet))

    def _send_due(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, _, fd, packet = heapq.heappop(self._waiting)
            os.write(fd, packet)


def first_in_line(pid: int = 0) -> None:
    """Have a process (0: the calling thread) run as soon as it can: other work must not be part of the path."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:  # where groups of processes have no share of real time
        os.setpriority(os.PRIO_PROCESS, pid, -20)


@contextmanager
def _relaying(left: int, right: int, delay_s: float) -> Iterator[None]:
    """A separate process, which must not wait for this one's interpreter."""
    words = [sys.executable, "-m", "tests.support.slowpath", str(left), str(right), str(delay_s)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=(left, right), cwd=CHECKOUT)
    try:
        first_in_line(process.pid)
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(PATIENCE_S)


@contextmanager
def slow_hosts(delay_s: float = DELAY_S) -> Iterator[Hosts]:
    """Client and server with the addresses of ADDRESSES[4], DEVICE at both ends, `delay_s` apart each way."""
    with two_hosts(joined=False) as hosts:
        ends = []
        try:
            for box, address in zip((hosts.client, hosts.server), ADDRESSES[4], strict=True):
                ends.append(_tun(box, address))
            with _relaying(ends[0], ends[1], delay_s):
                yield hosts
        finally:
            for fd in ends:
                os.close(fd)


if __name__ == "__main__":
    Relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])).run(until=0)
