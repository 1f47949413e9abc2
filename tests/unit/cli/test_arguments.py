"""Wrong usage gives one sentence and exit status 2; commands take precedence over interfaces."""

from __future__ import annotations

import json
import shlex

import pytest

from tracer.cli import arguments
from tracer.cli import main as cli
from tracer.errors import UsageError
from tracer.vocabulary.vocabulary import HookChoice, Transport


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--duration", "-1", "eth0"],
        ["--duration", "0", "eth0"],
        ["--duration", "nan", "eth0"],
        ["--count", "0", "eth0"],
        ["--count", "1.5", "eth0"],
        ["--table-size", "0", "eth0"],
        ["--table-size", "99999999999", "eth0"],
        ["--response-timeout", "soon", "eth0"],
        ["--hook", "kprobe", "eth0"],
        ["--transport", "pigeon", "eth0"],
        ["--json", "--text", "eth0"],
        ["--no-such-option", "eth0"],
        ["eth0", "eth0"],
        ["any", "eth0"],
        ["--filter-record"],
        ["--rotate-size", "10M", "eth0"],
        ["demo", "--rotate-time", "1h"],
        ["replay", "no/such/file", "--rotate-time", "1h"],
        ["--prometheus-peers", "3", "eth0"],
        ["demo", "--prometheus-peers", "3"],
        ["-w", "-", "eth0"],
        ["replay", "no/such/file", "-w", "-"],
        ["replay"],
        ["replay", "no/such/file"],
        ["replay", "a", "b"],
        ["replay", "file", "-w", "x.pcapng"],
        ["replay", "file", "--prometheus", "9435"],
        ["doctor", "--text"],
        ["schema", "extra"],
    ],
)
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("tfotrace: ")


def test_every_option_reaches_its_place() -> None:
    options = arguments.trace_parser().parse_args(
        shlex.split(
            "eth0 eth1+eth2 -i demo --json --hook xdp --duration 1.5 --count 7 --netns blue --response-timeout 2 "
            "--table-size 1000 --transport perf --user nobody --show-cookies --ready-file r -w a -w b"
        )
    )
    assert options.interfaces == ["eth0", "eth1+eth2"]
    assert options.more_interfaces == ["demo"]
    assert options.hook is HookChoice.XDP
    assert (options.duration, options.count, options.response_timeout) == (1.5, 7, 2.0)
    assert (options.table_size, options.transport) == (1000, Transport.PERF)
    assert [str(path) for path in options.write] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "interfaces"),
    [
        ("eth0 --json eth1", ["eth0", "eth1"]),
        ("--json eth0 eth1 --count 3 eth2", ["eth0", "eth1", "eth2"]),
        ("eth0 --json -- -weird", ["eth0", "-weird"]),
        ("-- -weird", ["-weird"]),
    ],
)
def test_interfaces_may_stand_anywhere(words: str, interfaces: list[str]) -> None:
    assert arguments.trace_options(shlex.split(words)).interfaces == interfaces


def test_defaults_are_those_of_the_contract() -> None:
    options = arguments.trace_parser().parse_args(["eth0"])
    assert options.hook is HookChoice.AUTO
    assert options.response_timeout == 5.0
    assert options.table_size == 65536
    assert options.transport is None


def test_schema_is_json_and_knows_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"Start", "Handshake", "Stats", "NoticeRecord", "End", "Report"} <= schema["$defs"].keys()
    assert "tfo" in schema["$defs"]["Handshake"]["properties"]


@pytest.mark.parametrize(
    "words", [["--help"], ["demo", "--help"], ["detach", "--help"], ["doctor", "--help"], ["--version"]]
)
def test_help_and_version_end_well(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 0
    assert "tfotrace" in capsys.readouterr().out


def test_the_parser_raises_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"--count.*see tfotrace --help"):
        arguments.trace_parser().parse_args(["--count", "none"])
