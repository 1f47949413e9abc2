#!/bin/sh
# Runs a tracing tool in its own mount namespace, with things that this machine may not have mounted or installed:
# tracefs, and for bcc's tools kernel headers under /lib/modules. Another kernel's headers will do: wrong offsets may
# change the tool's output, but not its cost.
# Usage: unshare --mount with_tracing.sh COMMAND [ARGUMENT ...]
set -eu

unset BCC_KERNEL_SOURCE # set by our loader if it runs in the bench's process

[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
[ -d /sys/kernel/debug/tracing/events ] || mount -t debugfs debugfs /sys/kernel/debug
[ -d /sys/kernel/debug/tracing/events ] || mount -t tracefs tracefs /sys/kernel/debug/tracing
modules=/lib/modules/$(uname -r)
if [ ! -e "$modules/build" ]; then
	for build in /usr/src/linux-headers-*-"$(dpkg --print-architecture)"; do
		[ -d "$build" ] || continue
		mount -t tmpfs tmpfs /lib/modules
		mkdir "$modules"
		ln -s "$build" "$modules/build"
		ln -s "${build%-*}-common" "$modules/source"
		break
	done
fi
exec "$@"
