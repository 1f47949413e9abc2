#!/bin/sh
# Inside the booted kernel: runs doctor, then pytest with the arguments given, and writes what they say to $RESULTS while
# they run. The root file system is the host's, read-only, with whatever is written kept in memory; $KEPT stays on the host.
cd -- "$CHECKOUT" || exit 1
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t tmpfs -o mode=755 tmpfs /run 2>/dev/null
mkdir -p /run/netns /run/lock
ip link set lo up

# Compiling takes more than a minute in emulation: what one test compiled serves the others, and, as if this were the
# same boot, the next guest with this kernel.
mkdir -p /run/tfotrace/programs
mkdir -p "$KEPT/programs" && chmod 700 "$KEPT/programs"
[ -s "$KEPT/boot_id" ] || cat /proc/sys/kernel/random/boot_id >"$KEPT/boot_id"
mount --bind "$KEPT/boot_id" /proc/sys/kernel/random/boot_id
mount --bind "$KEPT/programs" /run/tfotrace/programs
export TFOTRACE_TEST_PROGRAMS="$KEPT/programs"

uname -r -v >"$RESULTS/kernel"
.venv/bin/python -m tracer doctor >"$RESULTS/doctor" 2>&1 </dev/null
.venv/bin/python -m pytest -v -p no:cacheprovider -o tmp_path_retention_policy=none --timeout="$TEST_TIMEOUT" \
	--durations=25 --junit-xml="$RESULTS/junit.xml" "$@" >"$RESULTS/output" 2>&1 </dev/null
status=$?
dmesg >"$RESULTS/dmesg"
echo "$status" >"$RESULTS/status"
