"""A batch becomes records, and records become lines: one object for a handshake only where somebody reads it.

May import handshake/ and everything beneath it.
"""
