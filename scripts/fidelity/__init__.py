"""An independent judge of tfotrace: what tshark reads in a capture, judged by the rules of RFC 7413 and the contract.

Nothing here imports the tracer: decoding is Wireshark's, and the rules are written a second time.
"""
