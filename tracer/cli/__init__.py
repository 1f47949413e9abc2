"""The command line: its words become a request. Help, man pages and completions are made from the same definition.

May import every other folder; nobody imports this one. Nothing heavy is imported before a command needs it.
"""
