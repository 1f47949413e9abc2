#!/bin/bash
# run.sh [KERNEL ...]: boots each kernel of the file `kernels` (default: all) with virtme-ng on this host's own file
# system and runs tests in it (root). Its files are in build/kernels.
#   KERNEL_TESTS   the tests to run (default: tests/prog tests/netns), as pytest's arguments
#   CPUS           emulated CPUs of each guest (default: 2, of which one is off without KVM, but for tests that need both)
#   QUICK=1        run those that differ most between kernels instead: the list `quick`
#   TEST_TIMEOUT   seconds for a test (default: 120, without KVM 1800)
#   BOOT_TIMEOUT   seconds for a kernel in all (default: 7200, without KVM 6 hours)
# While a kernel runs, build/kernels/NAME/results/output shows its progress; if it is stopped (INT, TERM or timeout), the
# tests so far are counted.
set -uo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
root=$(CDPATH='' cd -- "$here/../.." && pwd -P)
build=${KERNELS_FOLDER:-$root/build/kernels}
# shellcheck source=vagrant/kernels/common.sh
. "$here/common.sh"
read -r -a tests <<<"$(chosen_tests)"
for program in qemu-system-x86_64 depmod busybox script dpkg-deb setquota xdp-loader; do
	command -v "$program" >/dev/null || {
		echo "run.sh: $program is missing: apt-get install qemu-system-x86 kmod busybox-static util-linux quota xdp-tools" >&2
		exit 1
	}
done
# kvm_boots IMAGE: does KVM take it as far as its search for a root file system? There may be a /dev/kvm that no stock kernel
# boots with, and QEMU then ends, or stops in the middle of it.
kvm_boots() {
	[ -w /dev/kvm ] && timeout 20 qemu-system-x86_64 -accel kvm -cpu host -m 512 -nodefaults -display none -no-reboot -serial stdio \
		-kernel "$1" -append "console=ttyS0 panic=-1" </dev/null 2>&1 | grep -a 'Unable to mount root fs' >/dev/null
}
# choose_accelerator IMAGE
choose_accelerator() {
	if kvm_boots "$1"; then
		speed=() TEST_TIMEOUT=${TEST_TIMEOUT:-120} patience=1 one_cpu=
		return
	fi
	# Mitigations and a clock that is a device cost most in emulation: nearly half. Emulated CPUs wait for each other at
	# every map and unmap, so the second is on only for tests that need it. Without erms and fsrm the kernel clears and
	# copies pages by words, not by bytes. The serial ports have some 400 event descriptors, each polled at every turn of
	# QEMU's loop. On a busy host a kernel with many CPUs measures its delay loop for minutes: lpj gives that of 2.5 GHz.
	# QEMU 7.2 emulates some instruction of AVX2 wrongly: numpy's argsort gives a wrong order there.
	speed=(--disable-kvm "--qemu-opts=-accel tcg,thread=multi,tb-size=1024 -cpu max,avx2=off,erms=off,fsrm=off"
		"--qemu-opts=-global virtio-serial-pci.ioeventfd=off" --append nokaslr --append mitigations=off --append no5lvl
		--append tsc=reliable --append clocksource=tsc --append lpj=10000000 --append no_timer_check)
	TEST_TIMEOUT=${TEST_TIMEOUT:-1800} BOOT_TIMEOUT=${BOOT_TIMEOUT:-21600} patience=10 one_cpu=1
	[ "${CPUS:-2}" -le 2 ] || one_cpu= # more were asked for on purpose
	echo "run.sh: no KVM here: kernels run in emulation, many times slower" >&2
}
virtme=$build/virtme
if [ ! -x "$virtme/bin/vng" ]; then
	python3 -m venv "$virtme" && "$virtme/bin/pip" install -q --disable-pip-version-check virtme-ng || exit 1
fi
export PATH=$virtme/bin:$PATH

# The host's file system again, for guest.sh to mount with a cache; vng's own mount asks the host for each name every time.
again=("--qemu-opts=-fsdev local,id=again,path=/,security_model=none,readonly=on,multidevs=remap"
	"--qemu-opts=-device virtio-9p-pci,fsdev=again,mount_tag=again")

cd -- "$root" || exit 1
wanted=" $* "
failed=0 patience=
while read -r name suite series; do
	case $name in '' | '#'*) continue ;; esac
	if [ "$wanted" != "  " ] && [[ $wanted != *" $name "* ]]; then
		continue
	fi
	folder=$build/$name
	image=$(sh "$here/fetch.sh" "$suite" "$series" "$folder" 2>"$build/fetch.log") || {
		tail -n 5 "$build/fetch.log" >&2
		echo "FAILED  $name: cannot fetch it"
		failed=1
		continue
	}
	[ -n "$patience" ] || choose_accelerator "$image"
	results=$folder/results kept=$folder/kept
	rm -rf -- "$results" "$kept/variants" && mkdir -p "$results" "$kept/programs" && chmod 700 "$kept/programs"
	byte_compile
	precompile "$kept" >"$results/precompile" 2>&1 &
	helper=$!
	printf 'export RESULTS=%q KEPT=%q CHECKOUT=%q TEST_TIMEOUT=%q TFOTRACE_PATIENCE=%q ONE_CPU=%q AGAIN=again\nexec sh %q' "$results" \
		"$kept" "$root" "$TEST_TIMEOUT" "$patience" "$one_cpu" "$here/guest.sh" >"$results/start"
	printf ' %q' "${tests[@]}" >>"$results/start"
	guest=(vng "${speed[@]}" "${again[@]}" -r "$image" --cpus "${CPUS:-2}" --memory 3G "--overlay-rwdir=$root" "--rwdir=$results" "--rwdir=$kept"
		--user root -- sh "$results/start")
	# vng needs a terminal
	run_guest timeout "${BOOT_TIMEOUT:-7200}" script -qec "$(printf '%q ' "${guest[@]}")" /dev/null </dev/null >"$results/boot" 2>&1
	kill "$helper" 2>/dev/null
	[ ! -s "$results/verified" ] || sed "s/^/$name: /" "$results/verified"
	version=$(basename -- "$folder"/lib/modules/*)
	tell "$name ($version)" "$results" || failed=1
	[ -z "$stopped" ] || exit 1
done <"$here/kernels"
exit "$failed"
