#!/bin/sh
# Inside the booted kernel: runs pytest with the arguments given, then doctor, and writes what they say to $RESULTS while
# they run. The root file system is the host's, read-only, with whatever is written kept in memory; $KEPT stays on the host.
cd -- "$CHECKOUT" || exit 1
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t tmpfs -o mode=755 tmpfs /run 2>/dev/null
mkdir -p /run/netns /run/lock
ip link set lo up

# What is used again and again comes into the guest's memory (the upper layer of its overlays) by being touched: from the
# host's file system it would be read, and in emulation translated, anew by every process.
libraries=$(ldd /usr/lib/*/libbcc.so.0 .venv/bin/python | awk '$3 ~ /^\// { print $3 }')
packages=$(echo .venv/lib/python3.*/site-packages)
commands=$(command -v dash mount umount unshare nsenter ip tc ss sysctl bpftool)
# shellcheck disable=SC2086 # lists of words
find -L /usr/lib/*/libbcc.so.0 $libraries $commands .venv/bin/python /usr/lib/python3/dist-packages/bcc /usr/lib/python3.* \
	"$packages/numpy" "$packages/numpy.libs" "$packages/msgspec" "$packages/_pytest" "$packages/pluggy" \
	"$packages/pyroute2" "$packages/lark" tracer tests -path '*/test/*' -prune -o -path '*/golden/*' -prune -o \
	-type f -exec touch -c -a {} + 2>/dev/null

# Compiling takes more than a minute in emulation: what one test compiled serves the others, and, as if this were the
# same boot, the next guest with this kernel.
mkdir -p /run/tfotrace/programs
mkdir -p "$KEPT/programs" && chmod 700 "$KEPT/programs"
[ -s "$KEPT/boot_id" ] || cat /proc/sys/kernel/random/boot_id >"$KEPT/boot_id"
mount --bind "$KEPT/boot_id" /proc/sys/kernel/random/boot_id
mount --bind "$KEPT/programs" /run/tfotrace/programs
export TFOTRACE_TEST_PROGRAMS="$KEPT/programs"

cut -d" " -f1 /proc/uptime >"$RESULTS/uptime"
uname -r -v >"$RESULTS/kernel"
.venv/bin/python -m pytest -v -p no:cacheprovider -o tmp_path_retention_policy=none --timeout="$TEST_TIMEOUT" \
	--durations=25 --junit-xml="$RESULTS/junit.xml" "$@" >"$RESULTS/output" 2>&1 </dev/null
status=$?
.venv/bin/python -m tracer doctor >"$RESULTS/doctor" 2>&1 </dev/null
dmesg >"$RESULTS/dmesg"
echo "$status" >"$RESULTS/status"
