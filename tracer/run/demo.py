"""`tfotrace demo`: runs the lab in its own process, which stays root while the rest becomes the user."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import TracebackType

from tracer.errors import CannotTraceError
from tracer.lab.lab import Lab
from tracer.run.fork import fork

BACKGROUND_PER_S = 30.0


class Demo:
    """A child process that makes the lab, starts its traffic when told, and ends when this process does."""

    interface = Lab.client_interface

    def __init__(self) -> None:
        self.netns = ""
        self._about: list[str] = []
        self._child = 0
        self._orders = -1

    def __enter__(self) -> Demo:
        orders, self._orders = os.pipe2(os.O_CLOEXEC)
        answers, says = os.pipe2(os.O_CLOEXEC)

        def keep() -> int:
            os.close(self._orders)
            os.close(answers)
            return _keep(orders, says)

        self._child = fork(keep)
        os.close(orders)
        os.close(says)
        with os.fdopen(answers) as answer:
            said, *self._about = answer.read().splitlines() or [""]
        kind, _, text = said.partition(" ")
        if kind != "netns":
            os.close(self._orders)
            os.waitpid(self._child, 0)
            raise CannotTraceError(text or "the lab could not be made")
        self.netns = text
        return self

    def explain(self, narrate: Callable[[str], None]) -> None:
        """Narrate whose addresses a reader has seen."""
        for line in self._about:
            narrate(line)

    def begin(self) -> None:
        """Start the traffic."""
        os.write(self._orders, b"begin\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._orders)
        os.waitpid(self._child, 0)


def _keep(orders: int, says: int) -> int:
    """Body of the child: keep the lab until the parent closes `orders` or ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    answer = os.fdopen(says, "w")
    try:
        with Lab() as lab:
            answer.write("\n".join((f"netns {lab.client_netns}", *lab.about())))
            answer.close()
            if os.read(orders, 16):
                lab.start_traffic(background_per_s=BACKGROUND_PER_S)
                os.read(orders, 16)  # end of file
    except CannotTraceError as error:
        if not answer.closed:
            answer.write(f"error {error}")
            answer.close()
        return 3
    return 0
