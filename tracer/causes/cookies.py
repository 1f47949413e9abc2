"""Cookies that the server replaced: a key that is being changed, one that was, or several."""

from __future__ import annotations

import numpy as np

from tracer.causes.attempts import PeerHash
from tracer.causes.case import Case
from tracer.causes.peer_history import PeerHistory
from tracer.handshake.events import pick
from tracer.handshake.outcome import cookie_words, first_answers, first_cookie_words
from tracer.vocabulary.vocabulary import Cause, Confidence, CookieCheck, Outcome, Request

COOKIE_SENT = (Request.COOKIE, Request.COOKIE_AND_DATA)
REFUSED = (Outcome.DATA_NOT_ACKED_NEW_COOKIE, Outcome.COOKIE_ONLY_NEW_COOKIE)


def key_rotation(case: Case) -> None:
    """Data was taken and a cookie came back: a backup key matched."""
    rows = case.outcome_is(Outcome.DATA_ACKED_NEW_COOKIE)
    if not len(rows):
        return
    rows = rows[np.isin(case.batch.verdicts.request[rows], COOKIE_SENT)]
    events = pick(case.batch.events, rows)
    other = (cookie_words(events["syn"]) != first_cookie_words(events, np.arange(len(rows)))).any(axis=1)
    other |= events["syn"]["cookie_len"] != first_answers(events).cookie_len
    rows = rows[other]
    backup = case.causes.cookie_check[rows] == CookieCheck.VALID_BACKUP
    case.say(rows[backup], Cause.KEY_ROTATION, Confidence.CERTAIN)
    case.say(rows[~backup], Cause.KEY_ROTATION, Confidence.LIKELY)


def refused(case: Case, hashes: PeerHash, history: PeerHistory) -> None:
    """The cookie was refused and another one given."""
    rows = case.outcome_is(*REFUSED)
    if not len(rows):
        return
    with_cookie = np.isin(case.batch.verdicts.request[rows], COOKIE_SENT)
    # the client asked for a cookie and sent data, which the server takes only with a cookie
    case.say(rows[~with_cookie], Cause.COOKIE_REQUIRED, Confidence.LIKELY)
    rows = rows[with_cookie]
    tried = hashes.of(case.batch, rows)
    several = history.refused(tried)
    case.say(rows[several], Cause.KEY_NOT_SHARED, Confidence.LIKELY)
    rows = rows[~several]
    invalid = case.causes.cookie_check[rows] == CookieCheck.INVALID
    sure = invalid | history.accepted_before(hashes.of(case.batch, rows))
    case.say(rows[sure], Cause.COOKIE_STALE, Confidence.LIKELY)
    # the first refusal of all: a pool without a shared key begins like this too
    case.say(rows[~sure], Cause.COOKIE_STALE, Confidence.POSSIBLE)
