"""Dissects what a SYN carries: options, TLS, HTTP, DNS, the fingerprint. It takes bytes and returns facts.

May import vocabulary/.
"""
