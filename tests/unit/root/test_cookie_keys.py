"""SipHash and cookies against published vectors; verdicts while keys change, with the test's own clock."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from tracer.ipc.messages import CookieQuestion
from tracer.linux.siphash import siphash24, siphash24_each
from tracer.root.cookie_keys import READ_AGAIN_NS, CookieKeys, Others, cookie, network_of, parse_keys
from tracer.root.key_history import KeyHistory
from tracer.vocabulary.vocabulary import CookieCheck, CookieOrigin

VALID, VALID_BACKUP, INVALID, UNKNOWN = (
    CookieCheck.VALID, CookieCheck.VALID_BACKUP, CookieCheck.INVALID, CookieCheck.NONE
)  # fmt: skip
KEYS = [f"{number}0000001-00000002-00000003-00000004" for number in range(1, 5)]
FORGED = b"forged!!"


def mapped(text: str) -> bytes:
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


CLIENT, SERVER = mapped("192.0.2.1"), mapped("198.51.100.2")


# the first of the 64 vectors of the authors' reference implementation, and the paper's
@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 0x726FDB47DD0E0E31), (1, 0x74F839C593DC67FD), (2, 0x0D6C8009D9A94F5A), (3, 0x85676696D7FB7E2D),
     (15, 0xA129CA6149BE45E5)],
)  # fmt: skip
def test_siphash_gives_the_published_values(length: int, expected: int) -> None:
    assert siphash24(bytes(range(16)), bytes(range(length))) == expected


@pytest.mark.parametrize("length", [0, 1, 7, 8, 15, 16, 32])
def test_many_hashes_at_once_are_the_same(length: int) -> None:
    pairs = [(bytes([number]) * 15 + b"\xff", bytes([255 - number]) * length) for number in range(256)]
    for some in ([], pairs[:1], pairs):
        assert siphash24_each(some) == [siphash24(key, data) for key, data in some]


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        ("10.248.0.2", "192.168.0.2", "00abaaabe8e954c2"),
        ("10.248.0.3", "192.168.0.2", "1313a2da994a0951"),
        ("10.248.0.3", "192.168.0.3", "76d2c1c530f51f79"),
    ],
)
def test_cookies_are_the_kernels(client: str, server: str, expected: str) -> None:
    (key,) = parse_keys("a0bf63f7-ed803d81-cd641d30-cebc4a90")
    assert cookie(key, mapped(client), mapped(server)).hex() == expected


@pytest.mark.parametrize(
    "text", ["", "00000000-00000000-00000000-00000000", "1-2-3", "1-2-3-4-5", "x-y-z-w", "100000000-0-0-1", "-1-2-3-4"]
)
def test_what_is_no_key(text: str) -> None:
    assert parse_keys(text) == ()


def test_a_backup_key_stands_behind_a_comma() -> None:
    assert parse_keys(f"{KEYS[0]},{KEYS[1]}\n") == (*parse_keys(KEYS[0]), *parse_keys(KEYS[1]))


class Machine:
    """A host whose keys and time the test sets."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tcp_fastopen_key"
        self.now_ns = 1_000_000_000
        self.keys = CookieKeys(self.path, lambda: self.now_ns)

    def set(self, *keys: str) -> None:
        self.path.write_text(",".join(keys) + "\n")

    def later(self, ns: int = READ_AGAIN_NS) -> int:
        self.now_ns += ns
        self.keys.read()
        return self.now_ns

    def check(self, sent: bytes, given: bytes = b"", *, accepted: bool = False, at: int | None = None) -> CookieCheck:
        when = self.now_ns if at is None else at
        return self.keys.check(CookieQuestion(CLIENT, SERVER, sent, given, accepted, when))


def made_by(key: str) -> bytes:
    return cookie(parse_keys(key)[0], CLIENT, SERVER)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_a_key_nothing_is_known(machine: Machine) -> None:
    assert machine.check(FORGED, FORGED) is UNKNOWN
    machine.later()  # there is no such file
    assert machine.check(FORGED, FORGED) is UNKNOWN


def test_key_and_backup(machine: Machine) -> None:
    machine.set(KEYS[0], KEYS[1])
    machine.later()
    own, backup = made_by(KEYS[0]), made_by(KEYS[1])
    assert machine.check(own, accepted=True) is VALID
    assert machine.check(own) is VALID  # not taken all the same: a full queue, say
    assert machine.check(own, own) is VALID  # the same came back: no child
    assert machine.check(backup, own, accepted=True) is VALID_BACKUP
    assert machine.check(FORGED, own) is INVALID


def test_invalid_needs_a_proof_that_the_listener_uses_these_keys(machine: Machine) -> None:
    machine.set(KEYS[0])
    machine.later()
    assert machine.check(FORGED) is UNKNOWN
    assert machine.check(FORGED, accepted=True) is UNKNOWN
    assert machine.check(FORGED, made_by(KEYS[2])) is UNKNOWN  # another key gave that
    assert machine.check(FORGED, made_by(KEYS[0]), accepted=True) is UNKNOWN  # no cookie is asked for there
    assert machine.check(made_by(KEYS[0]), made_by(KEYS[2])) is UNKNOWN
    assert machine.check(made_by(KEYS[0])[:4], made_by(KEYS[0])) is INVALID


def test_keys_that_change_are_followed_and_the_old_ones_count_for_older_handshakes(machine: Machine) -> None:
    machine.set(KEYS[0])
    before = machine.later()
    machine.set(KEYS[1])
    # not read again so soon
    machine.later(READ_AGAIN_NS - 1)
    assert machine.keys.changes == 1
    after = machine.later()
    assert machine.keys.changes == 2
    old, new = made_by(KEYS[0]), made_by(KEYS[1])
    assert machine.check(old, accepted=True, at=before) is VALID
    later = machine.later()
    assert machine.check(old, new, at=later) is INVALID
    assert machine.check(new, accepted=True, at=later) is VALID
    # when exactly it changed is not known: what was given back tells, or that it was accepted
    between = (before + after) // 2
    assert machine.check(old, accepted=True, at=between) is VALID
    assert machine.check(old, new, at=between) is INVALID
    assert machine.check(old, at=between) is UNKNOWN
    assert machine.check(old, at=later) is UNKNOWN


def test_a_rotation_with_a_backup_is_told_from_the_time_before_it(machine: Machine) -> None:
    machine.set(KEYS[0])
    before = machine.later()
    machine.set(KEYS[1], KEYS[0])
    after = machine.later()
    old, new = made_by(KEYS[0]), made_by(KEYS[1])
    between = (before + after) // 2
    assert machine.check(old, new, accepted=True, at=between) is VALID_BACKUP
    assert machine.check(old, accepted=True, at=between) is VALID


def test_the_keys_are_not_in_what_is_printed_of_them(machine: Machine) -> None:
    machine.set(KEYS[0])
    machine.later()
    shown = repr(vars(machine.keys))
    assert "_Generation(" in shown
    assert repr(parse_keys(KEYS[0])[0]) not in shown


# --- listeners with keys of their own, and whose cookie it is ---

OTHER_SOCKET = CookieOrigin.OTHER_SOCKET
NOT_OURS, EARLIER, OTHER_LISTENER, OTHER_ADDRESS, NO_ORIGIN = (
    CookieOrigin.NOT_OURS, CookieOrigin.EARLIER_KEY, CookieOrigin.OTHER_LISTENER, CookieOrigin.OTHER_ADDRESS,
    CookieOrigin.UNKNOWN,
)  # fmt: skip


def history(*keys: str, at: int = 1) -> KeyHistory:
    made = KeyHistory()
    made.add(tuple(key for one in keys for key in parse_keys(one)), at)
    return made


@pytest.mark.parametrize(
    ("sent", "given", "accepted", "verdict"),
    [
        (made_by(KEYS[1]), b"", True, VALID),
        (made_by(KEYS[1]), b"", False, VALID),
        (made_by(KEYS[2]), made_by(KEYS[1]), True, VALID_BACKUP),
        (FORGED, made_by(KEYS[1]), False, INVALID),
        (made_by(KEYS[0]), made_by(KEYS[1]), False, INVALID),  # the namespace's key does not apply
        (FORGED, b"", False, UNKNOWN),
        (FORGED, made_by(KEYS[0]), False, UNKNOWN),
    ],
)
def test_a_listeners_own_keys_apply(
    machine: Machine, sent: bytes, given: bytes, accepted: bool, verdict: CookieCheck
) -> None:
    machine.set(KEYS[0])
    machine.later()
    asked = CookieQuestion(CLIENT, SERVER, sent, given, accepted, machine.now_ns, 443)
    assert machine.keys.check(asked, [history(KEYS[1], KEYS[2])]) is verdict


def test_listeners_of_one_address_with_different_keys(machine: Machine) -> None:
    machine.set(KEYS[0])
    now = machine.later()
    group = [history(KEYS[1]), history()]  # the second uses the namespace's
    own, spaces = made_by(KEYS[1]), made_by(KEYS[0])

    def check(sent: bytes, given: bytes, accepted: bool) -> CookieCheck:
        return machine.keys.check(CookieQuestion(CLIENT, SERVER, sent, given, accepted, now, 443), group)

    assert check(own, b"", True) is VALID
    assert check(spaces, b"", True) is VALID
    assert check(spaces, own, False) is INVALID  # the first one had it
    assert check(own, spaces, False) is INVALID
    assert check(own, b"", False) is UNKNOWN


@pytest.mark.parametrize("known", [[None], []])
def test_a_listener_that_cannot_be_read_is_judged_as_before(machine: Machine, known: list[KeyHistory | None]) -> None:
    machine.set(KEYS[0])
    now = machine.later()
    made = made_by(KEYS[0])
    assert machine.keys.check(CookieQuestion(CLIENT, SERVER, made, b"", True, now, 443), known) is VALID
    assert machine.keys.check(CookieQuestion(CLIENT, SERVER, FORGED, made, False, now, 443), known) is INVALID
    assert machine.keys.check(CookieQuestion(CLIENT, SERVER, FORGED, b"", False, now, 443), known) is UNKNOWN


def test_whose_cookie_it_is(machine: Machine) -> None:
    machine.set(KEYS[0], KEYS[3])
    machine.later()
    machine.set(KEYS[1])
    machine.later()
    now = machine.later()
    given = made_by(KEYS[1])
    other, everything = history(KEYS[2]), Others([history(KEYS[2])], complete=True)

    def origin(
        sent: bytes, listeners: list[KeyHistory | None] | None = None, others: Others = everything, back: bytes = given
    ) -> CookieOrigin:
        asked = CookieQuestion(CLIENT, SERVER, sent, back, False, now, 443)
        known = listeners if listeners is not None else [history()]
        check = machine.keys.check(asked, known)
        return machine.keys.origin(asked, check, known, others, network_of(SERVER))

    assert origin(made_by(KEYS[0])) is EARLIER
    assert origin(made_by(KEYS[3])) is EARLIER  # it was the backup key
    assert origin(made_by(KEYS[2])) is OTHER_LISTENER
    assert origin(cookie(parse_keys(KEYS[1])[0], CLIENT, mapped("198.51.100.77"))) is OTHER_ADDRESS
    assert origin(cookie(parse_keys(KEYS[1])[0], CLIENT, mapped("198.51.101.77"))) is NOT_OURS
    assert origin(FORGED) is NOT_OURS
    assert origin(FORGED[:4]) is NOT_OURS
    # not all keys are known
    assert origin(FORGED, others=Others()) is NO_ORIGIN
    assert origin(FORGED, [None]) is NO_ORIGIN
    assert origin(made_by(KEYS[0]), [None], Others()) is EARLIER
    assert origin(FORGED, back=made_by(KEYS[3])) is NO_ORIGIN
    # a listener with a key of its own
    assert origin(given, [other], back=made_by(KEYS[2])) is OTHER_LISTENER
    changed = history(KEYS[0])
    changed.add(parse_keys(KEYS[2]), 2)
    assert origin(made_by(KEYS[0]), [changed], back=made_by(KEYS[2])) is EARLIER
    # one of another key in the same group
    assert origin(given, [other, history()], back=made_by(KEYS[2])) is OTHER_LISTENER
    assert origin(made_by(KEYS[2]), [other, history()]) is OTHER_SOCKET
    # when exactly they changed is not known, but one of the two is proven
    just = history(KEYS[0])
    just.add(parse_keys(KEYS[2]), now + 1)
    assert origin(made_by(KEYS[0]), [just], back=made_by(KEYS[2])) is EARLIER


def test_a_key_that_came_and_went_before_it_was_read(machine: Machine) -> None:
    machine.later()  # no key yet
    machine.set(KEYS[1])
    now = machine.later()
    asked = CookieQuestion(CLIENT, SERVER, made_by(KEYS[0]), made_by(KEYS[1]), False, now, 443)
    check = machine.keys.check(asked, [history()])
    assert check is INVALID
    assert machine.keys.origin(asked, check, [history()], Others(complete=True), network_of(SERVER)) is NO_ORIGIN


def test_without_keys_no_origin(machine: Machine) -> None:
    machine.later()
    asked = CookieQuestion(CLIENT, SERVER, FORGED, made_by(KEYS[0]), False, machine.now_ns, 443)
    assert machine.keys.origin(asked, UNKNOWN, [], Others(complete=True), network_of(SERVER)) is NO_ORIGIN
