"""Where records go: JSON lines, text, rotating files, pcapng, Prometheus. Every sink implements `base.Sink`.

May import store/ and everything beneath it.
"""
