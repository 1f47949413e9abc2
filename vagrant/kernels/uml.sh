#!/bin/bash
# uml.sh [KERNEL ...]: builds each kernel of the file `kernels` (default: all) as User Mode Linux and runs tests in it, on
# this host's own file system (root). Without KVM it is several times faster than emulation. It has the version's own verifier
# and network code, but one CPU, no JIT and no drivers. 5.10, 6.1 and 6.12 have been tried. Its files are in build/kernels.
#   KERNEL_TESTS, QUICK, TEST_TIMEOUT (default: 300), BOOT_TIMEOUT   as for run.sh
#   PATIENCE   the factor by which tests wait longer than usual (default: 3)
# `uml.deselected` names tests that need what User Mode Linux lacks.
set -uo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
root=$(CDPATH='' cd -- "$here/../.." && pwd -P)
build=${KERNELS_FOLDER:-$root/build/kernels}
# shellcheck source=vagrant/kernels/common.sh
. "$here/common.sh"
read -r -a tests <<<"$(chosen_tests)"
for need in gcc make flex bison bc pahole busybox dpkg-deb /usr/include/libelf.h; do
	[ -e "$need" ] || command -v "$need" >/dev/null || {
		echo "uml.sh: $need is missing: apt-get install gcc make flex bison bc dwarves libelf-dev busybox-static" >&2
		exit 1
	}
done
deselected=()
while read -r kernels test _; do
	case $kernels in '' | '#'*) continue ;; esac
	deselected+=("$kernels $test")
done <"$here/uml.deselected"

cd -- "$root" || exit 1
mkdir -p "$build"
wanted=" $* "
failed=0
while read -r name suite series; do
	case $name in '' | '#'*) continue ;; esac
	if [ "$wanted" != "  " ] && [[ $wanted != *" $name "* ]]; then
		continue
	fi
	folder=$build/uml-$name
	kernel=$(sh "$here/uml-build.sh" "$suite" "$series" "$folder" 2>"$build/uml-$name.log") || {
		tail -n 5 "$build/uml-$name.log" >&2
		echo "FAILED  $name: cannot build it"
		failed=1
		continue
	}
	results=$folder/results kept=$folder/kept
	[ "$folder/made" -ot "$kept/asked" ] || rm -rf -- "$kept" # of another build
	rm -rf -- "$results" "$kept/variants" && mkdir -p "$results" "$kept/programs" && chmod 700 "$kept/programs"
	byte_compile
	precompile "$kept" >"$results/precompile" 2>&1 &
	helper=$!
	words=("${tests[@]}")
	for one in "${deselected[@]}"; do
		if [ "${one%% *}" = all ] || [ "${one%% *}" = "$name" ]; then
			words+=("--deselect=${one#* }")
		fi
	done
	printf 'export RESULTS=%q KEPT=%q CHECKOUT=%q TEST_TIMEOUT=%q TFOTRACE_PATIENCE=%q\nexec sh %q' "$results" "$kept" \
		"$root" "${TEST_TIMEOUT:-300}" "${PATIENCE:-3}" "$here/guest.sh" >"$results/start"
	printf ' %q' "${words[@]}" >>"$results/start"
	HOME=$results run_guest timeout -k 10 "${BOOT_TIMEOUT:-7200}" "$kernel" mem=3G root=/dev/root rootfstype=hostfs rootflags=/ ro quiet \
		"init=$here/uml-init.sh" "START=$results/start" "WRITABLE=$results:$kept" con0=null,fd:1 con=null \
		</dev/null >"$results/boot" 2>&1
	kill "$helper" 2>/dev/null
	[ ! -s "$results/verified" ] || sed "s/^/$name: /" "$results/verified"
	version=$(cat "$folder/debian-version")
	tell "$name ($version)" "$results" || failed=1
	[ -z "$stopped" ] || exit 1
done <"$here/kernels"
exit "$failed"
