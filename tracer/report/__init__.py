"""One self-contained page on a run: verdicts, causes, plots, peers and the worst handshakes. Nothing is fetched from
the network to read it, and all that came from there is escaped.

May import sinks/ and everything beneath it.
"""
