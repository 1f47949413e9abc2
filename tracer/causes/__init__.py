"""Why: infers causes, which needs a memory, the other end or the host's own state.

May import handshake/ and everything beneath it.
"""
