"""What a run does without, by what the kernel and the container give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tracer.linux import capabilities, kallsyms, listener_options
from tracer.loader import process_offsets, without
from tracer.loader.kernel_words import Words
from tracer.loader.load import Loaded, LoadOptions
from tracer.vocabulary.vocabulary import Transport

HEARD = Words(["freed_segment", "sent_reset"], {2: "NOT_SPECIFIED"}, {0: "NOT_SPECIFIED"})
ASKED = LoadOptions(kernel_reasons=True)
WHOLE = Loaded({}, {}, ASKED, HEARD, names_processes=True)


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that gives everything; its files are in the folder."""
    monkeypatch.setattr(capabilities, "effective", lambda: (1 << 41) - 1)
    monkeypatch.setattr(kallsyms, "is_open", lambda: True)
    monkeypatch.setattr(listener_options, "may_be_copied", lambda: True)
    monkeypatch.setattr(process_offsets, "sees_all_pids", lambda: True)
    for name in ("KERNEL", "LOCKDOWN", "KPTR_RESTRICT"):
        monkeypatch.setattr(without, name, tmp_path / name)
    (tmp_path / "KERNEL").touch()
    return tmp_path


def told(loaded: Loaded, refused: str = "", *, hears_drops: bool = True) -> dict[str, str]:
    return {one.what: one.text for one in without.without(loaded, refused, hears_drops=hears_drops)}


def test_where_everything_is_given_nothing_is_lacking() -> None:
    assert told(WHOLE) == {}


def test_why_no_process_is_named(host: Path) -> None:
    unnamed = replace(WHOLE, names_processes=False)
    assert "lets no program read its memory" in told(unnamed)["processes"]
    (host / "LOCKDOWN").write_text("none integrity [confidentiality]\n")
    assert "confidentiality" in told(unnamed)["processes"]
    (host / "KERNEL").unlink()
    assert "does not describe" in told(unnamed)["processes"]
    assert list(told(unnamed)) == ["processes"]


def test_nobody_asked_for_processes_or_reasons() -> None:
    quiet = replace(WHOLE, options=LoadOptions(details=False), words=None, names_processes=False)
    assert told(quiet) == {}


def test_a_capture_is_read_without_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "effective", lambda: 0)
    assert told(Loaded({}, {}, LoadOptions(replay=True))) == {}


def test_processes_of_one_pid_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_offsets, "sees_all_pids", lambda: False)
    assert "pid namespace" in told(WHOLE)["socket_owners"]


@pytest.mark.parametrize(("filtered", "why"), [(True, "a seccomp filter refuses"), (False, "Linux 5.6")])
def test_why_listeners_are_not_read(monkeypatch: pytest.MonkeyPatch, filtered: bool, why: str) -> None:
    monkeypatch.setattr(listener_options, "may_be_copied", lambda: False)
    monkeypatch.setattr(capabilities, "is_filtered", lambda: filtered)
    assert why in told(WHOLE)["listener_options"]


def test_why_there_are_no_reasons() -> None:
    old = replace(WHOLE, words=Words(why="this kernel does not say why it drops a packet: that takes Linux 5.17"))
    assert "Linux 5.17" in told(old)["drop_reasons"]
    assert "Linux 6.11" in told(replace(WHOLE, words=Words(["freed_segment"], {2: "X"})))["reset_reasons"]
    perf = replace(WHOLE, options=LoadOptions(kernel_reasons=True, transport=Transport.PERF), words=None)
    assert "ring buffer" in told(perf)["drop_reasons"]
    assert told(WHOLE, "not allowed", hears_drops=False) == {
        "drop_reasons": "records will not say why this host dropped a segment: not allowed"
    }
    assert told(WHOLE, "not allowed") == {
        "reset_reasons": "records will not say why this host sent a reset: not allowed"
    }


@pytest.mark.parametrize(
    ("bits", "restrict", "why", "named"),
    [
        (0, "1", "CAP_SYSLOG", ("CAP_SYSLOG",)),
        (0, "2", "kptr_restrict=2", ()),
        ((1 << 41) - 1, "2", "kptr_restrict=2", ()),
        ((1 << 41) - 1, "1", "/proc/kallsyms", ()),
    ],
)
def test_why_places_are_hidden(
    host: Path, monkeypatch: pytest.MonkeyPatch, bits: int, restrict: str, why: str, named: tuple[str, ...]
) -> None:
    monkeypatch.setattr(kallsyms, "is_open", lambda: False)
    monkeypatch.setattr(capabilities, "effective", lambda: bits)
    (host / "KPTR_RESTRICT").write_text(f"{restrict}\n")
    (places,) = (one for one in without.without(WHOLE) if one.what == "places")
    assert why in places.text
    assert places.capabilities == named
