"""What a probe found as JSON, one line a target."""

from __future__ import annotations

import errno
from dataclasses import asdict
from typing import Any

import msgspec

from tracer.probe.model import Answer, Payload, Probed, Side
from tracer.probe.text import of_answer, sentence, to_do
from tracer.records.record import SCHEMA


def as_json(one: Probed, payload: Payload) -> bytes:
    """One line without its end."""
    return msgspec.json.encode(
        {
            "schema": SCHEMA, "event": "probe", "target": one.target.name, "host": one.target.host,
            "port": one.target.port, "payload": payload.value, "verdict": one.verdict.value,
            "sentence": sentence(one), "to_do": to_do(one), "addresses": [_plain(answer) for answer in one.answers],
        }
    )  # fmt: skip


def _plain(one: Answer) -> dict[str, Any]:
    saves = one.benefit
    return {
        "ip": one.ip, "verdict": one.verdict.value, "sentence": of_answer(one), "plain": _side(one.plain),
        "fast_open": _side(one.fast_open),
        "cookie": {
            "len": one.cookie_len, "different": one.cookies, "cached_before": one.was_cached, "stale": one.was_stale,
        },
        "syn_data": {
            "tried": one.tried, "taken": one.taken, "served": one.lived, "not_taken": one.refused,
            "unanswered": one.unanswered, "cookie_replaced": one.replaced,
        },
        "path": {asks.value: passage.value for asks, passage in one.passage.items()},
        "outcomes": one.outcomes, "client_fail": one.fails,
        "negotiated": None if one.negotiated is None else asdict(one.negotiated),
        "saves": None if saves is None else {
            "us": saves.sooner_us, "low_us": saves.low_us, "high_us": saves.high_us,
            "confidence": None if saves.low_us is None else 0.95,
        },
        "errors": [errno.errorcode.get(each.error, str(each.error)) for each in one.connections if each.error],
        "handshakes": [each.record.id for each in one.connections if each.record is not None],
    }  # fmt: skip


def _side(one: Side) -> dict[str, Any]:
    return {
        "connections": one.connections, "established": one.established, "answered": one.answered,
        "syn_sent_again": one.syns_again, "rtt_us": one.rtt_us, "first_response_us": one.first_response_us,
    }  # fmt: skip
