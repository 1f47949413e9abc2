#!/bin/sh
# The fuzz targets in C with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer.
#   run.sh [TARGET ...]   frame, pairing; all where none is named
# RUNS executions of each (10 million); CLANG names the compiler. What it finds and the corpus that
# it grew stay in tests/fuzz/build.
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
runs=${RUNS:-10000000}
build=$here/build

clang=${CLANG:-}
if [ -z "$clang" ]; then
	for name in clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14; do
		command -v "$name" >/dev/null && clang=$name && break
	done
fi
if [ -z "$clang" ] || ! echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' |
	"$clang" -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null; then
	echo "clang with libFuzzer is missing: apt-get install clang libclang-rt-14-dev (the number is clang's version;" \
		"Fedora: dnf install clang compiler-rt)" >&2
	exit 1
fi

[ $# -gt 0 ] || set -- frame pairing
mkdir -p "$build" || exit 1
for target in "$@"; do
	"$clang" -std=gnu11 -O1 -g -Wall -Wextra -Wno-sign-compare -Wno-unknown-pragmas -fno-strict-aliasing \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -I"$here/../../tracer/bpf" \
		-o "$build/$target" "$here/$target.c" || exit 1
	mkdir -p "$build/corpus-$target" "$build/found" || exit 1
	echo "$target: $runs executions, log in $build/$target.log"
	if ! nice -n 10 "$build/$target" -runs="$runs" -max_len=600 -print_final_stats=1 -artifact_prefix="$build/found/$target-" \
		"$build/corpus-$target" "$here/corpus/$target" >"$build/$target.log" 2>&1; then
		tail -n 40 "$build/$target.log" >&2
		echo "$target: a finding; the input is in $build/found" >&2
		exit 1
	fi
	grep -e '^Done' -e 'number_of_executed_units' -e 'average_exec_per_sec' "$build/$target.log"
done
