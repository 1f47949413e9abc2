"""Two artifacts of one source become one: programs of the second find the first one's maps by name."""

from __future__ import annotations

import pytest

from tracer.linux.bpfsys import MapInfo
from tracer.loader.artifact import Artifact, NotKeepableError, Program, joined


def one_map(name: str) -> MapInfo:
    return MapInfo(2, 0, 4, 8, 1, 0, name)


def made(maps: list[str], programs: dict[str, list[tuple[int, int]]]) -> Artifact:
    some = [Program(name, 3, bytes(64), refers, []) for name, refers in programs.items()]
    return Artifact(some, [one_map(name) for name in maps], b"")


def named(artifact: Artifact) -> dict[str, list[tuple[int, str]]]:
    return {one.name: [(at, artifact.maps[number].name) for at, number in one.maps] for one in artifact.programs}


def test_programs_keep_their_maps_and_get_the_order_asked_for() -> None:
    first = made(["a", "b", "c"], {"read": [(0, 0), (2, 2)]})
    second = made(["c", "a"], {"pair": [(1, 0), (3, 1)]})
    both = joined(first, second, ["pair", "read"])
    assert named(both) == {"pair": [(1, "c"), (3, "a")], "read": [(0, "a"), (2, "c")]}
    assert [one.name for one in both.programs] == ["pair", "read"]
    assert both.maps == first.maps


def test_a_map_that_the_first_does_not_have() -> None:
    with pytest.raises(NotKeepableError, match="same maps"):
        joined(made(["a"], {"read": []}), made(["z"], {"pair": [(0, 0)]}), ["read", "pair"])
