"""The newest handshakes and the sums over a run, for the dashboard. `snapshot` is the face that tui/ sees.

May import encode/, filters/ and aggregate/, and everything beneath them.
"""
