#!/bin/sh
# Inside the booted kernel: runs verify.py, pytest with the given arguments, and doctor, and writes their output to $RESULTS
# while they run. The root file system is the host's, read-only, with changes kept in memory; $RESULTS and $KEPT are folders
# of the host.
if [ -n "${AGAIN:-}" ]; then # run.sh: our own root on the same file system, with a cache
	mount -t tmpfs tmpfs /mnt && mkdir /mnt/lower /mnt/upper /mnt/work /mnt/new || exit 1
	mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose "$AGAIN" /mnt/lower || exit 1
	mount -t overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/new || exit 1
	for folder in /dev /proc /sys "$RESULTS" "$KEPT"; do
		mkdir -p "/mnt/new$folder" && mount --rbind "$folder" "/mnt/new$folder" || exit 1
	done
	modules=/lib/modules/$(uname -r)
	mkdir -p /mnt/new/lib/modules && ln -sfn "$(readlink -f "$modules")" "/mnt/new$modules"
	cd /mnt/new && pivot_root . mnt && cd / || exit 1
fi

cd -- "$CHECKOUT" || exit 1
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t tmpfs -o mode=755 tmpfs /run 2>/dev/null
mkdir -p /run/netns /run/lock
ip link set lo up
[ -z "${ONE_CPU:-}" ] || echo 0 >/sys/devices/system/cpu/cpu1/online # tests/support/cpus.py switches it on
# udev makes it on other systems; opening it loads its module
[ -e /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
# any ss loads tcp_diag, and tfotrace asks sockets only where it is; places in nf_tables have names at once if it was
# there when a run began
modprobe -aq loop tcp_diag nf_tables

# Compiling takes minutes in emulation: programs compiled by one test, or by the host for this kernel, serve all tests and
# the next guest with this kernel, since we pretend that it is the same boot.
mkdir -p /run/tfotrace/programs
[ -s "$KEPT/boot_id" ] || cat /proc/sys/kernel/random/boot_id >"$KEPT/boot_id"
mount --bind "$KEPT/boot_id" /proc/sys/kernel/random/boot_id
mount --bind "$KEPT/programs" /run/tfotrace/programs
export TFOTRACE_TEST_PROGRAMS="$KEPT/programs"
export TFOTRACE_OWN_MACHINE=1 # tests may set its clock and switch off a CPU
[ -s "$KEPT/asked" ] || { .venv/bin/python -m vagrant.kernels.precompile --ask >/run/asked && cat /run/asked >"$KEPT/asked"; }

cut -d" " -f1 /proc/uptime >"$RESULTS/uptime"
uname -r -v >"$RESULTS/kernel"
until [ -s "$KEPT/variants" ]; do sleep 1; done # the host compiles
.venv/bin/python -m vagrant.kernels.verify "$KEPT" >"$RESULTS/verified" 2>&1
.venv/bin/python -m pytest -v -p no:cacheprovider -p vagrant.kernels.live \
	-p no:hypothesispytest -o tmp_path_retention_policy=none --timeout="$TEST_TIMEOUT" \
	--durations=25 --junit-xml="$RESULTS/junit.xml" "$@" >"$RESULTS/output" 2>&1 </dev/null
status=$?
.venv/bin/python -m tracer doctor >"$RESULTS/doctor" 2>&1 </dev/null
dmesg >"$RESULTS/dmesg"
echo "$status" >"$RESULTS/status"
