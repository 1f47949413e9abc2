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
from tracer.loader.without import without
from tracer.records.without import Without

SLICE_S = 0.005
# In a flood of refused SYNs the programs are called twice for each, and most of the cost is the call itself. What such
# a reset is for, the word on the refused SYN says, too.
FLOOD = 1000  # words that went unsaid since the last look
PAUSE_S = 5.0
PLACES_MAX = 512  # distinct ones in a run: the kernel has some hundred that free packets
# where handshakes die: looked for at once, since who asks for a place must not wait long
_KNOWN = (
    "nft_do_chain", "nf_hook_slow", "ipt_do_table", "tcp_v4_rcv", "tcp_v6_rcv", "tcp_v4_do_rcv",
    "tcp_v6_do_rcv", "tcp_rcv_state_process", "tcp_drop", "tcp_drop_reason", "cookie_v4_check",
    "cookie_v6_check", "tcp_filter", "sk_filter_trim_cap", "ip_rcv_finish_core", "ip_rcv_core", "ip6_rcv_core",
    "ip_error", "ip_forward", "ip_forward_finish", "ip6_forward", "ip6_pkt_drop", "ip6_pkt_discard",
    "ip_local_deliver_finish", "ip6_protocol_deliver_rcu", "ip_output", "ip_finish_output2",
    "ip6_finish_output2", "neigh_invalidate", "__neigh_event_send", "arp_error_report", "ndisc_error_report",
    "__dev_queue_xmit", "__netif_receive_skb_core", "enqueue_to_backlog", "tc_run", "br_handle_frame",
    "__xfrm_policy_check", "reject_tg",
)  # fmt: skip
_NETNS = "/proc/thread-self/ns/net"


class KernelWords:
    """The programs at their tracepoints. Where they are missing or refused, `evidence` says so and nothing is heard."""

    def __init__(self, loaded: Loaded) -> None:
        """Attach what was loaded; the calling process is in the traced namespace."""
        words = loaded.words
        self.failure = words.why if words is not None and words.failed else ""
        self._links: dict[str, int] = {}
        self._loaded = loaded
        self._unsaid, self._again_s = 0, 0.0
        self._is_getting_ready = False
        heard = self._attach(loaded, words.programs) if words is not None else set()
        self._asked = 0
        self._wanted: list[int] = []
        self._lookup: kallsyms.Lookup | None = None
        self._known = kallsyms.Known(_KNOWN)
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
        self._is_getting_ready = self.evidence.places
        if self._is_getting_ready:
            self._steps = self._known.steps()

    def _attach(self, loaded: Loaded, programs: list[str]) -> set[str]:
        heard = set()
        for name in programs:
            try:
                link = bpfsys.raw_tracepoint_open(kernel_words.TRACEPOINTS[name], loaded.programs[name])
            except OSError as error:
                self.failure = f"the kernel does not let its drop reasons be heard: {error.strerror}"
                continue
            self._links[name] = link
            heard.add(name)
        return heard

    def without(self) -> list[Without]:
        """What this run lacks, these words among it."""
        return without(self._loaded, self.failure, hears_drops=bool(self.evidence.drop_reasons))

    def relieve(self, unsaid: int, now_s: float) -> None:
        """Do without the reasons of resets in a flood. `unsaid`: the counter drops_skipped; monotonic time."""
        more, self._unsaid = unsaid - self._unsaid, unsaid
        if not self.evidence.reset_reasons:
            return
        if more >= FLOOD:
            self._again_s = now_s + PAUSE_S
            link = self._links.pop(kernel_words.RESET, None)
            if link is not None:
                os.close(link)
        elif kernel_words.RESET not in self._links and now_s >= self._again_s:
            self._again_s = now_s + PAUSE_S  # if the kernel refuses now
            self._attach(self._loaded, [kernel_words.RESET])

    # --- places ---

    def ask(self, addresses: list[int]) -> None:
        """Name these places; advance() answers. The user part may be compromised, so their number is bounded."""
        allowed = addresses[: PLACES_MAX - self._asked]
        self._asked += len(allowed)
        self._wanted += allowed

    def advance(self) -> PlaceAnswer | None:
        """Look for a few milliseconds; an answer when it is there."""
        if not self._is_getting_ready:
            known = {address: name for address in self._wanted if (name := self._known.find(address)) is not None}
            if known:  # at once, whatever else is looked for
                self._wanted = [address for address in self._wanted if address not in known]
                return PlaceAnswer({**known})
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
        self._is_getting_ready = False
        if self._lookup is None:
            return None
        found, self._lookup = self._lookup.names, None
        return PlaceAnswer(found)

    def wait_s(self) -> float:
        """When to call advance() again."""
        return 0.0 if self._is_getting_ready or self._lookup is not None or self._wanted else math.inf

    # --- end ---

    def close(self) -> None:
        """Detach. Harmless the second time."""
        links, self._links = self._links, {}
        for fd in links.values():
            os.close(fd)
