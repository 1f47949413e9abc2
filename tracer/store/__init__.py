"""The newest handshakes and the sums over a run, for the dashboard. tui/ takes a `snapshot`.

May import encode/, filters/ and aggregate/, and everything beneath them.
"""
