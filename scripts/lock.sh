#!/bin/sh
# Rewrites requirements.lock and requirements-dev.lock from pyproject.toml: exact versions and hashes for every
# supported Python, distinguished by markers. Needs uv on PATH.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd -- "$root"

if ! command -v uv >/dev/null; then
	echo "lock.sh: uv is missing: install it with pip install uv and run make lock again" >&2
	exit 1
fi

lock() { # lock FILE ARGUMENT...
	file=$1
	shift
	# The Windows-only packages would never be installed here.
	uv pip compile pyproject.toml "$@" --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
		--no-header --no-annotate --no-emit-package win-inet-pton --no-emit-package colorama \
		--output-file "$file"
	echo "lock.sh: wrote $file: $(grep -c == "$file") packages" >&2
}

lock requirements.lock
lock requirements-dev.lock --extra dev --constraints requirements.lock
