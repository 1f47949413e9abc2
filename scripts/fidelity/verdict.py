"""What the record of a handshake must say, by DESIGN.md section 3 and TFO.md sections 2 and 3."""

from __future__ import annotations

from typing import Any

from scripts.fidelity.pairing import Entry, ahead
from scripts.fidelity.segments import ACK, AE, CWR, ECE, Segment

GROUPS = {
    "not_attempted": "n/a", "cookie_granted": "ok", "cookie_not_granted": "degraded", "data_acked": "ok",
    "data_acked_new_cookie": "ok", "data_partly_acked": "degraded", "data_not_acked": "degraded",
    "data_not_acked_new_cookie": "degraded", "data_not_acked_same_cookie": "degraded",
    "syn_timeout_fallback": "failed", "cookie_only": "n/a", "cookie_only_new_cookie": "degraded",
    "cookie_only_same_cookie": "degraded", "over_acked": "failed", "no_answer": "failed", "rejected": "failed",
}  # fmt: skip

REFUSED = ("aborted", "rejected", "unreachable")  # who went on after these did not wait for a timeout

Fields = dict[str, Any]


def fields(entry: Entry) -> Fields:
    """The fields of the record by their names."""
    found: Fields = {"vlan": list(entry.vlan), "handshake.result": entry.result, "handshake.settled_by": entry.reason}
    found.update(_segment("syn", entry.syn, entry.syn))
    synack = entry.synack
    found["synack"] = synack is not None
    if synack is not None:
        found.update(_segment("synack", synack, entry.syn))
        found["synack.acked_payload_len"] = _acked(entry, synack)
    found.update(_counts(entry))
    found.update(_durations(entry))
    found.update(_life(entry))
    found.update(_fast_open(entry, found))
    return found


def _us(later_ns: int, earlier_ns: int) -> float:
    return (later_ns - earlier_ns) / 1000


def _segment(name: str, one: Segment, syn: Segment) -> Fields:
    options = one.options
    found = {
        "seq": one.seq, "payload_len": one.length, "mss": options.mss, "wscale": options.wscale,
        "window": one.window, "sack_permitted": options.sack, "ts_val": options.ts_val, "ts_ecr": options.ts_ecr,
        "ttl": one.ttl, "ecn": _ecn(one, syn), "options": options.names,
    }  # fmt: skip
    return {f"{name}.{key}": value for key, value in found.items()}


def _ecn(one: Segment, syn: Segment) -> str:
    bits = (bool(one.flags & AE), bool(one.flags & CWR), bool(one.flags & ECE))
    if not one.flags & ACK:
        return asked_ecn(one)
    if all((syn.flags & AE, syn.flags & CWR, syn.flags & ECE)) and bits in (
        (False, True, False), (False, True, True), (True, False, False), (True, True, False)
    ):  # fmt: skip
        return "accecn"
    return "ecn" if bits[2] and not bits[1] else "none"


def asked_ecn(syn: Segment) -> str:
    """What a SYN asks for."""
    if not (syn.flags & CWR and syn.flags & ECE):
        return "none"
    return "accecn" if syn.flags & AE else "ecn"


def _acked(entry: Entry, synack: Segment) -> int:
    return ahead(synack.ack, entry.isn + 1)


def _counts(entry: Entry) -> Fields:
    isns = len({one.seq for one in entry.synacks})
    misfits = {"rst": entry.misfit_rsts, "synack": entry.misfit_synacks, "icmp": entry.misfit_icmps}
    reset = None
    if entry.reset is not None:
        by = "client" if entry.reset.src == entry.client else "server"
        reset = {
            "from": by, "after_us": _us(entry.settled_ns, entry.syn.at_ns), "ttl": entry.reset.ttl,
        }  # fmt: skip
    return {
        "handshake.syn_count": len(entry.syns), "handshake.synack_count": len(entry.synacks),
        "handshake.late_syns": entry.late_syns, "handshake.synack_isns": isns, "handshake.copies": entry.copies,
        "handshake.misfits": misfits if any(misfits.values()) else None, "handshake.resumed": entry.resumed,
        "handshake.challenge_acks": entry.challenge_acks, "handshake.reset": reset,
        "handshake.icmp": None if entry.icmp is None else {"type": entry.icmp[0], "code": entry.icmp[1]},
    }  # fmt: skip


# --- which SYN was answered, and how long things took ---


def answered(entry: Entry, synack: Segment | None) -> Segment | None:
    """The SYN that this SYN-ACK answers; None if that cannot be told."""
    if synack is None:
        return None
    before = [one for one in entry.syns if one.at_ns <= synack.at_ns] or entry.syns[:1]
    if len(before) == 1:
        return before[0]
    echo = synack.options.ts_ecr
    if echo is None:
        return None
    echoed = [one for one in before if one.options.ts_val == echo]
    return echoed[0] if len(echoed) == 1 else None


def acknowledged(entry: Entry) -> bool:
    """Is it known that the client's ACK answers the SYN-ACK of the record, not a repetition of it?"""
    if entry.ack is None or entry.synack is None:
        return False
    ack, synack = entry.ack, entry.synack
    before = [one for one in entry.synacks if one.seq == synack.seq and one.at_ns <= ack.at_ns]
    if len(before) <= 1:
        return True
    return ack.options.ts_ecr is not None and ack.options.ts_ecr == synack.options.ts_val


def _durations(entry: Entry) -> Fields:
    start = entry.syn.at_ns
    synack = entry.synack
    syn = answered(entry, synack)
    delay = None
    if synack is not None and syn is not None and synack.at_ns >= syn.at_ns:
        delay = _us(synack.at_ns, syn.at_ns)
    ack_delay = None
    if synack is not None and entry.ack is not None and acknowledged(entry):
        ack_delay = _us(entry.ack.at_ns, synack.at_ns)
    number = None if syn is None else next(at for at, one in enumerate(entry.syns, 1) if one is syn)
    if ack_delay is not None and ack_delay < 0:  # one of the two was seen too early
        ack_delay = None
    return {
        "handshake.synack_delay_us": delay,
        "handshake.ack_delay_us": ack_delay,
        "handshake.rtt_us": None if delay is None or ack_delay is None else delay + ack_delay,
        "handshake.connect_us": None if entry.ack is None else _us(entry.ack.at_ns, start),
        "handshake.first_response_us": None if entry.response is None else _us(entry.response.at_ns, start),
        "handshake.answered_syn": number,
        "handshake.answered_ecn": None if syn is None else asked_ecn(syn),
        "tfo.delay_us": None if syn is None else _us(syn.at_ns, start),
    }


# --- its life ---


def _life(entry: Entry) -> Fields:
    established = entry.result == "established"
    synack = entry.synack
    taken = _acked(entry, synack) if synack is not None and entry.syn.length else 0
    request = None
    if taken:
        request = 0.0
    elif entry.request is not None:
        request = _us(entry.request.at_ns, entry.syn.at_ns)
    blind = entry.one_way and entry.response is None
    return {
        "handshake.after": _after(entry) if established and not blind else None,
        "handshake.first_request_us": request,
        "handshake.request_acked": entry.request_acked if established and not blind else None,
        "handshake.request_repeats": entry.request_repeats,
    }


def _after(entry: Entry) -> str | None:
    sent = entry.request is not None or entry.syn.length > 0
    if entry.reason == "response":
        return "response"
    if entry.reason == "rst":
        assert entry.reset is not None
        if entry.reset.src == entry.server:
            return "reset_by_server"
        return "reset_by_client" if sent else "closed_unused"
    if entry.reason == "fin":
        if entry.client_fin:
            return "client_closed" if sent else "closed_unused"
        return "server_closed"
    if entry.reason == "timeout":
        if entry.client_fin:
            return "client_closed" if sent else "closed_unused"
        return "synack_again" if entry.synacks_after_ack else "silence"
    return None


# --- Fast Open ---


def _request(syn: Segment) -> str:
    options = syn.options
    if options.tfo_kind is None:
        if options.tfo_malformed:
            return "malformed"
        return "data_only" if syn.length else "none"
    word = "cookie" if options.cookie else "cookie_request"
    return f"{word}_and_data" if syn.length else word


def _outcome(entry: Entry) -> str | None:
    syn = entry.syn
    if not entry.attempt:
        return "not_attempted"
    if not entry.synacks:
        if entry.one_way:
            return None
        return "rejected" if entry.result in ("rejected", "unreachable") else "no_answer"
    first = entry.synacks[0]
    acked = _acked(entry, first)
    cookie = first.options.cookie if syn.options.tfo_kind is not None else b""
    if acked > syn.length:
        return "over_acked"
    if acked:
        if acked < syn.length:
            return "data_partly_acked"
        return "data_acked_new_cookie" if cookie else "data_acked"
    if _fell_back(entry, first):
        return "syn_timeout_fallback"
    back = "" if not cookie else "_same_cookie" if cookie == syn.options.cookie else "_new_cookie"
    if syn.length:
        return "data_not_acked" + back
    if not syn.options.cookie:
        return "cookie_granted" if cookie else "cookie_not_granted"
    return "cookie_only" + back


def _fell_back(entry: Entry, synack: Segment) -> bool:
    before = [one for one in entry.syns if one.at_ns <= synack.at_ns]
    if len(before) < 2 or entry.resumed in REFUSED or entry.challenge_acks:
        return False
    echo = synack.options.ts_ecr
    if echo is None or entry.syn.options.ts_val is None:
        return True
    return echo != entry.syn.options.ts_val


def _fast_open(entry: Entry, found: Fields) -> Fields:
    options = entry.syn.options
    outcome = _outcome(entry)
    group = None if outcome is None else GROUPS[outcome]
    answer = entry.synacks[0].options if entry.synacks else None
    saved = _saved(entry, found["handshake.rtt_us"])
    established = entry.result == "established"
    lived = established and (entry.response is not None or entry.reason == "fin" or entry.request_acked)
    reset_by_server = entry.reset is not None and entry.reset.src == entry.server
    if entry.attempt and outcome is not None and group != "n/a":
        died = reset_by_server and entry.response is None and entry.result in ("established", "aborted")
        if died or (established and entry.request_repeats >= 2 and not lived):
            group, saved = "failed", 0.0
    if saved and not lived:
        saved = None
    return {
        "tfo.request": _request(entry.syn), "tfo.outcome": outcome, "tfo.group": group, "tfo.kind": options.tfo_kind,
        "tfo.cookie_len": None if options.tfo_kind is None else len(options.cookie),
        "tfo.cookie": options.cookie.hex() or None,
        "tfo.synack_kind": None if answer is None else answer.tfo_kind,
        "tfo.synack_cookie_len": None if answer is None or answer.tfo_kind is None else len(answer.cookie),
        "tfo.synack_cookie": None if answer is None else answer.cookie.hex() or None,
        "tfo.rtt_saved_us": saved,
    }  # fmt: skip


def _saved(entry: Entry, rtt_us: float | None) -> float | None:
    synack = entry.synack
    if synack is None:
        return None
    acked = _acked(entry, synack)
    if acked == 0:
        return 0.0
    return rtt_us if acked == entry.syn.length else None
