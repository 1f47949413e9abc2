"""What a SYN carries: options, TLS, HTTP, DNS, the fingerprint. Bytes in, facts out.

May import vocabulary/.
"""
