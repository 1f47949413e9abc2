"""Durations read alike on the command line, in filters and in the dashboard's settings."""

from __future__ import annotations

import pytest

from tracer.aggregate.history import Window
from tracer.cli import arguments
from tracer.errors import UsageError
from tracer.filters.filter import parse as parse_filter
from tracer.vocabulary import spans
from tui.settings import parse as parse_settings

OPTIONS = {"--duration": "duration", "--response-timeout": "response_timeout", "--rotate-time": "rotate_time"}
READ = {"30s": 30, "5m": 300, "5 min": 300, "1.5h": 5400, "1d": 86400, "2000ms": 2, "90": 90, "0.5h": 1800, "3.": 3}
WRONG = ["", "soon", "5 minutes", "5 m in", "1h30m", "s", "5mm", "1e3", "0x10", "nan", "inf", "٣", "5\n", "5  m"]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("text", READ)
def test_options_read_durations(option: str, text: str) -> None:
    options = arguments.trace_parser().parse_args(["eth0", option, text])
    assert getattr(options, OPTIONS[option]) == READ[text]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("text", [*WRONG, "0", "0s", "-1", "99999999d"])
def test_options_refuse_what_is_no_duration_above_0(option: str, text: str) -> None:
    with pytest.raises(UsageError, match=spans.HOW):
        arguments.trace_parser().parse_args(["eth0", f"{option}={text}"])


@pytest.mark.parametrize("text", [text for text in READ if spans.has_unit(text)])
def test_filters_read_the_same(text: str) -> None:
    assert parse_filter(f"rtt == '{text}'")
    assert spans.microseconds(text, "us") == READ[text] * 1_000_000


@pytest.mark.parametrize("text", ["soon", "5 minutes", "1h30m"])
def test_filters_refuse_with_the_same_words(text: str) -> None:
    with pytest.raises(UsageError, match=spans.HOW):
        parse_filter(f"rtt > '{text}'")


@pytest.mark.parametrize(
    ("text", "window"),
    [("1m", Window.MINUTE), ("60s", Window.MINUTE), ("5 min", Window.FIVE_MINUTES), ("300", Window.FIVE_MINUTES),
     ("1h", Window.HOUR), ("60m", Window.HOUR), ("all", Window.ALL)],
)  # fmt: skip
def test_settings_read_the_same(text: str, window: Window) -> None:
    settings, unknown = parse_settings(f'window = "{text}"')
    assert (settings.window, unknown) == (window, ())


def test_filters_compare_with_what_records_say() -> None:
    """No rounding on the way: 66.1 µs are 66.1."""
    for number in ("66.1", "0.1", "812.4", "1.005"):
        assert spans.microseconds(f"{number}us", "us") == float(number)
