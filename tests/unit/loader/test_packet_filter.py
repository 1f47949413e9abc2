"""--filter: what libpcap compiles, what is refused, and that a wrong expression gives one sentence."""

from __future__ import annotations

import os
import random
import re

import pytest

from tests.support.syns import Expressions
from tracer.cli import main as cli
from tracer.errors import CannotTraceError, UsageError
from tracer.ipc.event_header import constant, struct
from tracer.loader import filter_program, packet_filter
from tracer.loader.filter_program import UntranslatableError, translate
from tracer.loader.load import STAGES
from tracer.loader.packet_filter import Instruction, parse

SEED = int(os.environ.get("TFOTRACE_SEED", "7413"))


def test_both_link_types_are_compiled() -> None:
    found = parse("tcp dst port 443")
    assert found.without_link is not None
    assert found.ethernet != found.without_link
    assert found.ethernet[-1].code == found.without_link[-1].code == 0x06


def test_what_needs_a_link_header_is_kept_from_interfaces_without() -> None:
    found = parse("ether host 02:00:00:00:00:01")
    assert found.without_link is None
    assert "ethernet" in found.why_not.lower()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tcp prot 443", "syntax error"),
        ("port nosuchservice", "nosuchservice"),
        ("(tcp", "syntax error"),
        ("ip and ip6", "rejects all packets"),
        ("tcp[0:3] = 1", "data size"),
        ("ether host 1", "link layer address"),
        ("host 1.2.3.4.5", "1.2.3.4.5"),
        ("net 10.0.0.1/8", "non-network bits"),
        ("ip protochain 6", "loop"),
        ("inbound", "not in the packet"),
        ("port 99999", "99999"),
        ("tcp\0", "NUL"),
        ("x" * 70_000, "65,536"),
        ("\x1b[31m", ""),
    ],
)
@pytest.mark.parametrize("command", [["lo"], ["demo"]])
def test_a_wrong_expression_is_one_sentence_whoever_asks(
    command: list[str], text: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    assert cli.main([*command, "--filter", text]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("tfotrace: --filter: ")
    assert says in line
    assert line.isprintable()


def test_too_long_an_expression_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_filter, "INSTRUCTIONS_MAX", 10)
    with pytest.raises(UsageError, match=r"instructions of at most 10: shorten it"):
        parse("tcp port 80 or tcp port 443")


def test_without_libpcap_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tracer.linux import libpcap

    monkeypatch.setattr(libpcap, "NAMES", ("libpcap.so.none",))
    libpcap.library.cache_clear()
    try:
        with pytest.raises(CannotTraceError, match=r"apt-get install libpcap0\.8"):
            parse("tcp")
        assert cli.main(["lo", "--filter", "tcp"]) == 3
        assert len(capsys.readouterr().err.splitlines()) == 1
    finally:
        libpcap.library.cache_clear()


def test_slots_and_offsets_are_those_of_the_c_side() -> None:
    # read from the headers: what stays to be shown is that they are apart and that the head fits
    slots = [constant(f"STAGE_{name.upper()}") for name in STAGES]
    slots += [filter_program.STAGE_FILTER, filter_program.STAGE_FILTER_NO_LINK]
    assert sorted(slots) == list(range(constant("STAGES")))
    assert slots[0] == filter_program.STAGE_PAIR
    state = struct("filter_state")
    assert [one.name for one in state.fields] == ["unwanted", "offset", "head"]
    assert state.field("head").count >= filter_program.HEAD


def damaged(text: str, pick: random.Random) -> str:
    """An expression with some characters gone, doubled, moved or replaced."""
    letters = list(text)
    for _ in range(pick.randint(1, 4)):
        at = pick.randrange(len(letters) + 1)
        odd = pick.choice(
            ["(", ")", "!", "[", "]", "\\", ":", "/", "&", "|", "0", "9", "x", "\n", "\t", "\x7f", "é", "\udcff"]
        )
        way = pick.randrange(4)
        if way == 0:
            letters[at : at + pick.randint(1, 5)] = []
        elif way == 1:
            letters.insert(at, odd)
        elif way == 2:
            letters[at:at] = letters[max(0, at - 6) : at]
        else:
            letters[at : at + 1] = [odd]
    return "".join(letters)


_WORD = re.compile(r"[\w.:/\\-]+")
_NUMBER = re.compile(r"\d{1,9}|0x[0-9a-f]{1,8}")


def words_of(text: str) -> set[str]:
    return {word for word in _WORD.findall(text) if not _NUMBER.fullmatch(word)}


def test_damaged_expressions_are_understood_or_refused() -> None:
    maker = Expressions(SEED)
    known = set().union(*(words_of(maker.expression(2)) for _ in range(2000)))
    refused = understood = 0
    while refused + understood < 3000:
        text = damaged(maker.expression(2), maker.random)
        if not words_of(text) <= known:
            continue  # libpcap would ask a name server what host that is
        try:
            found = parse(text)
        except UsageError as error:
            refused += 1
            sentence = str(error)
            if "\n" in sentence or not sentence.startswith("--filter: "):
                pytest.fail(f"seed {SEED}: {text!a}: {sentence!a}")
        else:
            understood += 1
            for code, ethernet in ((found.ethernet, True), (found.without_link, False)):
                for xdp in (False, True):
                    if code is not None:
                        translate(code, xdp=xdp, ethernet=ethernet, replay=False, state_fd=3, stages_fd=4)
    assert refused > 500
    assert understood > 100


@pytest.mark.parametrize("code", [0x28, 0x40, 0xFFFF, 0x07, 0x05])
def test_what_libpcap_never_makes_is_no_program(code: int) -> None:
    broken = (Instruction(code, 0, 0, 0),)
    with pytest.raises(UntranslatableError):
        translate(broken, xdp=False, ethernet=True, replay=False, state_fd=3, stages_fd=4)
