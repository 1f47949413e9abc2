"""Why: what takes a memory, the other end or the host's own state to infer.

May import handshake/ and everything beneath it.
"""
