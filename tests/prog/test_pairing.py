"""What each segment does to a handshake (DESIGN.md section 4), through the real programs."""

from __future__ import annotations

import pytest

from tests.support.pairing_ends import ENDS, REFUSED, TIMED
from tests.support.pairing_entries import ENTRIES
from tests.support.pairing_foreign import FOREIGN
from tests.support.pairing_isns import ISNS
from tests.support.pairing_life import LIFE
from tests.support.pairing_mirrored import MIRRORED
from tests.support.pairing_places import PLACES
from tests.support.pairing_reordered import REORDERED
from tests.support.pairing_resumed import RESUMED
from tests.support.pairing_tagged import TAGGED
from tests.support.pairing_usual import APART, ORDINARY, REPEATED
from tests.support.sentences import Sentence, tell
from tests.support.testrun import Programs, Road

SENTENCES = [*ORDINARY, *REPEATED, *REFUSED, *ENDS, *TIMED, *APART]
SENTENCES += [*LIFE, *ISNS, *REORDERED, *MIRRORED, *FOREIGN, *ENTRIES, *RESUMED, *TAGGED, *PLACES]


@pytest.mark.parametrize("sentence", SENTENCES, ids=str)
def test_sentence(timed: Programs, sentence: Sentence) -> None:
    tell(sentence, timed, None)


@pytest.mark.parametrize("road", list(Road))
@pytest.mark.parametrize("sentence", [s for s in SENTENCES if not s.clocked], ids=str)
def test_sentence_at_full_speed(programs: Programs, sentence: Sentence, road: Road) -> None:
    tell(sentence, programs, road)


def test_ack_of_a_settled_connection_stops_at_the_tags(timed: Programs) -> None:
    """Nothing is left in the set's tags, so its further segments are not even looked up."""
    tell(ORDINARY[0], timed, None)
    assert all(timed.tags(i) == 0 for i in range(timed.sets))
