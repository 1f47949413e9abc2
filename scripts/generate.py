#!/usr/bin/env python3
"""Write anew what follows from the program: docs/REFERENCE.md, columns of docs/duckdb, the schema's golden copy.

Run it from anywhere by the checkout's Python: .venv/bin/python scripts/generate.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.generated import texts

if __name__ == "__main__":
    for path, text in texts():
        if path.read_text() != text:
            path.write_text(text)
            print(path)
