"""`tfotrace doctor`: can this host trace, and how is Fast Open set up? It reads and changes nothing.

One file per concern, each yielding findings: host.py (kernel, bcc, privileges), hooks.py (interfaces and other programs
on them), settings.py (sysctls and key), listeners.py, namespaces.py (listeners of containers), cookies.py, counters.py.
model.py defines the report, examine.py runs them one after another, text.py prints the report. May import attach/,
loader/, linux/, records/ and vocabulary/.
"""
