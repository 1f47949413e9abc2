#!/bin/sh
# Inside the booted kernel: runs verify.py, pytest with the arguments given and doctor, and writes what they say to $RESULTS while
# they run. The root file system is the host's, read-only, with whatever is written kept in memory; $KEPT stays on the host.
cd -- "$CHECKOUT" || exit 1
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t tmpfs -o mode=755 tmpfs /run 2>/dev/null
mkdir -p /run/netns /run/lock
ip link set lo up
# made by udev elsewhere; opening it loads the module
[ -e /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }

# What every process reads comes into the guest's memory (the upper layers of its overlays): from the host's file system
# it would be read, and in emulation translated, anew each time.
[ ! -e "$KEPT/warm.tar" ] || tar -xf "$KEPT/warm.tar" -b 512 -C / --no-overwrite-dir

# Compiling takes minutes in emulation: what one test compiled, or the host for this kernel, serves all tests, and, as if
# this were the same boot, the next guest with this kernel.
mkdir -p /run/tfotrace/programs
[ -s "$KEPT/boot_id" ] || cat /proc/sys/kernel/random/boot_id >"$KEPT/boot_id"
mount --bind "$KEPT/boot_id" /proc/sys/kernel/random/boot_id
mount --bind "$KEPT/programs" /run/tfotrace/programs
export TFOTRACE_TEST_PROGRAMS="$KEPT/programs"
export TFOTRACE_OWN_MACHINE=1 # tests may set its clock and switch off a CPU
[ -s "$KEPT/asked" ] || { .venv/bin/python -m vagrant.kernels.precompile --ask >/run/asked && cat /run/asked >"$KEPT/asked"; }

cut -d" " -f1 /proc/uptime >"$RESULTS/uptime"
uname -r -v >"$RESULTS/kernel"
while [ -e "$KEPT/warm.tar" ] && [ ! -s "$KEPT/variants" ]; do sleep 1; done
[ ! -s "$KEPT/variants" ] || .venv/bin/python -m vagrant.kernels.verify "$KEPT" >"$RESULTS/verified" 2>&1
.venv/bin/python -m pytest -v -p no:cacheprovider -p vagrant.kernels.live \
	-p no:hypothesispytest -o tmp_path_retention_policy=none --timeout="$TEST_TIMEOUT" \
	--durations=25 --junit-xml="$RESULTS/junit.xml" "$@" >"$RESULTS/output" 2>&1 </dev/null
status=$?
.venv/bin/python -m tracer doctor >"$RESULTS/doctor" 2>&1 </dev/null
dmesg >"$RESULTS/dmesg"
echo "$status" >"$RESULTS/status"
