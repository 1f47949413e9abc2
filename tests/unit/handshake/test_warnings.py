"""Options that cannot work (tracer/handshake/warnings.py)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.events import blank
from tracer.handshake.warnings import warning_words, warnings
from tracer.vocabulary.vocabulary import Has

PLAIN = {"mss": 1460, "window": 64240, "wscale": 7}
USUAL = Has.SEGMENT | Has.MSS | Has.WSCALE


def warned(
    syn: dict[str, int] | None = None, synack: dict[str, int] | None = None, *, mtu: int = 0, family: int = 4,
    egress: bool = True,
) -> list[str]:  # fmt: skip
    """What is said of one handshake; without `synack` there was none."""
    events = blank(1)
    events["family"], events["egress"] = family, egress
    for name, changed in (("syn", syn or {}), ("synack", synack)):
        if changed is not None:
            for field, value in ({"has": USUAL} | PLAIN | changed).items():
                events[0][name][field] = value
    return list(warning_words(int(warnings(events, lambda index: mtu)[0])))


@pytest.mark.parametrize("end", ["syn", "synack"])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"mss": 48}, ["mss_tiny"]),
        ({"mss": 0}, ["mss_tiny"]),
        ({"mss": 535}, ["mss_tiny"]),
        ({"mss": 536}, []),
        # no option means 536
        ({"mss": 0, "has": Has.SEGMENT | Has.WSCALE}, []),
        ({"window": 0}, ["window_zero"]),
        ({"window": 1}, []),
        ({"wscale": 15}, ["wscale_invalid"]),
        ({"wscale": 14}, []),
        ({"wscale": 255, "has": Has.SEGMENT | Has.MSS}, []),
        ({"mss": 100, "window": 0, "wscale": 20}, ["mss_tiny", "window_zero", "wscale_invalid"]),
    ],
)
def test_options_of_either_end(end: str, changed: dict[str, int], words: list[str]) -> None:
    syn, synack = (changed, {}) if end == "syn" else ({}, changed)
    assert warned(syn, synack) == words


def test_without_a_synack_only_the_syn_is_looked_at() -> None:
    assert warned({}, None) == []
    assert warned({"window": 0}, None) == ["window_zero"]


@pytest.mark.parametrize(("family", "mtu"), [(4, 1500), (6, 1520)])
def test_a_segment_that_leaves_asks_for_too_much(family: int, mtu: int) -> None:
    for larger in ({"mss": 1461}, {"mss": 8960}):
        assert warned(larger, {}, mtu=mtu, family=family) == ["mss_above_mtu"]
        assert warned({}, larger, mtu=mtu, family=family, egress=False) == ["mss_above_mtu"]
        # the other end may take larger ones than this one sends
        assert warned({}, larger, mtu=mtu, family=family) == []
        assert warned(larger, {}, mtu=mtu, family=family, egress=False) == []
        assert warned(larger, larger, family=family) == [], "the MTU is not known"
    assert warned({"mss": 1460}, {}, mtu=mtu, family=family) == []
    assert warned({"mss": 9000, "has": Has.SEGMENT}, {}, mtu=mtu, family=family) == []


def test_each_interface_has_its_own_mtu() -> None:
    events = blank(3)
    events["family"], events["egress"], events["ifindex"] = 4, 1, (1, 2, 3)
    for field, value in ({"has": USUAL} | PLAIN).items():
        events["syn"][field] = value
    masks = warnings(events, {1: 1500, 2: 1492, 3: 0}.__getitem__)
    assert [warning_words(mask) for mask in masks.tolist()] == [(), ("mss_above_mtu",), ()]
    assert not len(warnings(events[:0], lambda index: 1500))
    assert not np.any(warnings(events[:1], lambda index: 65536))
