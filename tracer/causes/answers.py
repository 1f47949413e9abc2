"""Answers that ended a handshake or do not belong to it: resets, ICMP errors, what answers in a server's place."""

from __future__ import annotations

import numpy as np

from tracer.causes.asked import Asked
from tracer.causes.attempts import HOPS
from tracer.causes.server_memory import Noted, ServerMemory
from tracer.handshake.ecn import asks_for_ecn
from tracer.handshake.events import U8, Bool, among
from tracer.vocabulary.vocabulary import CauseAt, Confidence, HandshakeCause, HandshakeResult, ResetFrom

# destination unreachable: administratively prohibited, and what is a kind of it (RFC 1812, 5.2.7.1; RFC 4443, 3.1)
_PROHIBITED_V4, _PROHIBITED_V6 = (9, 10, 13), (1, 5, 6)
_UNREACHABLE_V4, _UNREACHABLE_V6 = 3, 1
ODD_HOPS = 30  # hardly anything is as far away


def judge_answers(asked: Asked, noted: Noted, servers: ServerMemory) -> None:
    """Give causes to rows that were answered by something else than a SYN-ACK that fits, or by two hosts."""
    _prohibited(asked)
    by_server = asked.events["reset_from"] == ResetFrom.SERVER
    elsewhere = by_server & asked.reset_elsewhere
    refused = asked.is_result(HandshakeResult.REJECTED) & elsewhere
    aborted = asked.is_result(HandshakeResult.ABORTED) & elsewhere
    ttl = asked.events["reset_ttl"]
    fits, strange = asked.where(refused, lambda rows, at: servers.distance(noted, rows, ttl[at]))
    of_two = asked.answered & ~_is_odd(asked.events["synack"]["ttl"]) & ~asked.reset_fits_synack
    # A host in front of a container refuses by itself once the container is gone.
    one_nearer = strange & asked.whether(strange, lambda rows: servers.is_one_nearer(noted, rows))
    on_path = (strange & ~one_nearer) | (of_two & elsewhere)
    on_path = (on_path & ~_is_odd(ttl)) | _two_answers(asked) | _from_elsewhere(asked, noted, servers)
    asked.blame(on_path, HandshakeCause.ANSWERED_ON_PATH, Confidence.LIKELY, CauseAt.PATH)
    _ecn_refused(asked, refused, noted, servers)
    sure = fits | (aborted & asked.reset_fits_synack)
    asked.blame(sure, HandshakeCause.REFUSED, Confidence.LIKELY, CauseAt.SERVER)
    unanswered = asked.is_result(HandshakeResult.NO_REPLY)
    asked.blame(unanswered & asked.misfit, HandshakeCause.ANSWER_DOES_NOT_FIT, Confidence.LIKELY)
    asked.blame(one_nearer, HandshakeCause.ANSWERED_ON_PATH, Confidence.POSSIBLE, CauseAt.PATH)
    asked.blame(refused, HandshakeCause.REFUSED, Confidence.POSSIBLE)


def judge_own_resets(asked: Asked) -> None:
    """This host has reset the SYN, and its socket table, read before and after that, says that nobody listens.

    Where the kernel says why it drops segments, its word is waited for: what is bridged or translated looks alike.
    """
    rejected = asked.is_result(HandshakeResult.REJECTED) & (asked.events["reset_from"] == ResetFrom.SERVER)
    listening = asked.listening
    own = asked.at_server & (HOPS.take(asked.events["reset_ttl"]) == 0)
    nobody = rejected & own & listening.known & listening.nobody & ~listening.changed
    asked.blame(nobody & listening.since_before, HandshakeCause.NO_LISTENER, Confidence.CERTAIN, CauseAt.THIS_HOST)
    # a program may have listened behind a packet filter, and ended since
    asked.blame(nobody, HandshakeCause.NO_LISTENER, Confidence.LIKELY, CauseAt.THIS_HOST)


def _prohibited(asked: Asked) -> None:
    unreachable = asked.is_result(HandshakeResult.UNREACHABLE) & ~asked.at_server
    if not unreachable.any():
        return
    kind, code, is_v4 = asked.events["icmp_type"], asked.events["icmp_code"], asked.events["family"] == 4
    prohibited = np.where(is_v4, among(_PROHIBITED_V4).take(code), among(_PROHIBITED_V6).take(code))
    prohibited &= kind == np.where(is_v4, _UNREACHABLE_V4, _UNREACHABLE_V6)
    asked.blame(prohibited & unreachable, HandshakeCause.FIREWALL_REJECTED, Confidence.LIKELY)


def _two_answers(asked: Asked) -> Bool:
    """More initial numbers than SYNs that asked for one: a server that has forgotten the first SYN, or sends SYN
    cookies, may give each SYN another number."""
    several = asked.events["synack_isns"] > np.maximum(asked.events["syn_count"], 1)
    found: Bool = several & ~asked.at_server
    return found


def _from_elsewhere(asked: Asked, noted: Noted, servers: ServerMemory) -> Bool:
    """SYN-ACKs that led to nothing, from where this server's never came from."""
    failed = asked.answered & ~asked.at_server
    if failed.any():
        failed &= asked.is_result(HandshakeResult.HALF_OPEN) | asked.in_vain
    ttl = asked.events["synack"]["ttl"]
    return asked.where(failed, lambda rows, at: servers.distance(noted, rows, ttl[at]))[1] & ~_is_odd(ttl)


def _is_odd(ttl: U8) -> Bool:
    """Routing daemons give their sessions a TTL of 1 once they are accepted: what is no usual one tells no distance."""
    found: Bool = HOPS.take(ttl) >= ODD_HOPS
    return found


def _ecn_refused(asked: Asked, refused: Bool, noted: Noted, servers: ServerMemory) -> None:
    """Something resets SYNs that ask for ECN, where plain ones are taken; so it seems once, and again after another."""
    refused = refused & asks_for_ecn(asked.events["syn"]["tcp_flags"]) & ~asked.has_cause
    if not refused.any():
        return
    taken, again = asked.where(refused, lambda rows, _: servers.refused_ecn(noted, rows))
    passes = asked.whether(taken, lambda rows: servers.passes_ecn(noted, rows))
    for_ecn, again = taken & ~passes, again & ~passes
    asked.blame(again, HandshakeCause.ECN_BLOCKED, Confidence.LIKELY)
    asked.blame(for_ecn, HandshakeCause.ECN_BLOCKED, Confidence.POSSIBLE)
