"""Handshakes, each by itself: columns of records, outcome, durations, vantage, ECN, owners of sockets.

May import ipc/, records/, dissect/ and vocabulary/. Works on whole batches, with no Python object per handshake.
"""
