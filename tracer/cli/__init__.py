"""The command line becomes a request. Help, man pages and completions are made from the same definition.

May import every other folder; no folder imports this one. Import nothing heavy before a command needs it.
"""
