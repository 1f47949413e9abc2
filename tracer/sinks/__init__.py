"""Where records go: JSON lines, text, files that rotate, pcapng, Prometheus. Every sink keeps `base.Sink`.

May import store/ and everything beneath it.
"""
