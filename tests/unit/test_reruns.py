"""Which tests may run again when they fail (tests/conftest.py)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import pytest_collection_modifyitems


def _reruns(item: pytest.Item) -> list[Any]:
    return [mark.kwargs["reruns"] for mark in item.iter_markers("flaky")]


@pytest.mark.parametrize(("marks", "usepdb", "reruns"), [
    (["root"], False, [1]), (["root"], True, []), (["slow"], False, []), ([], False, []),
])  # fmt: skip
def test_only_those_that_need_root_run_again_and_none_in_a_debugger(
    marks: list[str], usepdb: bool, reruns: list[int], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = pytest.Function.from_parent(request.node.parent, name="one", callobj=lambda: None)
    for mark in marks:
        item.add_marker(mark)
    monkeypatch.setattr(request.config.option, "usepdb", usepdb)
    pytest_collection_modifyitems(request.config, [item])
    assert _reruns(item) == reruns
