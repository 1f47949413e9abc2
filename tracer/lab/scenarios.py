"""The table of scenarios: what each puts on the wire, in the words of the handshake records.

Each scenario has its own server address (`tracer.lab.topology.scenario_address`), so the records of one round with
that address, in the order of their first SYN, are exactly `Scenario.handshakes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tracer.lab import kernel_scenarios as kernel
from tracer.lab import raw_scenarios as raw
from tracer.lab import topology
from tracer.lab.stage import Stage
from tracer.lab.topology import Place


@dataclass(frozen=True, slots=True)
class Expected:
    """`tfo.*` and `handshake.result` of a handshake, as a tracer on the client's interface must judge it."""

    request: str
    outcome: str
    result: str = "established"
    kind: int | None = None  # of the SYN's Fast Open option; None = no well-formed one
    syn_count: int = 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """A piece of traffic, named after the function that plays it."""

    play: Callable[[Stage], None]
    handshakes: tuple[Expected, ...]
    place: Place = Place.SERVER
    slow: bool = False  # takes about a second, so it runs beside the others

    @property
    def name(self) -> str:
        return self.play.__name__


def _none(result: str = "established") -> Expected:
    return Expected("none", "not_attempted", result)


_PLAIN = _none()
_ASKED = Expected("cookie_request", "cookie_granted", kind=34)
_NOT_GRANTED = Expected("cookie_request", "cookie_not_granted", kind=34)
_ASKED_AGAIN = Expected("cookie_request", "cookie_granted", kind=254)
_NOT_GRANTED_EITHER = Expected("cookie_request", "cookie_not_granted", kind=254)


def _used(outcome: str, result: str = "established", kind: int = 34, syn_count: int = 1) -> Expected:
    return Expected("cookie_and_data", outcome, result, kind, syn_count)


def _only(outcome: str) -> Expected:
    return Expected("cookie", outcome, kind=34)


_ACKED = _used("data_acked")
_NEW_COOKIE = _used("data_not_acked_new_cookie")
_MALFORMED = Expected("malformed", "not_attempted")
_UNREACHABLE = (
    Expected("cookie_request", "rejected", "unreachable", 34),
    Expected("data_only", "rejected", "unreachable"),
)

# Those that settle by a timeout come first, so that even a short demo sees them settled.
SCENARIOS: tuple[Scenario, ...] = (
    Scenario(kernel.syn_data_dropped, (_ASKED, _used("syn_timeout_fallback", syn_count=2)), slow=True),
    Scenario(kernel.no_answer, (_ASKED, _used("no_answer", "no_reply"))),
    Scenario(kernel.plain_no_reply, (_none("no_reply"),)),
    Scenario(raw.half_open, (_none("half_open"),)),
    Scenario(raw.half_open_fast_open, (Expected("cookie_request", "cookie_granted", "half_open", 34),)),
    Scenario(kernel.plain, (_PLAIN,)),
    Scenario(kernel.cookie_asked, (_ASKED,)),
    Scenario(kernel.tls_in_syn, (_ASKED, _ACKED)),
    Scenario(kernel.http_in_syn, (_ASKED, _ACKED)),
    Scenario(kernel.dns_in_syn, (_ASKED, _ACKED)),
    Scenario(kernel.stale_cookie, (_ASKED, _NEW_COOKIE, _ACKED)),
    Scenario(kernel.key_rotation, (_ASKED, _used("data_acked_new_cookie"), _ACKED)),
    Scenario(kernel.pool_without_shared_key, (_ASKED, _NEW_COOKIE, _NEW_COOKIE, _NEW_COOKIE)),
    Scenario(kernel.host_without_fast_open, (_NOT_GRANTED, _NOT_GRANTED_EITHER), Place.FAR),
    Scenario(kernel.listener_without_fast_open, (_ASKED, _used("data_not_acked"))),
    Scenario(kernel.experimental_option, (_NOT_GRANTED, _ASKED_AGAIN, _used("data_acked", kind=254))),
    Scenario(kernel.queue_overflow, (_ASKED, _ACKED, _used("data_not_acked"))),
    Scenario(kernel.cookieless_accepted, (Expected("data_only", "data_acked"),)),
    Scenario(kernel.cookieless_refused, (Expected("data_only", "data_not_acked"),)),
    Scenario(kernel.cookie_without_data, (_ASKED, _only("cookie_only"))),
    Scenario(kernel.stale_cookie_without_data, (_ASKED, _only("cookie_only_new_cookie"))),
    Scenario(kernel.path_mtu_fallback, (Expected("data_only", "syn_timeout_fallback", syn_count=2),), Place.FAR),
    Scenario(kernel.rejected, (_ASKED, _used("rejected", "rejected"))),
    Scenario(kernel.plain_rejected, (_none("rejected"),)),
    Scenario(kernel.unreachable, _UNREACHABLE, Place.UNREACHABLE),
    Scenario(kernel.plain_unreachable, (_none("unreachable"),), Place.UNREACHABLE),
    Scenario(raw.aborted, (_none("aborted"),)),
    Scenario(raw.aborted_fast_open, (Expected("cookie_request", "cookie_granted", "aborted", 34),)),
    Scenario(raw.request_and_data, (Expected("cookie_request_and_data", "data_not_acked_new_cookie", kind=34),)),
    Scenario(raw.request_and_data_accepted, (Expected("cookie_request_and_data", "data_acked", kind=34),)),
    Scenario(raw.malformed_length_3, (_MALFORMED,)),
    Scenario(raw.malformed_length_4, (_MALFORMED,)),
    Scenario(raw.malformed_length_19, (_MALFORMED,)),
    Scenario(raw.syn_on_established, (_PLAIN, _none("syn_on_established"))),
    Scenario(raw.long_cookie, (_ASKED, _ACKED)),
    Scenario(raw.short_cookie, (_ASKED, _ACKED)),
    Scenario(raw.data_partly_acked, (_ASKED, _used("data_partly_acked"))),
    Scenario(raw.same_cookie, (_ASKED, _used("data_not_acked_same_cookie"))),
    Scenario(raw.same_cookie_without_data, (_ASKED, _only("cookie_only_same_cookie"))),
    Scenario(raw.synack_with_data, (_ASKED, _ACKED)),
    Scenario(raw.simultaneous_open, (_none("simultaneous_open"),)),
    Scenario(raw.over_acked, (_used("over_acked", "aborted"),)),
)


def server_address(scenario: Scenario, version: int) -> str:
    """The server address of this scenario and no other."""
    return topology.scenario_address(SCENARIOS.index(scenario), scenario.place, version)
