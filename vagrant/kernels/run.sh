#!/bin/bash
# run.sh [KERNEL ...]: boots each kernel named in the file `kernels` (default: all) with virtme-ng on this host's own file
# system and runs tests in it (root). What it fetches and makes lies under build/kernels.
#   KERNEL_TESTS   what to run (default: tests/prog tests/netns); pytest's words
#   TEST_TIMEOUT   seconds a test may take (default: 120, and 1800 where there is no KVM)
#   BOOT_TIMEOUT   seconds for a kernel in all (default: 7200)
set -uo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
root=$(CDPATH='' cd -- "$here/../.." && pwd -P)
build=${KERNELS_FOLDER:-$root/build/kernels}
read -r -a tests <<<"${KERNEL_TESTS:-tests/prog tests/netns}"
for program in qemu-system-x86_64 depmod busybox script dpkg-deb; do
	command -v "$program" >/dev/null || {
		echo "run.sh: $program is missing: apt-get install qemu-system-x86 kmod busybox-static util-linux" >&2
		exit 1
	}
done
# a guest that KVM really runs is still there when its time is up
kvm_works() {
	[ -w /dev/kvm ] || return 1
	{ timeout 3 qemu-system-x86_64 -accel kvm -cpu host -S -nodefaults -display none; } >/dev/null 2>&1
	[ $? = 124 ]
}
if kvm_works; then
	speed=() TEST_TIMEOUT=${TEST_TIMEOUT:-120}
else
	speed=(--disable-kvm) TEST_TIMEOUT=${TEST_TIMEOUT:-1800}
	echo "run.sh: no KVM here: kernels run in emulation, many times slower" >&2
fi
virtme=$build/virtme
if [ ! -x "$virtme/bin/vng" ]; then
	python3 -m venv "$virtme" && "$virtme/bin/pip" install -q --disable-pip-version-check virtme-ng || exit 1
fi
export PATH=$virtme/bin:$PATH

wanted=" $* "
failed=0
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
	results=$folder/results
	rm -rf -- "$results" && mkdir -p "$results"
	printf 'export RESULTS=%q CHECKOUT=%q TEST_TIMEOUT=%q\nexec sh %q' "$results" "$root" "$TEST_TIMEOUT" \
		"$here/guest.sh" >"$results/start"
	printf ' %q' "${tests[@]}" >>"$results/start"
	# vng wants a terminal
	timeout "${BOOT_TIMEOUT:-7200}" script -qec "vng ${speed[*]} -r '$image' --cpus 2 --memory 4G \
		--overlay-rwdir='$root' --rwdir='$results' --user root -- sh '$results/start'" /dev/null </dev/null >"$results/boot" 2>&1
	version=$(basename -- "$folder"/lib/modules/*)
	summary=$(tail -n 1 "$results/output" 2>/dev/null)
	if [ "$(cat "$results/status" 2>/dev/null)" = 0 ]; then
		echo "passed  $name ($version): $summary"
	else
		echo "FAILED  $name ($version): ${summary:-it did not boot, see $results/boot}"
		grep -E '^(FAILED|ERROR) ' "$results/output" 2>/dev/null
		failed=1
	fi
done <"$here/kernels"
exit "$failed"
