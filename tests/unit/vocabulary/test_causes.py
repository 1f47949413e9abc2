"""Every cause has its sentence, and it says what to do."""

from __future__ import annotations

import pytest

from tracer.vocabulary import vocabulary
from tracer.vocabulary.causes import (
    CAUSES,
    HANDSHAKE_CAUSES,
    WARNINGS,
    handshake_sentence,
    short_cause,
    tfo_sentence,
)
from tracer.vocabulary.vocabulary import (
    WARNING_WORDS,
    Cause,
    Confidence,
    CookieCheck,
    HandshakeCause,
    word,
    words_or_null,
)

# TFO.md section 4, spelled once more
DOCUMENTED = {
    "key_not_shared", "cookie_stale", "key_rotation", "child_failed", "not_supported", "server_disabled",
    "listener_disabled", "option_stripped", "queue_overflow", "syn_cookies", "cookie_not_required", "cookie_required",
    "packet_loss", "path_drops_syn_data", "payload_stripped", "path_breaks_after_accept", "client_address_changes",
    "cookie_per_address", "listener_key_differs", "option_malformed", "answered_before_listener",
}  # fmt: skip

# and section 8
DOCUMENTED_FATES = {
    "host_dropped", "no_listener", "firewall_rejected", "refused", "answered_on_path", "answer_does_not_fit",
    "nat_one_way", "not_forwarded", "no_answer_beyond", "packet_loss", "filtered_or_down", "no_route_back",
    "accept_queue_full", "syn_queue_full", "accept_deferred", "syn_cookies", "syn_flood", "ack_missing", "synack_lost",
    "syn_or_synack_lost", "slow_answer", "ecn_blocked", "port_still_in_use", "client_gave_up",
    "silent_after_established", "reset_after_established",
}  # fmt: skip


def test_the_causes_are_those_of_the_document() -> None:
    assert {word(cause) for cause in HandshakeCause if cause} == DOCUMENTED_FATES
    assert {word(cause) for cause in Cause if cause} == DOCUMENTED


@pytest.mark.parametrize("members", [Cause, Confidence, CookieCheck])
def test_the_first_word_is_that_nothing_is_known(members: type[vocabulary.IntEnum]) -> None:
    assert words_or_null(members)[0] is None


def test_each_cause_is_explained() -> None:
    assert set(CAUSES) == {text for text in words_or_null(Cause) if text is not None}
    assert set(HANDSHAKE_CAUSES) == {text for text in words_or_null(HandshakeCause) if text is not None}
    assert set(WARNINGS) == set(WARNING_WORDS)
    assert tfo_sentence("of_a_later_version") == handshake_sentence("of_a_later_version") == "of a later version"


@pytest.mark.parametrize("sentence", [*CAUSES.values(), *HANDSHAKE_CAUSES.values(), *WARNINGS.values()])
def test_a_sentence_is_one_and_says_what_to_do(sentence: str) -> None:
    assert sentence.endswith(".")
    assert sentence.isprintable()
    assert ": " in sentence, "what it is, a colon, what to do"
    assert sentence.count(". ") == 0


def test_a_cause_in_a_line() -> None:
    assert short_cause("key_not_shared", "likely") == "cause key not shared (likely)"
    assert short_cause("host_dropped", None) == "cause host dropped"
