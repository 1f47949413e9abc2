"""Captures of handshakes that people ask about: refusals that do not fit, paths that take no ECN, a queue that is full
when the ACK comes, clients that want nothing, a flood, and options that cannot work. Their packets are made by scapy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP

from tests.support.captures import RAW, START_NS, Packet, pcap
from tests.support.replays import replay
from tests.support.tracing import run
from tracer.records.record import Handshake
from tracer.vocabulary.fates import brief_cause, unless_certain

pytestmark = pytest.mark.root

CLIENT, NETWORK = "192.0.2.10", "198.51.100"
ISN, SERVER_ISN = 1_000_000, 3_000_000_000
ECN, ACCURATE_ECN = "SEC", "SECN"  # flags as scapy spells them
REQUEST, ANSWER = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
SECOND, TFO = 1.0, 34
NOTHING = (None, None)
REFUSED, NO_FIT = ("refused", "possible"), ("answer_does_not_fit", "likely")
ECN_ONCE, ECN_AGAIN = ("ecn_blocked", "possible"), ("ecn_blocked", "likely")
PERHAPS_FULL, PERHAPS_DEFERRED = ("accept_queue_full", "possible"), ("accept_deferred", "possible")
LOST, SOMETHING_LOST = ("packet_loss", "possible"), ("syn_or_synack_lost", "possible")
FLOOD, UNFINISHED = ("syn_flood", "likely"), ("ack_missing", "possible")
# seen on the way, or at an end: --local
PLACES = {
    "on the way": (False, False),
    "at the client": (True, False),
    "at the server": (False, True),
    "at both": (True, True),
}


class Story:
    """The packets of connections to a server of its own."""

    def __init__(self, number: int) -> None:
        self.server = f"{NETWORK}.{number}"
        self.packets: list[Packet] = []
        self.now_s = 0.0

    def talk(self, port: int, client: str = CLIENT) -> Talk:
        return Talk(self, port, client)

    def add(self, at_s: float, packet: IP, outgoing: bool) -> None:
        at_ns = START_NS + round((self.now_s + at_s) * 1e9)
        self.packets.append(Packet(at_ns, bytes(packet), outgoing=outgoing))


class Talk:
    """One connection of a story; its times count from that of the story."""

    def __init__(self, story: Story, port: int, client: str) -> None:
        self._story, self._client, self._port = story, client, port
        self.stamp = 1000  # of the client's last SYN

    def there(self, at_s: float, flags: str, seq: int = 0, ack: int = 0, data: bytes = b"", **tcp: Any) -> None:
        """A segment of the client; numbers count from its initial one."""
        header = TCP(sport=self._port, dport=443, flags=flags, seq=ISN + seq, ack=ack and SERVER_ISN + ack, **tcp)
        self._story.add(at_s, IP(src=self._client, dst=self._story.server, ttl=64) / header / data, True)

    def back(self, at_s: float, flags: str, seq: int = 0, ack: int = 1, data: bytes = b"", **tcp: Any) -> None:
        """A segment of the server."""
        header = TCP(sport=443, dport=self._port, flags=flags, seq=SERVER_ISN + seq, ack=ISN + ack, **tcp)
        self._story.add(at_s, IP(src=self._story.server, dst=self._client, ttl=52) / header / data, False)

    def syn(self, at_s: float = 0.0, flags: str = "S", asks: bool = False) -> None:
        """`asks`: for a cookie."""
        self.stamp = 1000 + round(at_s * 1000)
        self.there(at_s, flags, options=_options(self.stamp, 0) + [(TFO, b"")] * asks, window=64240)

    def synack(self, at_s: float, ecn: bool = False) -> None:
        """In answer to the last SYN."""
        self.back(at_s, "SAE" if ecn else "SA", options=_options(500, self.stamp), window=65160)

    def served(self, at_s: float = 0.0, flags: str = "S", ecn: bool = False) -> None:
        """From the SYN to the answer: all is well."""
        self.syn(at_s, flags)
        self.answered(at_s + 0.02, ecn)

    def answered(self, at_s: float, ecn: bool = False) -> None:
        self.synack(at_s, ecn)
        self.goes_on(at_s)

    def goes_on(self, at_s: float) -> None:
        self.there(at_s, "A", 1, 1)
        self.there(at_s, "PA", 1, 1, REQUEST)
        self.back(at_s + 0.02, "PA", 1, 1 + len(REQUEST), ANSWER)


def _options(stamp: int, echo: int) -> list[tuple[str | int, object]]:
    return [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (stamp, echo)), ("NOP", None), ("WScale", 7)]


Tell = Callable[[Story], None]
STORIES: dict[str, Tell] = {}


def story(tell: Tell) -> Tell:
    STORIES[tell.__name__] = tell
    return tell


@dataclass(frozen=True)
class Told:
    """What a replay says of all stories."""

    records: Sequence[Handshake]
    lines: Sequence[str]
    at_server: bool  # what came to the server has not been lost before

    def of(self, name: str) -> list[Handshake]:
        """In the order of the clients' ports."""
        server = _server(name)
        return sorted((one for one in self.records if one.server.ip == server), key=lambda one: one.client.port)

    def one(self, name: str) -> tuple[Handshake, str]:
        """A story's only record, and its line of text."""
        (found,) = self.of(name)
        (line,) = (line for line in self.lines if f"{_server(name)}:" in line)
        return found, line


def _server(name: str) -> str:
    return f"{NETWORK}.{list(STORIES).index(name) + 1}"


@pytest.fixture(scope="module", params=PLACES)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """All stories in one capture, as text and as records."""
    packets = []
    for number, tell in enumerate(STORIES.values(), 1):
        one = Story(number)
        tell(one)
        packets += one.packets
    path = _written(tmp_path_factory.mktemp("stories"), packets)
    client, server = PLACES[request.param]
    local = [CLIENT] * client + [_server(name) for name in STORIES] * server
    words = [word for address in local for word in ("--local", address)]
    records, _, done = replay(path, *words)
    text = run("replay", str(path), "--text", *words)
    assert (done.code, text.code) == (0, 0), (done, text)
    return Told(records, text.out.decode().splitlines(), server)


def _written(folder: Path, packets: Sequence[Packet]) -> Path:
    path = folder / "stories.pcap"
    path.write_bytes(pcap(RAW, sorted(packets, key=lambda one: one.at_ns)))
    return path


def fates(records: Sequence[Handshake]) -> list[tuple[str | None, str | None]]:
    return [(one.handshake.cause, one.handshake.cause_confidence) for one in records]


def in_line(cause: str, confidence: str) -> str:
    """A cause as lines have it."""
    return brief_cause(cause) + unless_certain(cause, {cause: confidence})


# --- answers that do not fit ---


def _in_vain(one: Story, flags: str, ack: int) -> None:
    talk = one.talk(1)
    for at_s in (0.0, 1.0, 3.0):
        talk.syn(at_s, asks=True)
        talk.back(at_s + 0.02, flags, ack=ack)


@story
def resets_of_the_syns_own_number(one: Story) -> None:
    """Which Linux ignores."""
    _in_vain(one, "RA", 0)


@story
def synacks_of_another_number(one: Story) -> None:
    _in_vain(one, "SA", 77_000)


@story
def one_reset_that_does_not_fit(one: Story) -> None:
    talk = one.talk(1)
    talk.syn()
    talk.back(0.02, "RA", ack=0)
    talk.answered(0.03)


@pytest.mark.parametrize(
    ("name", "misfits"), [("resets_of_the_syns_own_number", (3, 0)), ("synacks_of_another_number", (0, 3))]
)
def test_answers_that_do_not_fit(told: Told, name: str, misfits: tuple[int, int]) -> None:
    record, line = told.one(name)
    assert (record.handshake.result, record.tfo.outcome) == ("no_reply", "no_answer")
    assert record.handshake.misfits is not None
    assert (record.handshake.misfits.rst, record.handshake.misfits.synack) == misfits
    assert fates([record]) == [NO_FIT]
    assert in_line(*NO_FIT) in line
    assert "nothing" not in line.lower()


def test_one_that_does_not_fit_and_then_one_that_does(told: Told) -> None:
    record, _ = told.one("one_reset_that_does_not_fit")
    assert record.handshake.result == "established"
    assert fates([record]) == [NOTHING]


# --- ECN ---


@story
def syns_with_ecn_that_are_refused(one: Story) -> None:
    for port, flags in enumerate((ECN, "S", ECN, ECN), 1):
        talk = one.talk(port)
        if flags == ECN:
            talk.syn(0.0, flags)
            talk.back(0.02, "RA")
        else:
            talk.served()
        one.now_s += 1.0


def _vanishing(one: Story, flags: str, lost: int) -> None:
    for port in (1, 2):
        talk = one.talk(port)
        for again in range(lost):
            talk.syn(again * SECOND, flags)
        talk.served((2**lost - 1) * SECOND)
        one.now_s += 20


@story
def syns_with_ecn_that_vanish(one: Story) -> None:
    _vanishing(one, ECN, 1)


@story
def two_syns_with_ecn_that_vanish(one: Story) -> None:
    _vanishing(one, ECN, 2)


@story
def syns_with_accurate_ecn_that_vanish(one: Story) -> None:
    _vanishing(one, ACCURATE_ECN, 1)


@story
def losses_where_ecn_has_passed(one: Story) -> None:
    for port, lost in ((1, False), (2, True), (3, False), (4, True)):
        talk = one.talk(port)
        if lost:
            talk.syn(0.0, ECN)
            talk.served(SECOND)
        else:
            talk.served(0.0, ECN, ecn=True)
        one.now_s += 10


def test_ecn_is_blamed_for_a_refusal_once_a_plain_syn_was_taken(told: Told) -> None:
    records = told.of("syns_with_ecn_that_are_refused")
    assert [one.handshake.result for one in records] == ["rejected", "established", "rejected", "rejected"]
    first, plain, second, third = fates(records)
    if told.at_server:  # nobody can ask its host who refused
        assert {first, plain, second, third} <= {NOTHING, REFUSED, ECN_ONCE, ECN_AGAIN}
        return
    assert (first, plain) == (REFUSED, NOTHING)
    assert second in (ECN_ONCE, ECN_AGAIN)
    assert third == ECN_AGAIN


@pytest.mark.parametrize(
    ("name", "lost"),
    [("syns_with_ecn_that_vanish", 1), ("two_syns_with_ecn_that_vanish", 2), ("syns_with_accurate_ecn_that_vanish", 1)],
)
def test_ecn_is_blamed_where_only_plain_syns_are_taken(told: Told, name: str, lost: int) -> None:
    records = told.of(name)
    if told.at_server:  # its host itself took no notice of those that came
        assert fates(records) in ([NOTHING] * 2, [ECN_ONCE, ECN_AGAIN])
    else:
        assert fates(records) == [ECN_ONCE, ECN_AGAIN]
    for one in records:
        timing = one.handshake
        assert (timing.result, timing.answered_syn, timing.answered_ecn) == ("established", lost + 1, "none")
        assert timing.connect_us is not None
        assert timing.connect_us >= (2**lost - 1) * 900_000  # the kernel begins to count before the SYN is seen
        # the server was never asked, so it has not declined
        assert one.negotiated is None or one.negotiated.ecn != "none"


def test_ecn_is_not_blamed_where_it_has_passed(told: Told) -> None:
    first, second, third, fourth = fates(told.of("losses_where_ecn_has_passed"))
    assert (first, third) == (NOTHING, NOTHING)
    assert {second, fourth} <= {SOMETHING_LOST, LOST} or (told.at_server and second == fourth == NOTHING)


# --- SYN-ACKs after the ACK ---


def _synacks_again(one: Story, *requests_s: float) -> None:
    talk = one.talk(1)
    talk.syn()
    talk.synack(0.02)
    talk.there(0.021, "A", 1, 1)
    for at_s in requests_s:
        talk.there(at_s, "PA", 1, 1, REQUEST)
    for at_s in (1.02, 3.02, 7.02):
        talk.synack(at_s)
        talk.there(at_s + 0.001, "A", 1 + len(REQUEST) * bool(requests_s), 1)


@story
def synacks_again_to_a_client_that_asks(one: Story) -> None:
    _synacks_again(one, 0.022, 0.3, 0.8, 1.8)


@story
def synacks_again_to_a_client_that_waits(one: Story) -> None:
    _synacks_again(one)


@story
def a_client_that_never_sends(one: Story) -> None:
    talk = one.talk(1)
    talk.syn()
    talk.synack(0.02)
    talk.there(0.02, "A", 1, 1)
    talk.there(3.0, "FA", 1, 1)
    talk.back(3.02, "FA", 1, 2)
    talk.there(3.02, "A", 2, 2)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("synacks_again_to_a_client_that_asks", PERHAPS_FULL), ("synacks_again_to_a_client_that_waits", PERHAPS_DEFERRED)],
)
def test_synacks_again_after_the_ack(told: Told, name: str, wanted: tuple[str, str]) -> None:
    """What the server's counters say is not known: what the client sent makes the difference."""
    record, line = told.one(name)
    assert (record.handshake.result, record.handshake.after) == ("established", "synack_again")
    assert fates([record]) == [wanted]
    assert in_line(*wanted) in line


def test_who_never_sends_has_not_failed(told: Told) -> None:
    record, _ = told.one("a_client_that_never_sends")
    assert (record.handshake.result, record.handshake.after) == ("established", "closed_unused")
    assert fates([record]) == [NOTHING]


# --- half-open ones ---


def _half_open(one: Story, apart_s: float) -> None:
    for number in range(200):
        talk = one.talk(2000 + number, f"203.0.113.{number + 1}")
        talk.syn(number * apart_s)
        talk.synack(number * apart_s + 0.001)
    for port in range(3):
        one.talk(port + 1).served(0.5 + port)


@story
def a_flood_beside_three_real_ones(one: Story) -> None:
    _half_open(one, 0.01)


@story
def as_many_in_the_course_of_time(one: Story) -> None:
    """Fewer than a hundred in ten seconds."""
    _half_open(one, 0.2)


@story
def long_after_all_others(one: Story) -> None:
    """So that time goes on."""
    one.talk(1).served(120.0)


def test_a_flood(told: Told) -> None:
    records = told.of("a_flood_beside_three_real_ones")
    assert fates(records[:3]) == [NOTHING] * 3
    assert Counter(one.handshake.result for one in records[3:]) == {"half_open": 200}
    named = Counter(fates(records[3:]))
    assert named.keys() <= {FLOOD, UNFINISHED}
    # those that were settled after there were so many
    assert named[FLOOD] >= 100, named


def test_the_summary_names_the_listener_of_a_flood(tmp_path: Path) -> None:
    one = Story(1)
    a_flood_beside_three_real_ones(one)
    _, _, done = replay(_written(tmp_path, one.packets))
    (line,) = (line for line in done.said if "203 handshakes" in line)
    assert "3 established" in line
    assert f"200 half open at {one.server}:443" in line
    assert "SYN flood (likely)" in line


def test_as_many_in_the_course_of_time_are_no_flood(told: Told) -> None:
    records = told.of("as_many_in_the_course_of_time")
    assert set(fates(records[:3])) == {NOTHING}
    assert set(fates(records[3:])) == {UNFINISHED}


# --- options that cannot work ---

ODD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "mss 48": ({"options": [("MSS", 48)]}, ("mss_tiny",)),
    "mss 0": ({"options": [("MSS", 0)]}, ("mss_tiny",)),
    "mss 535": ({"options": [("MSS", 535)]}, ("mss_tiny",)),
    "no mss": ({"options": []}, ()),
    "mss 536": ({"options": [("MSS", 536)]}, ()),
    "window 0": ({"window": 0, "options": [("MSS", 1460)]}, ("window_zero",)),
    "wscale 15": ({"options": [("MSS", 1460), ("NOP", None), ("WScale", 15)]}, ("wscale_invalid",)),
    "wscale 14": ({"options": [("MSS", 1460), ("NOP", None), ("WScale", 14)]}, ()),
    "all": ({"window": 0, "options": [("MSS", 48), ("NOP", None), ("WScale", 15)]},
            ("mss_tiny", "window_zero", "wscale_invalid")),
}  # fmt: skip


@story
def odd_options_of_clients(one: Story) -> None:
    for port, (odd, _) in enumerate(ODD.values()):
        talk = one.talk(1000 + port)
        talk.there(0.0, "S", **odd)
        talk.back(0.02, "SA", options=[("MSS", 1460)], window=65160)
        talk.goes_on(0.02)


@story
def odd_options_of_servers(one: Story) -> None:
    for port, (odd, _) in enumerate(ODD.values()):
        talk = one.talk(1000 + port)
        talk.syn()
        talk.back(0.02, "SA", **odd)
        talk.goes_on(0.02)


WARNED = {"mss_tiny": "MSS tiny", "window_zero": "window 0", "wscale_invalid": "window scale above 14"}


@pytest.mark.parametrize("name", ["odd_options_of_clients", "odd_options_of_servers"])
@pytest.mark.parametrize("kind", ODD)
def test_options_that_cannot_work(told: Told, name: str, kind: str) -> None:
    _, warnings = ODD[kind]
    record = told.of(name)[list(ODD).index(kind)]
    assert set(record.warnings) == set(warnings)
    (line,) = (one for one in told.lines if f"{CLIENT}:{record.client.port} " in one and f"{_server(name)}:" in one)
    for word in warnings:
        assert WARNED[word] in line
    assert fates([record]) == [NOTHING]
