#!/bin/sh
# The last step on every machine: prints kernel and Python, and runs the project's tests.
set -eu
cd /tfotrace
uname -r
/usr/bin/python3 --version
make test </dev/null
