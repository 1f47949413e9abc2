# shellcheck shell=sh
# Sourced by run.sh, uml.sh and what they call.

# --- apt with its own lists and cache: it can fetch another release's packages, and installs nothing

# use_suite SUITE FOLDER: apt() works on that suite from now on
use_suite() {
	apt_folder=$2/apt
	mkdir -p "$apt_folder/state/lists/partial" "$apt_folder/cache/archives/partial"
	echo "deb ${DEBIAN_MIRROR:-http://deb.debian.org/debian} $1 main" >"$apt_folder/sources.list"
	apt apt-get update >&2
}

# apt PROGRAM WORD...
apt() {
	program=$1
	shift
	"$program" -q -o Dir::Etc::sourcelist="$apt_folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State="$apt_folder/state" -o Dir::Cache="$apt_folder/cache" -o Dir::State::status=/dev/null \
		-o APT::Sandbox::User=root "$@"
}

# --- a guest

# chosen_tests: pytest's words, by KERNEL_TESTS or QUICK
chosen_tests() {
	if [ -n "${QUICK:-}" ] && [ -z "${KERNEL_TESTS:-}" ]; then
		# shellcheck disable=SC2154 # set by the script that sources this
		grep -v '^#' "$here/quick" | tr '\n' ' '
	else
		echo "${KERNEL_TESTS:-tests/prog tests/netns}"
	fi
}

# byte_compile: what Python would compile in each guest
byte_compile() {
	# shellcheck disable=SC2154 # set by the script that sources this
	env -u PYTHONDONTWRITEBYTECODE "$root/.venv/bin/python" -m pytest -q --collect-only tests >/dev/null
	"$root/.venv/bin/python" -m compileall -q tracer
}

# precompile KEPT: waits until the guest has described its kernel, and compiles the programs for it
precompile() {
	until [ -s "$1/asked" ]; do sleep 1; done
	# shellcheck disable=SC2016 # for the inner shell
	unshare --mount sh -c 'mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id && exec "$2" -m vagrant.kernels.precompile "$1"' \
		sh "$1" "$root/.venv/bin/python" || echo '{}' >"$1/variants"
}

# run_guest COMMAND WORD...: runs it to its end. INT and TERM stop it: then `stopped` is 1, and the results so far remain
run_guest() {
	# shellcheck disable=SC2034 # callers use it
	stopped=
	"$@" &
	guest=$!
	trap 'stopped=1; kill "$guest" 2>/dev/null' INT TERM
	while kill -0 "$guest" 2>/dev/null; do
		wait "$guest"
	done
	trap - INT TERM
}

# --- results

# summary RESULTS: counts passed, skipped and failed tests in pytest's output so far
summary() {
	between=
	for word in PASSED SKIPPED FAILED ERROR; do
		printf '%s%s %s' "$between" "$(grep -c -E "^tests/[^ ]*::.* $word( |\$)" "$1/output")" \
			"$(echo "$word" | tr '[:upper:]' '[:lower:]')"
		between=', '
	done
	[ -s "$1/status" ] || printf ', then it was stopped'
}

# tell KERNEL RESULTS: prints how the run ended; exit code 1 if it failed
tell() {
	if [ "$(cat "$2/status" 2>/dev/null)" = 0 ]; then
		echo "passed  $1: $(summary "$2")"
	elif [ -s "$2/output" ]; then
		echo "FAILED  $1: $(summary "$2")"
		grep -E '^tests/[^ ]*::.* (FAILED|ERROR)' "$2/output"
		return 1
	else
		echo "FAILED  $1: it did not boot, see $2/boot"
		return 1
	fi
}
