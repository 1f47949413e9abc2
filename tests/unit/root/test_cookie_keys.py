"""SipHash and cookies against published vectors; verdicts while keys change, with the test's own clock."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from tracer.ipc.messages import CookieQuestion
from tracer.linux.siphash import siphash24
from tracer.root.cookie_keys import READ_AGAIN_NS, CookieKeys, cookie, parse_keys
from tracer.vocabulary.vocabulary import CookieCheck

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
