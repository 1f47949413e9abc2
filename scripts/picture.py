#!/usr/bin/env python3
"""Make the pictures of docs/ and the golden texts of the tests again, from the real dashboard on recorded events.

Run it with the checkout's Python: .venv/bin/python scripts/picture.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.tui.pictures import write

if __name__ == "__main__":
    for path in write():
        print(path)
