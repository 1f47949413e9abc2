#!/bin/sh
# Debian and Ubuntu: make is all that is missing, `make test` installs the rest itself.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q make
