#!/bin/sh
# Runs tests/fleet/check.py with its own environment, build/fleet, made on first use (200 MB from PyPI; needs root for
# the demo, and Python 3.11 on x86-64, for which these packages are built).
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd -- "$root"
environment=build/fleet
stamp=$environment/.stamp
wanted=$(cksum <tests/fleet/requirements.txt)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
	echo "fleet-check.sh: installing tests/fleet/requirements.txt into $environment" >&2
	rm -rf -- "$environment"
	.venv/bin/python -m venv "$environment"
	"$environment/bin/python" -I -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
		--only-binary :all: --require-hashes -r tests/fleet/requirements.txt
	echo "$wanted" >"$stamp"
fi
exec .venv/bin/python -m tests.fleet.check "$environment"
