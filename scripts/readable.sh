#!/bin/sh
# readable.sh COMMAND...: runs a command where every user may read this checkout, as root.
# Some tests run as nobody, and a home that Debian makes lets nobody else in. Where that is so, the command gets a mount
# namespace of its own, in which the closed folder holds nothing but the checkout, at its own path.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)

nobody_reads() {
	setpriv --reuid=65534 --regid=65534 --clear-groups test -r "$1"
}

if nobody_reads "$root/tracer/__main__.py"; then
	exec "$@"
fi
closed=$root
while [ "$closed" != / ] && ! nobody_reads "$(dirname "$closed")/."; do
	closed=$(dirname "$closed")
done
if [ "$closed" = "$root" ]; then
	echo "readable.sh: others may not read this checkout, which some tests need: chmod -R go+rX $root" >&2
	exit 1
fi
# shellcheck disable=SC2016 # the inner shell expands them
exec unshare --mount --propagation private sh -euc '
	held=$(mktemp -d /run/tfotest-checkout-XXXXXX)
	mount --bind "$1" "$held"
	mount -t tmpfs -o mode=755 tfotest "$2"
	mkdir -p "$1"
	mount --bind "$held" "$1"
	umount "$held"
	rmdir "$held"
	cd "$1"
	shift 2
	exec "$@"
' sh "$root" "$closed" "$@"
