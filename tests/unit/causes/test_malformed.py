"""Fast Open options of a wrong length, from their bytes."""

from __future__ import annotations

import pytest

from tests.support.events import blank
from tracer.causes.malformed import malformed_options
from tracer.vocabulary.vocabulary import Has

MSS = bytes((2, 4, 5, 180))


@pytest.mark.parametrize(
    ("options", "flags", "is_malformed"),
    [
        (MSS + bytes((34, 3, 1)), Has.TFO_MALFORMED, True),
        (MSS + bytes((34, 3, 1, 34, 2)), Has.TFO_MALFORMED | Has.TFO, False),
        (MSS + bytes((34, 0, 1, 1)), Has.BAD_OPTIONS, True),
        (MSS + bytes((34, 1, 1, 1)), Has.BAD_OPTIONS, True),
        (MSS + bytes((1, 1, 34, 10)), Has.BAD_OPTIONS, True),
        (MSS + bytes((1, 1, 1, 34)), Has.BAD_OPTIONS, True),
        (MSS + bytes((254, 12, 0xF9, 0x89)), Has.BAD_OPTIONS, True),
        (MSS + bytes((254, 12, 0xE2, 0xD4)), Has.BAD_OPTIONS, False),
        (MSS + bytes((254, 12)), Has.BAD_OPTIONS, False),
        (MSS + bytes((8, 10, 34, 0)), Has.BAD_OPTIONS, False),
        # a sound one before the bad rest counts
        (MSS + bytes((34, 2, 34, 0)), Has.BAD_OPTIONS | Has.TFO, False),
        # behind the end of options there is no option
        (MSS + bytes((0, 34, 0, 0)), Has(0), False),
        (b"", Has.BAD_OPTIONS, False),
    ],
)
def test_where_the_walk_ended(options: bytes, flags: Has, is_malformed: bool) -> None:
    events = blank(1)
    syn = events["syn"]
    syn["has"], syn["options_len"] = Has.SEGMENT | flags, len(options)
    syn["options"][0][: len(options)] = list(options)
    assert malformed_options(events).tolist() == ([0] if is_malformed else [])
