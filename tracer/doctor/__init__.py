"""`tfotrace doctor`: what this host says about tracing and Fast Open. It reads, and changes nothing.

A file a concern, each giving findings: host.py (kernel, bcc, privilege), hooks.py (interfaces and who else is on them),
settings.py (sysctls and key), listeners.py, cookies.py, counters.py; model.py is what all of them give, examine.py asks
them in turn, text.py tells it to people. May import attach/, loader/, linux/ and the words.
"""
