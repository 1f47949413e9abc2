"""What each cause means and what to do about it: one sentence each, for screens, text output and doctor.

The causes are those of TFO.md sections 4 and 8, the counters and sysctls those of section 5.
"""

from __future__ import annotations

from tracer.vocabulary.drops import DROPPED_BY

# tfo.cause
CAUSES: dict[str, str] = {
    "key_not_shared": "The servers behind this address do not share one tcp_fastopen_key, so each refuses the others' "
    "cookies: give all of them the same key (sysctl net.ipv4.tcp_fastopen_key).",
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
    "grants none: let clients send data without one (their bit 0x4), or clear bit 0x200.",
    "cookie_required": "The server takes data only with a cookie: let the client ask for one first (clear its bit 0x4 "
    "of net.ipv4.tcp_fastopen), or set bit 0x200 at the server.",
    "packet_loss": "The SYN with Fast Open got no answer but a plain SYN did, as when a packet is lost: watch whether "
    "it happens again with this server.",
    "path_drops_syn_data": "Something on the path to this server drops SYNs that carry data: do not use Fast Open on "
    "this path, or let the firewall there pass them.",
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
    "(TCP_FASTOPEN_KEY), and clients keep one cookie an address: set the same key on all of them.",
    "option_malformed": "The Fast Open option of the SYN has a wrong length, so the server ignores it: look "
    "for what writes it, the client's TCP or something on the path.",
    "answered_before_listener": "This host's listener has Fast Open, but something answered for it, such as a SYN "
    "proxy, an XDP program or a balancer: look for it on this host, since Fast Open works only without it.",
}

# handshake.cause
HANDSHAKE_CAUSES: dict[str, str] = {
    "host_dropped": "The SYN arrived at this host, where a socket listens for it, but nothing answered: check "
    "netfilter rules, rp_filter and the listen queues (nstat -az TcpExtListenDrops).",
    "port_still_in_use": "The server still held a connection of the same addresses and ports and answered the SYN "
    "with a challenge ACK: let the client close its connections, or wait before it uses a port again.",
    "no_listener": "No socket of this host listens at that address and port: start the server, or see at which "
    "address and port it listens (ss -tlnp).",
    "firewall_rejected": "A packet filter of this host refused the handshake with a RST or an ICMP error: look for the "
    "rule (nft list ruleset, iptables -S), and let this traffic pass.",
}


def cause_sentences(*causes: str | None, dropped: str | None = None) -> list[str]:
    """What these causes mean, without those that are None; a word that only a later version knows stands for itself.

    `dropped`: by what, if the kernel said why this host dropped a segment (DROPPED_BY).
    """
    known = CAUSES | HANDSHAKE_CAUSES
    if dropped is not None:
        known["host_dropped"] = DROPPED_BY[dropped]
    return [known.get(one) or one.replace("_", " ") for one in causes if one is not None]


def short_cause(cause: str, confidence: str | None) -> str:
    """A cause in a few words, for use within a line: "cause key not shared (likely)"."""
    return f"cause {cause.replace('_', ' ')}" + (f" ({confidence})" if confidence else "")
