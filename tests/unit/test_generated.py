"""What follows from definitions of the program is as it would be written now."""

from __future__ import annotations

from tests.support.generated import texts


def test_generated_files_are_current() -> None:
    for path, text in texts():
        assert path.read_text() == text, f"{path.name} does not fit the program: make generate"
