"""Every cause has its sentence, and it says what to do."""

from __future__ import annotations

import pytest

from tracer.vocabulary import vocabulary
from tracer.vocabulary.causes import CAUSES, HANDSHAKE_CAUSES, cause_sentences, short_cause
from tracer.vocabulary.vocabulary import Cause, Confidence, CookieCheck, HandshakeCause, word, words_or_null

# TFO.md section 4, spelled once more
DOCUMENTED = {
    "key_not_shared", "cookie_stale", "key_rotation", "child_failed", "not_supported", "server_disabled",
    "listener_disabled", "option_stripped", "queue_overflow", "syn_cookies", "cookie_not_required", "cookie_required",
    "packet_loss", "path_drops_syn_data", "payload_stripped", "path_breaks_after_accept", "client_address_changes",
    "cookie_per_address", "listener_key_differs", "option_malformed", "answered_before_listener",
}  # fmt: skip


def test_the_causes_are_those_of_the_document() -> None:
    assert {word(cause) for cause in Cause if cause} == DOCUMENTED


@pytest.mark.parametrize("members", [Cause, Confidence, CookieCheck])
def test_the_first_word_is_that_nothing_is_known(members: type[vocabulary.IntEnum]) -> None:
    assert words_or_null(members)[0] is None


def test_each_cause_is_explained() -> None:
    assert set(CAUSES) == {text for text in words_or_null(Cause) if text is not None}
    assert set(HANDSHAKE_CAUSES) == {text for text in words_or_null(HandshakeCause) if text is not None}
    assert not CAUSES.keys() & HANDSHAKE_CAUSES.keys()
    assert cause_sentences(None, "of_a_later_version") == ["of a later version"]


@pytest.mark.parametrize("cause", CAUSES | HANDSHAKE_CAUSES)
def test_a_sentence_is_one_and_says_what_to_do(cause: str) -> None:
    (sentence,) = cause_sentences(cause)
    assert sentence.endswith(".")
    assert sentence.isprintable()
    assert ": " in sentence, "what it is, a colon, what to do"
    assert sentence.count(". ") == 0


def test_a_cause_in_a_line() -> None:
    assert short_cause("key_not_shared", "likely") == "cause key not shared (likely)"
    assert short_cause("host_dropped", None) == "cause host dropped"
