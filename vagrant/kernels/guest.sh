#!/bin/sh
# Inside the booted kernel: runs pytest with the arguments given, writes output, result and exit status to $RESULTS.
# The root file system is the host's, read-only, with whatever is written kept in memory.
cd -- "$CHECKOUT" || exit 1
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t tmpfs tmpfs /run 2>/dev/null
mkdir -p /run/netns /run/lock
ip link set lo up
# so slow is emulation without KVM that the tests' own limit of two minutes does not fit
.venv/bin/python -m pytest -p no:cacheprovider -o tmp_path_retention_policy=none --timeout="$TEST_TIMEOUT" \
	--junit-xml="$RESULTS/junit.xml" "$@" >"$RESULTS/output" 2>&1 </dev/null
echo $? >"$RESULTS/status"
