#!/bin/sh
# Debian and Ubuntu: only make is missing; `make test` installs the rest.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q make
