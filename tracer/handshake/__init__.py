"""A handshake taken by itself: its record in columns, outcome, durations, vantage, ECN, owners of its sockets.

May import ipc/, records/, dissect/ and vocabulary/. It works on whole batches: no Python object for a handshake.
"""
