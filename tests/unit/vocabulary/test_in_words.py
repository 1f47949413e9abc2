"""Every word of the vocabulary reads well in lists: abbreviations in capitals, and filters take what is shown."""

from __future__ import annotations

import re

import pytest

from tracer.filters.fields import FIELDS, Field, Kind
from tracer.filters.values import spellings, word_of
from tracer.vocabulary.fates import BRIEF_CAUSES
from tracer.vocabulary.in_words import WORDS, in_words

# what texts write in capitals
_CAPITALS = re.compile(r"\b(ack|ecn|dns|fin|http|icmp|mss|mtu|nat|rst|syns?|synacks?|tcp|tfo|tls)\b")
# what records of some fields say is shown as it stands there
_AS_IT_IS = ("handshake.drop.at", "hook", "tfo.group")
_FIELDS = [one for one in FIELDS.values() if one.kind is Kind.WORD and one.name not in _AS_IT_IS]


@pytest.mark.parametrize("field", _FIELDS, ids=lambda one: one.name)
def test_words_of_lists_have_capitals_and_filters_take_them(field: Field) -> None:
    for word in field.words:
        shown = BRIEF_CAUSES.get(word, in_words(word)) if field.name == "handshake.cause" else in_words(word)
        assert not _CAPITALS.search(shown), (field.name, word, shown)
        assert "_" not in shown
        assert shown in spellings(field, word)
        assert word_of(field, shown) == word


def test_no_two_words_are_shown_alike() -> None:
    assert len(set(WORDS.values())) == len(WORDS)


def test_what_only_a_later_version_knows() -> None:
    assert in_words("never_heard_of") == "never heard of"
    assert in_words("") == ""
