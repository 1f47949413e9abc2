"""`tfotrace compare`: what the path between two places did to the handshakes that both saw.

May import replay/ and everything beneath it.
"""
