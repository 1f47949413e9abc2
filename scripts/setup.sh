# shellcheck shell=sh
# Functions that make a checkout ready to run, for ./tfotrace and scripts/setup-dev.sh; sourcing has no effects.
#
# Needs $root, the checkout's absolute path. Writes to stderr only. A function that cannot continue says one sentence
# and ends its process with 3 ("cannot trace here").
#
# The tests set TFOTRACE_PYTHON and TFOTRACE_OS_RELEASE to replace the system's.

# bcc's binding comes from the distribution and works only with the distribution's Python, so ignore any other
# python3 that comes first on PATH (pyenv, conda).
python=${TFOTRACE_PYTHON:-/usr/bin/python3}
os_release=${TFOTRACE_OS_RELEASE:-/etc/os-release}
venv=${root:?}/.venv
stamp=$venv/.tfotrace-stamp

say() {
	printf 'tfotrace: %s\n' "$*" >&2
}

fail() {
	say "$@"
	exit 3
}

# The stamp is written last: the version of this setup with the lock file's checksum, the interpreter, bcc's place.
is_set_up() {
	[ -r "$stamp" ] && [ -x "$venv/bin/python" ] || return 1
	{ read -r stamped_lock && read -r stamped_python && read -r stamped_bcc; } <"$stamp" || return 1
	[ -e "$stamped_bcc" ] || return 1
	[ "$stamped_lock" = "1 $(cksum <"$root/requirements.lock")" ] || return 1
	[ "$stamped_python" = "$(readlink -f -- "$python")" ]
}

# A subshell: its traps, lock and umask end with it.
set_up() (
	umask 022 # root's may be 077, and others run tfotrace too
	begin_setup
	if is_set_up; then
		exit 0 # done by the start that we waited for
	fi
	say "setting up this checkout (once; a minute or two)"

	say "1/3 looking for bcc and venv"
	require_new_enough_python
	missing=$(missing_packages)
	if [ -n "$missing" ]; then
		# shellcheck disable=SC2086 # a list of words
		install_missing $missing
		require_new_enough_python
		missing=$(missing_packages)
		[ -z "$missing" ] || fail "$missing cannot be used by $python although installed: try" \
			"\`$python -c 'import bcc, ctypes, ensurepip; ctypes.CDLL(\"libpcap.so.0.8\")'\` and repair what it names"
	fi

	if [ -r "$stamp" ] && [ "$(sed -n 2p "$stamp")" = "$(readlink -f -- "$python")" ]; then
		say "2/3 keeping .venv"
		rm -f -- "$stamp"
	else
		# Without a stamp we do not know how far an earlier setup got.
		say "2/3 making .venv from $python"
		rm -rf -- "$venv" || fail "cannot remove $venv: remove it as its owner and start again"
		logged "$python" -I -m venv --system-site-packages "$venv" ||
			fail_with_log "cannot make $venv: see above, then start again"
	fi

	say "3/3 installing the packages of requirements.lock into .venv"
	install_locked requirements.lock

	for packages in "$venv"/lib/python3*/site-packages; do
		# A relative path, so that the checkout can be moved.
		echo ../../../.. >"$packages/tfotrace.pth"
	done
	logged "$venv/bin/python" -I -m compileall -q "$root/tracer" "$root/tui" || : # only saves time

	{
		echo "1 $(cksum <"$root/requirements.lock")"
		readlink -f -- "$python"
		find_bcc
	} >"$stamp.new" || fail "cannot write $stamp.new: is the disk full?"
	give_back
	mv -- "$stamp.new" "$stamp" || fail "cannot write $stamp: is the disk full?"
	say "ready"
)

# Takes the checkout's setup lock and makes the log. Use it in a subshell: the lock ends with file descriptor 9.
begin_setup() {
	exec 9<"$root/requirements.lock" || fail "cannot read $root/requirements.lock: the checkout is not complete"
	if command -v flock >/dev/null; then
		take_lock="flock"
	else
		take_lock="lock_by_python"
	fi
	if ! $take_lock -n 9; then
		say "another start is setting up this checkout: waiting for it"
		$take_lock 9
	fi
	if [ ! -w "$root" ] || { [ -e "$venv" ] && [ ! -w "$venv" ]; }; then
		is_set_up || fail "$root must be set up once and is not yours to write to:" \
			"start tfotrace once with sudo or as the owner of that folder"
	fi
	log=$(mktemp) || fail "cannot make a temporary file: is the disk full?"
	trap 'rm -f -- "$log"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

lock_by_python() { # lock_by_python [-n] 9: the lock stays with the descriptor, which is this shell's
	"$python" -I -c 'import fcntl, sys
try:
    fcntl.flock(int(sys.argv[-1]), fcntl.LOCK_EX | (fcntl.LOCK_NB if "-n" in sys.argv else 0))
except BlockingIOError:
    sys.exit(1)' "$@"
}

# Runs a command without input, lock or terminal output; its output is shown if it fails.
logged() {
	"$@" </dev/null >"$log" 2>&1 9<&- # else a daemon started by apt would keep the lock
}

fail_with_log() {
	tail -n 15 -- "$log" >&2
	fail "$@"
}

require_new_enough_python() {
	[ -x "$python" ] || return 0
	"$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' </dev/null ||
		fail "$python is older than 3.10, which tfotrace needs:" \
			"use a newer release of the distribution (Debian 12, Ubuntu 22.04 or later)"
}

# Prints the file of bcc's package. Importing it distinguishes it from the other `bcc` on PyPI.
find_bcc() {
	"$python" -I -c 'import bcc; bcc.BPF; print(bcc.__file__)' </dev/null 2>/dev/null
}

has_libpcap() {
	"$python" -I -c 'import ctypes; ctypes.CDLL("libpcap.so.0.8")' </dev/null >/dev/null 2>&1
}

# Prints the Debian names of missing packages that tfotrace needs.
missing_packages() {
	missing=''
	[ -x "$python" ] || missing="$missing python3"
	"$python" -I -c 'import ensurepip, venv' </dev/null >/dev/null 2>&1 || missing="$missing python3-venv"
	find_bcc >/dev/null || missing="$missing python3-bpfcc"
	# On other distributions tfotrace itself says so when a capture or a filter needs it.
	[ "$(distribution)" != debian ] || has_libpcap || missing="$missing libpcap0.8"
	echo "${missing# }"
}

# debian, fedora, arch, suse, alpine or other
distribution() (
	ID='' ID_LIKE=''
	# shellcheck source=/dev/null
	[ -r "$os_release" ] && . "$os_release"
	for name in $ID $ID_LIKE; do
		case $name in
		debian | ubuntu) echo debian && exit ;;
		fedora | rhel | centos) echo fedora && exit ;;
		arch) echo arch && exit ;;
		suse | opensuse*) echo suse && exit ;;
		alpine) echo alpine && exit ;;
		esac
	done
	echo other
)

install_missing() { # install_missing PACKAGE...
	case $(distribution) in
	debian) ;;
	fedora) fail "bcc's Python binding is missing: \`sudo dnf install python3-bcc\` and start again" ;;
	arch) fail "bcc's Python binding is missing: \`sudo pacman -S python-bcc\` and start again" ;;
	suse) fail "bcc's Python binding is missing: \`sudo zypper install python3-bcc\` and start again" ;;
	alpine) fail "bcc's Python binding is missing: \`sudo apk add py3-bcc\` and start again" ;;
	*) fail "bcc's Python binding or Python's venv is missing: install both for $python" \
		"with this system's package manager and start again" ;;
	esac
	if [ "$(id -u)" != 0 ]; then
		fail "missing here: $*: start tfotrace once with sudo, or \`sudo apt-get install $*\`, and start again"
	fi
	say "1/3 installing $* with apt-get"
	apt_install "$@"
}

apt_install() { # apt_install PACKAGE...
	command -v apt-get >/dev/null || fail "apt-get is missing: install $* by hand and start again"
	quiet_apt install "$@" && return
	# The package lists are missing or stale, or dpkg was interrupted.
	say "    again with fresh package lists"
	logged dpkg --configure -a
	quiet_apt update && quiet_apt install "$@" && return
	fail_with_log "apt-get cannot install $*: see above, then start again"
}

quiet_apt() { # quiet_apt COMMAND [PACKAGE...]
	# Wait for unattended upgrades, ask nothing, and restart no service of a production host.
	logged env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
		apt-get -y -q -o DPkg::Lock::Timeout=300 --no-install-recommends "$@"
}

install_locked() { # install_locked FILE
	logged "$venv/bin/python" -I -m pip install --disable-pip-version-check --no-input --no-user \
		--require-hashes -r "$root/$1" ||
		fail_with_log "pip cannot install the packages of $1: see above, check the network, then start again"
}

# Gives files that root made in a checkout to the checkout's owner, who will want to update and remove them.
give_back() {
	owner=$(stat -c %u:%g -- "$root")
	if [ "$(id -u)" = 0 ] && [ "${owner%%:*}" != 0 ]; then
		find "$root" -xdev -name .git -prune -o -user 0 -exec chown -h "$owner" {} +
	fi
}
