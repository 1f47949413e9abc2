#!/bin/sh
# The last step on every machine: which kernel and Python this is, and the project's tests.
set -eu
cd /tfotrace
uname -r
/usr/bin/python3 --version
make test </dev/null
