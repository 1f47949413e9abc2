"""The words of TFO.md and DESIGN.md as enums, with the numbers of bpf/event.h.

`tests/host` compares the numbers with the C header, so the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum, IntFlag
from typing import TypeVar

W = TypeVar("W", str, "str | None")


class HandshakeResult(IntEnum):
    """`handshake.result` (TFO.md section 3); enum handshake_result."""

    NONE = 0
    ESTABLISHED = 1
    REJECTED = 2
    ABORTED = 3
    UNREACHABLE = 4
    NO_REPLY = 5
    HALF_OPEN = 6
    SIMULTANEOUS_OPEN = 7
    SYN_ON_ESTABLISHED = 8


class SettleReason(IntEnum):
    """What made a record final (DESIGN.md section 4); enum settle_reason."""

    NOT = 0
    BY_RESPONSE = 1
    BY_RST = 2
    BY_ICMP = 3
    BY_FIN = 4
    BY_TIMEOUT = 5
    BY_NEW_SYN = 6
    BY_ACK = 7
    AT_END = 8


class Has(IntFlag):
    """segment_facts.has: what a SYN or SYN-ACK carried."""

    SEGMENT = 1 << 0
    MSS = 1 << 1
    WSCALE = 1 << 2
    SACK = 1 << 3
    TIMESTAMPS = 1 << 4
    TFO = 1 << 5
    TFO_MALFORMED = 1 << 6
    MPTCP = 1 << 7
    MD5 = 1 << 8
    AO = 1 << 9
    BAD_OPTIONS = 1 << 10


class Request(IntEnum):
    """`tfo.request`: what the first SYN asked for (TFO.md section 3)."""

    NONE = 0
    COOKIE_REQUEST = 1
    COOKIE_REQUEST_AND_DATA = 2
    COOKIE = 3
    COOKIE_AND_DATA = 4
    DATA_ONLY = 5
    MALFORMED = 6


class Outcome(IntEnum):
    """`tfo.outcome`: a fact seen on the wire (TFO.md section 3).

    UNKNOWN is not in TFO.md: the SYN carried data or a TFO option and the client went on, but the SYN-ACK took a path
    that is not traced. In records it is null.
    """

    NOT_ATTEMPTED = 0
    COOKIE_GRANTED = 1
    COOKIE_NOT_GRANTED = 2
    DATA_ACKED = 3
    DATA_ACKED_NEW_COOKIE = 4
    DATA_PARTLY_ACKED = 5
    DATA_NOT_ACKED = 6
    DATA_NOT_ACKED_NEW_COOKIE = 7
    DATA_NOT_ACKED_SAME_COOKIE = 8
    SYN_TIMEOUT_FALLBACK = 9
    COOKIE_ONLY = 10
    COOKIE_ONLY_NEW_COOKIE = 11
    COOKIE_ONLY_SAME_COOKIE = 12
    OVER_ACKED = 13
    NO_ANSWER = 14
    REJECTED = 15
    UNKNOWN = 16


class Group(IntEnum):
    """`tfo.group`: the colour of an outcome (TFO.md section 3)."""

    NOT_APPLICABLE = 0
    OK = 1
    DEGRADED = 2
    FAILED = 3

    @property
    def word(self) -> str:
        """The word in records: "n/a", "ok", "degraded" or "failed"."""
        return "n/a" if self is Group.NOT_APPLICABLE else self.name.lower()


GROUP_OF: dict[Outcome, Group] = {
    Outcome.NOT_ATTEMPTED: Group.NOT_APPLICABLE,
    Outcome.COOKIE_GRANTED: Group.OK,
    Outcome.COOKIE_NOT_GRANTED: Group.DEGRADED,
    Outcome.DATA_ACKED: Group.OK,
    Outcome.DATA_ACKED_NEW_COOKIE: Group.OK,
    Outcome.DATA_PARTLY_ACKED: Group.DEGRADED,
    Outcome.DATA_NOT_ACKED: Group.DEGRADED,
    Outcome.DATA_NOT_ACKED_NEW_COOKIE: Group.DEGRADED,
    Outcome.DATA_NOT_ACKED_SAME_COOKIE: Group.DEGRADED,
    Outcome.SYN_TIMEOUT_FALLBACK: Group.FAILED,
    Outcome.COOKIE_ONLY: Group.NOT_APPLICABLE,
    Outcome.COOKIE_ONLY_NEW_COOKIE: Group.DEGRADED,
    Outcome.COOKIE_ONLY_SAME_COOKIE: Group.DEGRADED,
    Outcome.OVER_ACKED: Group.FAILED,
    Outcome.NO_ANSWER: Group.FAILED,
    Outcome.REJECTED: Group.FAILED,
    Outcome.UNKNOWN: Group.NOT_APPLICABLE,
}


class Cause(IntEnum):
    """`tfo.cause`: the inferred reason, separate from the outcome (TFO.md section 4); NONE is null in records."""

    NONE = 0
    KEY_NOT_SHARED = 1
    COOKIE_STALE = 2
    KEY_ROTATION = 3
    CHILD_FAILED = 4
    NOT_SUPPORTED = 5
    SERVER_DISABLED = 6
    LISTENER_DISABLED = 7
    OPTION_STRIPPED = 8
    QUEUE_OVERFLOW = 9
    SYN_COOKIES = 10
    COOKIE_NOT_REQUIRED = 11
    COOKIE_REQUIRED = 12
    PACKET_LOSS = 13
    PATH_DROPS_SYN_DATA = 14
    PAYLOAD_STRIPPED = 15
    PATH_BREAKS_AFTER_ACCEPT = 16
    CLIENT_ADDRESS_CHANGES = 17
    COOKIE_PER_ADDRESS = 18
    LISTENER_KEY_DIFFERS = 19
    OPTION_MALFORMED = 20
    ANSWERED_BEFORE_LISTENER = 21


class HandshakeCause(IntEnum):
    """`handshake.cause`: why it failed or took so long (TFO.md section 8); NONE is null in records."""

    NONE = 0
    HOST_DROPPED = 1
    PORT_STILL_IN_USE = 2
    NO_LISTENER = 3
    FIREWALL_REJECTED = 4
    REFUSED = 5
    ANSWERED_ON_PATH = 6
    ANSWER_DOES_NOT_FIT = 7
    NAT_ONE_WAY = 8
    NOT_FORWARDED = 9
    NO_ANSWER_BEYOND = 10
    PACKET_LOSS = 11
    FILTERED_OR_DOWN = 12
    NO_ROUTE_BACK = 13
    ACCEPT_QUEUE_FULL = 14
    SYN_QUEUE_FULL = 15
    ACCEPT_DEFERRED = 16
    SYN_COOKIES = 17
    SYN_FLOOD = 18
    ACK_MISSING = 19
    SYNACK_LOST = 20
    SYN_OR_SYNACK_LOST = 21
    SLOW_ANSWER = 22
    ECN_BLOCKED = 23
    CLIENT_GAVE_UP = 24
    SILENT_AFTER_ESTABLISHED = 25
    RESET_AFTER_ESTABLISHED = 26


class Warn(IntFlag):
    """`warnings`: options of SYN or SYN-ACK that cannot work, a bit each; in records their words."""

    MSS_TINY = 1
    WINDOW_ZERO = 2
    WSCALE_INVALID = 4
    MSS_ABOVE_MTU = 8


class CauseAt(IntEnum):
    """`handshake.cause_at`: where that cause lies; NONE is null in records."""

    NONE = 0
    CLIENT = 1
    SERVER = 2
    PATH = 3
    THIS_HOST = 4


class Confidence(IntEnum):
    """`tfo.cause_confidence` and `handshake.cause_confidence`; NONE is null in records."""

    NONE = 0
    POSSIBLE = 1
    LIKELY = 2
    CERTAIN = 3


class CookieCheck(IntEnum):
    """`tfo.cookie_check`: an arriving cookie checked with this host's keys; NONE (unknown) is null in records."""

    NONE = 0
    VALID = 1
    VALID_BACKUP = 2
    INVALID = 3


class CookieOrigin(IntEnum):
    """Whose cookie it is that this host refused, as far as its keys tell; not in records."""

    UNKNOWN = 0  # the keys could not be read, or too many were asked about
    NOT_OURS = 1  # no key that this host has or had during the run gives it
    EARLIER_KEY = 2  # a key that the host had before
    OTHER_LISTENER = 3  # the key of another listener, or of the host where this listener has a key of its own
    OTHER_ADDRESS = 4  # the key in force, for another address of the server's network
    OTHER_SOCKET = 5  # the key of another socket that listens at the same port (SO_REUSEPORT)


class ClientFail(IntEnum):
    """`tfo.client_fail`: the word of the client's own kernel, tcpi_fastopen_client_fail; NONE is null in records.

    The numbers are those of enum tcp_fastopen_client_fail (include/uapi/linux/tcp.h).
    """

    NONE = 0
    COOKIE_UNAVAILABLE = 1
    DATA_NOT_ACKED = 2
    SYN_RETRANSMITTED = 3


class After(IntEnum):
    """`handshake.after`: how an established connection went on (DESIGN.md section 3); NONE is null in records."""

    NONE = 0
    RESPONSE = 1
    RESET_BY_SERVER = 2
    RESET_BY_CLIENT = 3
    CLOSED_UNUSED = 4
    CLIENT_CLOSED = 5
    SERVER_CLOSED = 6
    SYNACK_AGAIN = 7
    SILENCE = 8


class Difference(IntEnum):
    """`end.benefits[].difference`: what two medians show of Fast Open's benefit; NONE is null in records.

    MUCH_: by more than a round trip, which is not Fast Open's doing, or not its alone.
    """

    NONE = 0
    NO_DIFFERENCE = 1
    SOONER = 2
    LATER = 3
    MUCH_SOONER = 4
    MUCH_LATER = 5


class ResetFrom(IntEnum):
    """`handshake.reset.from`; RESET_BY_* of bpf/event.h. NONE: no reset settled the handshake."""

    NONE = 0
    CLIENT = 1
    SERVER = 2


class Vantage(IntEnum):
    """Whose address is local to the traced network namespace (DESIGN.md section 3)."""

    TRANSIT = 0
    CLIENT = 1
    SERVER = 2
    LOCAL = 3


class Transport(str, Enum):
    """--transport: how records reach user space."""

    RING = "ring"
    PERF = "perf"


class HookChoice(str, Enum):
    """--hook. CLSACT is not in --help: it uses clsact even if the kernel has TCX, to compare the two."""

    AUTO = "auto"
    TC = "tc"
    XDP = "xdp"
    XDP_NATIVE = "xdp-native"
    XDP_GENERIC = "xdp-generic"
    CLSACT = "clsact"


class Hook(str, Enum):
    """The ingress hook in use; `hook` in the records."""

    TCX = "tcx"
    CLSACT = "clsact"
    XDP_NATIVE = "xdp-native"
    XDP_GENERIC = "xdp-generic"


UNSENT_HOOK = "kernel"  # `hook` of a record whose SYN no hook saw


def word(value: IntEnum) -> str:
    """The vocabulary's spelling of an enum member: snake_case."""
    return value.name.lower()


def words_or_null(members: type[IntEnum]) -> list[str | None]:
    """The words of an enum by number, None for its NONE."""
    return [word(value) if value else None for value in members]


# The words of records by number, None for null. No record has the first result or the first reason.
RESULT_WORDS = [word(value) for value in HandshakeResult]
REASON_WORDS = [word(value).removeprefix("by_") for value in SettleReason]
REQUEST_WORDS = [word(value) for value in Request]
OUTCOME_WORDS = [None if value is Outcome.UNKNOWN else word(value) for value in Outcome]
GROUP_WORDS = [value.word for value in Group]
ECN_WORDS = ["none", "ecn", "accecn"]
ANSWERED_ECN_WORDS: list[str | None] = [None, *ECN_WORDS]
AFTER_WORDS = words_or_null(After)
DIFFERENCE_WORDS = words_or_null(Difference)
RESET_FROM_WORDS = words_or_null(ResetFrom)
RESUMED_WORDS = words_or_null(HandshakeResult)
VANTAGE_WORDS = [word(value) for value in Vantage]
CAUSE_WORDS = words_or_null(Cause)
HANDSHAKE_CAUSE_WORDS = words_or_null(HandshakeCause)
CAUSE_AT_WORDS = words_or_null(CauseAt)
WARNING_WORDS = [(value.name or "").lower() for value in Warn]
CONFIDENCE_WORDS = words_or_null(Confidence)
CLIENT_FAIL_WORDS = words_or_null(ClientFail)
COOKIE_CHECK_WORDS = words_or_null(CookieCheck)


def known(words: Iterable[str | None]) -> list[str]:
    """The words without null."""
    return [text for text in words if text is not None]


def numbers(words: Iterable[W]) -> dict[W, int]:
    """The number of each word."""
    return {text: number for number, text in enumerate(words)}
