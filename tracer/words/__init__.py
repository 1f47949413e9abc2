"""What people are told, in the same words by the dashboard and by the report: verdicts, reasons and what to do about
them, one handshake as a ladder.

May import aggregate/ and everything beneath it.
"""
