"""The pictures in docs/ and the golden texts match the app; `python scripts/picture.py` makes them again."""

from __future__ import annotations

import pytest

from tests.tui.pictures import SCREENS, SVG_FOLDER, TEXT_FOLDER, svg, text

ANEW = "look at it, then: .venv/bin/python scripts/picture.py"


@pytest.mark.parametrize("screen", SCREENS)
def test_text_of_each_screen(screen: str) -> None:
    assert text(screen) == (TEXT_FOLDER / f"{screen}-80x24.txt").read_text(), ANEW


@pytest.mark.parametrize("screen", SCREENS)
def test_picture_of_each_screen(screen: str) -> None:
    assert svg(screen) == (SVG_FOLDER / f"{screen}.svg").read_text(), f"docs/{screen}.svg is another: {ANEW}"
