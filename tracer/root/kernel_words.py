"""Hears why the kernel drops segments and sends resets: attaches the programs, and names the places in the kernel.

Only what is common to all is said once, in Evidence; each drop goes to the user part through a ring of its own.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress

from tracer.ipc.messages import Evidence, PlaceAnswer
from tracer.linux import bpfsys, kallsyms
from tracer.loader import kernel_words
from tracer.loader.load import Loaded

SLICE_S = 0.005
PLACES_MAX = 512  # distinct ones in a run: the kernel has some hundred that free packets
_NETNS = "/proc/thread-self/ns/net"


class KernelWords:
    """The programs at their tracepoints. Where they are missing or refused, `evidence` says so and nothing is heard."""

    def __init__(self, loaded: Loaded) -> None:
        """Attach what was loaded; the calling process is in the traced namespace."""
        words = loaded.words
        self.failure = words.why if words is not None and words.failed else ""
        self._links: list[int] = []
        heard = self._attach(loaded, words.programs) if words is not None else set()
        self._asked = 0
        self._wanted: list[int] = []
        self._lookup: kallsyms.Lookup | None = None
        self._steps: Iterator[None] = iter(())
        if words is None or kernel_words.FREED not in heard:
            self.evidence = Evidence(why="" if words is None else words.why or self.failure)
            return
        self.evidence = Evidence(
            loaded.options.drop_ring_bytes,
            words.drop_reasons,
            words.reset_reasons if kernel_words.RESET in heard else {},
            kallsyms.is_open(),
            os.stat(_NETNS).st_ino,
        )

    def _attach(self, loaded: Loaded, programs: list[str]) -> set[str]:
        heard = set()
        for name in programs:
            try:
                link = bpfsys.raw_tracepoint_open(kernel_words.TRACEPOINTS[name], loaded.programs[name])
            except OSError as error:
                self.failure = f"the kernel does not let its drop reasons be heard: {error.strerror}"
                continue
            self._links.append(link)
            heard.add(name)
        return heard

    # --- places ---

    def ask(self, addresses: list[int]) -> None:
        """Name these places; advance() answers. The user part may be compromised, so their number is bounded."""
        allowed = addresses[: PLACES_MAX - self._asked]
        self._asked += len(allowed)
        self._wanted += allowed

    def advance(self) -> PlaceAnswer | None:
        """Look for a few milliseconds; the answer when it is there."""
        if self._lookup is None:
            if not self._wanted:
                return None
            self._lookup, self._wanted = kallsyms.Lookup(self._wanted), []
            self._steps = self._lookup.steps()
        until = time.monotonic() + SLICE_S
        with suppress(OSError):  # names stay unknown
            for _ in self._steps:
                if time.monotonic() >= until:
                    return None
        found, self._lookup = self._lookup.names, None
        return PlaceAnswer(found)

    def wait_s(self) -> float:
        """When to call advance() again."""
        return 0.0 if self._lookup is not None or self._wanted else math.inf

    # --- end ---

    def close(self) -> None:
        """Detach. Harmless the second time."""
        links, self._links = self._links, []
        for fd in links:
            os.close(fd)
