"""What the root part reports about the traced namespace, each second and on request: counters, sysctls, cookies."""

from __future__ import annotations

import time

from tracer.ipc.messages import Host, HostAnswer, HostQuestion
from tracer.linux.hoststate import read_counters, read_sysctls
from tracer.root.cookie_keys import CookieKeys

CHECKS_A_SECOND = 2000  # a check takes about 0.1 ms, and this process has a table to sweep


class Witness:
    """Reads the namespace of the process that made it."""

    def __init__(self) -> None:
        self._keys = CookieKeys()
        self._second = 0
        self._checked = 0

    def host(self) -> Host:
        """Counters and sysctls as of now. Also reads the keys, to know when they changed."""
        self._keys.read()
        begun_ns = time.monotonic_ns()
        counters, sysctls = read_counters(), read_sysctls()
        return Host(counters, sysctls, time.monotonic_ns(), self._keys.changes, begun_ns)

    def answer(self, ask: HostQuestion) -> HostAnswer:
        """The host's state, and a verdict on each cookie, up to CHECKS_A_SECOND in this second."""
        host = self.host()
        second = host.taken_ns // 1_000_000_000
        if second != self._second:
            self._second, self._checked = second, 0
        left = max(0, CHECKS_A_SECOND - self._checked)
        self._checked += min(left, len(ask.cookies))
        return HostAnswer(ask.serial, host, [int(self._keys.check(question)) for question in ask.cookies[:left]])
