"""What each cause means and what to do about it: one sentence each, for screens, text output and doctor.

The causes are those of TFO.md sections 4 and 8, the counters and sysctls those of section 5.
"""

from __future__ import annotations

from tracer.vocabulary.drops import DROPPED_BY
from tracer.vocabulary.in_words import in_words

# tfo.cause
CAUSES: dict[str, str] = {
    "key_not_shared": "The servers behind this address do not share one tcp_fastopen_key, so each refuses the others' "
    "cookies: give all these servers the same key (sysctl net.ipv4.tcp_fastopen_key).",
    "cookie_stale": "The cookie is out of date, because the key was rotated without a backup key or the client's "
    'address changed: when rotating, keep the old key as backup (net.ipv4.tcp_fastopen_key="NEW,OLD").',
    "key_rotation": "A key rotation is under way and the backup key matched: nothing to do, but keep the backup key "
    "until clients have learned the new cookie.",
    "child_failed": "The cookie was right, but the server could not create the connection: check memory and "
    "TCPFastOpenPassiveFail at the server.",
    "not_supported": "The server, its listener or something on the path does not support Fast Open: run tfotrace "
    "doctor at the server.",
    "server_disabled": "Fast Open is off at this server: set bit 0x2, the server's, of its net.ipv4.tcp_fastopen (3 is "
    "client and server).",
    "listener_disabled": "This listener does not use Fast Open: let the program set TCP_FASTOPEN on it, or set bit "
    "0x400 of net.ipv4.tcp_fastopen, which enables it for every new listener, and restart the program.",
    "option_stripped": "Something removed the Fast Open option from the segment: check firewalls and middleboxes "
    "between the two places where it was seen.",
    "queue_overflow": "The listener's queue of pending Fast Open requests was full: raise its TCP_FASTOPEN value, or "
    "let it accept connections sooner.",
    "syn_cookies": "The server sent SYN cookies, which turn Fast Open off: raise the listener's backlog and "
    "net.ipv4.tcp_max_syn_backlog, or set net.ipv4.tcp_syncookies to 1 if it is 2.",
    "cookie_not_required": "The server takes data without a cookie (bit 0x200 of net.ipv4.tcp_fastopen) and therefore "
    "grants none: let clients send data without a cookie (their bit 0x4), or clear bit 0x200.",
    "cookie_required": "The server takes data only with a cookie: let the client ask for a cookie first (clear its bit "
    "0x4 of net.ipv4.tcp_fastopen), or set bit 0x200 at the server.",
    "packet_loss": "The SYN with Fast Open got no answer but a plain SYN did, as when a packet is lost: watch whether "
    "it happens again with this server.",
    "path_drops_syn_data": "Something on the path to this server drops SYNs that carry data: do not use Fast Open on "
    "this path, or let the firewall there pass such SYNs.",
    "payload_stripped": "This client always sent data with its cookie, but now none arrived: something on the path "
    "may remove data from SYNs.",
    "path_breaks_after_accept": "The server took the SYN's data and then the connection died, as when something on the "
    "path lets the SYN pass and breaks what follows: see whether plain connections to this server live, and if they "
    "do, keep Fast Open off on this path until the middlebox is mended.",
    "client_address_changes": "Unrelated servers each refuse this client's cookies and none takes one, as when a "
    "carrier's NAT gives every connection another public address: a cookie covers the client's address as the server "
    "sees it, so keep Fast Open off here, or use IPv6.",
    "cookie_per_address": "The server's address is translated on the way, and a cookie covers the server's own "
    "address, so even with one key each server behind this balancer refuses the others': let the servers hold the "
    "public address themselves (direct return), or send each client always to the same server.",
    "listener_key_differs": "The cookie is of another listener at this address, which has a Fast Open key of its own "
    "(TCP_FASTOPEN_KEY), and clients keep one cookie an address: set the same key on all listeners.",
    "option_malformed": "The Fast Open option of the SYN has a wrong length, so the server ignores it: look "
    "for what writes the option, the client's TCP or something on the path.",
    "answered_before_listener": "This host's listener has Fast Open, but something answered for it, such as a SYN "
    "proxy, an XDP program or a balancer: look on this host for what answers, since Fast Open works only without it.",
}

# handshake.cause
HANDSHAKE_CAUSES: dict[str, str] = {
    "host_dropped": "The SYN arrived at this host, where a socket listens for it, but nothing answered: check "
    "netfilter rules, rp_filter and the listen queues (nstat -az TcpExtListenDrops).",
    "port_still_in_use": "The server still held a connection of the same addresses and ports and answered the SYN "
    "with a challenge ACK: let the client close its connections, or wait before it uses a port again.",
    "no_listener": "No socket of this host listens at that address and port for that interface: start the server, or "
    "see at which address, interface and port it listens (ss -tlnp).",
    "firewall_rejected": "A packet filter refused the handshake with a RST or an ICMP error: look for the rule (nft "
    "list ruleset, iptables -S) at this host or at the one that sent the error, and let this traffic pass.",
    "refused": "The server refused the connection with a reset, as where nobody listens: look at the server for who "
    "listens at that address and port (ss -tlnp).",
    "answered_on_path": "An answer came from another distance than this server's other packets: look for a firewall "
    "or proxy on the path that answers in its place.",
    "answer_does_not_fit": "Answers came, but their numbers do not fit the SYN, so the client ignored them: look for "
    "a NAT or firewall that rewrites one direction only, or at the peer's TCP.",
    "nat_one_way": "The server's address is translated on the way in but not on the way out, so the client resets an "
    "answer that it did not ask for: let answers go back through the host that translates.",
    "not_forwarded": "The SYN came in by one interface and left by none: look at forwarding, routes and filters of "
    "this host (sysctl net.ipv4.ip_forward, ip route get, nft list ruleset).",
    "no_answer_beyond": "This host passed the SYN on and no answer came back to it: look at the server and at the "
    "path beyond this host.",
    "packet_loss": "A SYN got no answer, though this server answers others: see whether it happens again, and look for "
    "loss on the path.",
    "filtered_or_down": "Nothing came back, and this server answered nobody here: see whether the server is up, and "
    "whether a firewall drops SYNs silently.",
    "no_route_back": "This host has no route to the client, so it cannot answer: add the route (ip route get with "
    "the client's address shows what is there).",
    "accept_queue_full": "The listener's queue of connections to accept was full: let the program accept sooner, or "
    "raise its backlog and net.core.somaxconn.",
    "syn_queue_full": "The queue of half-open connections was full: raise the listener's backlog and "
    "net.ipv4.tcp_max_syn_backlog, or set net.ipv4.tcp_syncookies to 1.",
    "accept_deferred": "The server waits for the client's data before it takes the connection (TCP_DEFER_ACCEPT): "
    "nothing to do, unless such clients wait for the server to speak first.",
    "syn_cookies": "The server answered with a SYN cookie, which may lose window scaling and SACK: raise the "
    "listener's backlog and net.ipv4.tcp_max_syn_backlog, or look for who floods it.",
    "syn_flood": "Very many clients leave their handshakes half open at this listener, as in a SYN flood with forged "
    "addresses: keep net.ipv4.tcp_syncookies at 1, and look at who sends the SYNs.",
    "ack_missing": "The client never finished the handshake: see whether the SYN-ACK or the ACK is lost on the path, "
    "or the SYN came from a forged address.",
    "synack_lost": "The client sent its SYN again though the server had answered, so the SYN-ACK was lost: look for "
    "loss on the path from server to client.",
    "syn_or_synack_lost": "The SYN or its answer was lost, and a later SYN was answered: see whether it happens "
    "again, and look for loss on the path.",
    "slow_answer": "The first SYN was answered, but so late that the client had sent it again: look for a long queue "
    "on the path, or for a server that is too busy.",
    "ecn_blocked": "SYNs that ask for ECN are not taken, plain ones are: let what is on the path pass such SYNs, or "
    "set net.ipv4.tcp_ecn at the client to 2, which does not ask for it.",
    "client_gave_up": "The client sent its request, waited, and left before an answer came: look for what made the "
    "server so slow.",
    "silent_after_established": "The client sent its request again and again and nothing acked it, as where "
    "something on the path, the MTU or a full queue breaks connections: look at the path and at the server's queues.",
    "reset_after_established": "The server reset the connection before it answered, as a program does that fails or "
    "a proxy without a server behind it: look at the program's log.",
}

# instead of "host_dropped" over many handshakes, where the kernel said why
DROPPED = (
    "This host's kernel dropped a segment and said why: see handshake.drop of the records, then this host's filters, "
    "routes, neighbours and queues."
)

# which the kernel's own word makes certain and explains
CAUSES_OF_DROPS = ("host_dropped", "not_forwarded")

# warnings
WARNINGS: dict[str, str] = {
    "mss_tiny": "The MSS is below 536 bytes, so every packet of the connection is tiny: look for what sets it.",
    "window_zero": "The window is 0, so the other end may not send anything yet: look at the program or proxy there.",
    "wscale_invalid": "The window scale is above 14, which TCP takes for 14 (RFC 7323, section 2.3): look for what "
    "writes it.",
    "mss_above_mtu": "The MSS is above what the traced interface can carry: lower the MTU there or clamp the MSS.",
}


def handshake_sentence(cause: str, dropped: str | None = None) -> str:
    """What a `handshake.cause` means; a word that only a later version knows stands for itself.

    `dropped`: by what, if the kernel said why this host dropped a segment (DROPPED_BY).
    """
    if dropped is not None and cause in CAUSES_OF_DROPS:
        return DROPPED_BY[dropped]
    return HANDSHAKE_CAUSES.get(cause) or in_words(cause)


def tfo_sentence(cause: str) -> str:
    """What a `tfo.cause` means; likewise."""
    return CAUSES.get(cause) or in_words(cause)


def remedy(sentence: str) -> str:
    """What a sentence above says that one can do: what follows its colon, else all of it."""
    before, _, after = sentence.partition(": ")
    return after or before


def short_cause(cause: str, confidence: str | None) -> str:
    """A cause in a few words, for use within a line: "cause key not shared (likely)"."""
    return f"cause {in_words(cause)}" + (f" ({confidence})" if confidence else "")
