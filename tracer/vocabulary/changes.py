"""What somebody on the way does to a handshake's segments: the words of `tfotrace compare` and of `changed_on_host`."""

from __future__ import annotations

import re
from enum import Enum

from tracer.vocabulary.printable import printable


class What(str, Enum):
    """What happened between two places."""

    OPTION_STRIPPED = "option_stripped"
    OPTION_ADDED = "option_added"
    OPTIONS_REORDERED = "options_reordered"
    MSS_CHANGED = "mss_changed"
    WSCALE_CHANGED = "wscale_changed"
    WINDOW_CHANGED = "window_changed"
    COOKIE_CHANGED = "cookie_changed"  # its length
    ECN_CHANGED = "ecn_changed"
    PAYLOAD_STRIPPED = "payload_stripped"
    DATA_ADDED = "data_added"
    TTL_RAISED = "ttl_raised"
    ISN_CHANGED = "isn_changed"
    CLIENT_TRANSLATED = "client_translated"
    SERVER_TRANSLATED = "server_translated"
    ANSWERED_ON_PATH = "answered_on_path"
    REFUSED = "refused"
    LOST = "lost"


class Piece(str, Enum):
    """The segment that it happened to."""

    SYN = "syn"
    SYNACK = "synack"
    ACK = "ack"
    REQUEST = "request"  # the client's first data after the handshake
    RESPONSE = "response"
    RST = "rst"
    ICMP = "icmp"


OPTION_WORDS = {
    "tfo": "the Fast Open option", "tfo_experimental": "the Fast Open option (experimental)", "mss": "the MSS option",
    "wscale": "the window scale option", "sack_permitted": "the SACK option", "timestamps": "the timestamps option",
    "mptcp": "the MPTCP option", "md5": "the MD5 option", "ao": "the TCP-AO option",
}  # fmt: skip
_CHANGED = {
    "mss_changed": "MSS", "wscale_changed": "window scale", "window_changed": "window", "ecn_changed": "ECN",
    "cookie_changed": "length of the Fast Open cookie", "payload_stripped": "data",
    "data_added": "data", "ttl_raised": "TTL", "isn_changed": "initial sequence number",
}  # fmt: skip
_PIECES = {"syn": "the SYN", "synack": "the SYN-ACK"}
_PARTS = re.compile(r"(\w+) (\w+)(?: (.+))?", re.ASCII)
CHANGE_PATTERN = "^[a-z_]+ (syn|synack)( .+)?$"  # of a change as records have it


def change(what: What, piece: Piece, before: object = None, after: object = None) -> str:
    """A change as records have it: "mss_changed syn 1460 > 1300", "option_stripped syn tfo"."""
    values = [str(one) for one in (before, after) if one is not None]
    return " ".join((what.value, piece.value, *([" > ".join(values)] if values else [])))


def change_words(text: str) -> str:
    """Such a change in words, safe to print: "MSS of the SYN from 1460 to 1300"."""
    found = _PARTS.fullmatch(text)
    if found is None:
        return printable(text)
    what, piece, values = found[1], _PIECES.get(found[2], found[2]), found[3] or ""
    if what == What.OPTION_STRIPPED.value:
        return printable(f"{option_words(values)} removed from {piece}")
    if what == What.OPTION_ADDED.value:
        return printable(f"{option_words(values)} added to {piece}")
    if what == What.OPTIONS_REORDERED.value:
        return f"options of {piece} in another order"
    if what == What.ANSWERED_ON_PATH.value:
        return "the SYN answered here, not by the server"
    before, arrow, after = values.partition(" > ")
    values = f" from {before} to {after}" if arrow else ""
    return printable(f"{_CHANGED.get(what) or what.replace('_', ' ')} of {piece}{values}")


def option_words(name: str | None) -> str:
    """An option by its name in records."""
    return OPTION_WORDS.get(name, f"option {name}") if name else "an option"
