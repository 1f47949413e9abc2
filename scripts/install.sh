#!/bin/sh
# Installs tfotrace for all users of this host, or removes it (root).
#   install.sh install      under PREFIX (default /usr/local), in its own Python environment
#   install.sh uninstall    removes exactly what install put there
# The checkout's environment makes man pages and completions from the definition of the command line.
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 3
prefix=${PREFIX:-/usr/local}
checkout_python=$root/.venv/bin/python

# shellcheck source=scripts/setup.sh
. "$root/scripts/setup.sh"
venv=$prefix/lib/tfotrace # from here on the functions of setup.sh use it

units=$prefix/lib/systemd/system
account=$prefix/lib/sysusers.d/tfotrace.conf
folders=$prefix/lib/tmpfiles.d/tfotrace.conf
manuals=$prefix/share/man/man8
bash_completion=$prefix/share/bash-completion/completions/tfotrace
zsh_completion=$prefix/share/zsh/site-functions/_tfotrace
fish_completion=$prefix/share/fish/vendor_completions.d/tfotrace.fish
# Wireshark looks nowhere else
for extcap in /usr/lib/*/wireshark/extcap /usr/lib/wireshark/extcap /nowhere; do
	[ ! -d "$extcap" ] || break
done

remove_files() {
	rm -rf -- "$venv" &&
		rm -f -- "$prefix/bin/tfotrace" "$manuals"/tfotrace.8 "$manuals"/tfotrace-*.8 "$bash_completion" \
			"$zsh_completion" "$fish_completion" "$units/tfotrace@.service" "$account" "$folders" "$extcap/tfotrace"
}

copy_files() {
	install -D -m 755 "$made/tfotrace" "$prefix/bin/tfotrace" &&
		install -D -m 644 -t "$manuals" "$made"/man/*.8 &&
		install -D -m 644 "$made/completions/tfotrace" "$bash_completion" &&
		install -D -m 644 "$made/completions/_tfotrace" "$zsh_completion" &&
		install -D -m 644 "$made/completions/tfotrace.fish" "$fish_completion" &&
		install -D -m 644 "$made/tfotrace@.service" "$units/tfotrace@.service" &&
		install -D -m 644 "$root/packaging/tfotrace.sysusers" "$account" &&
		install -D -m 644 "$root/packaging/tfotrace.tmpfiles" "$folders" &&
		if [ -d "$extcap" ]; then
			printf '#!/bin/sh\nexec %s/bin/tfotrace extcap "$@"\n' "$prefix" >"$extcap/tfotrace" && chmod 755 "$extcap/tfotrace"
		fi
}

tell_systemd() {
	[ -d /run/systemd/system ] || return 0
	if [ -e "$account" ]; then
		systemd-sysusers "$account" && systemd-tmpfiles --create "$folders"
	fi
	systemctl daemon-reload
}

install_files() (
	umask 022
	begin_setup
	[ -x "$checkout_python" ] || fail "$root is not set up: run \`make install\`, which sets it up first"
	require_new_enough_python
	missing=$(missing_packages)
	if [ -n "$missing" ]; then
		# shellcheck disable=SC2086 # a list of words
		install_missing $missing
	fi
	made=$(mktemp -d) || fail "cannot make a temporary folder: is the disk full?"
	trap 'rm -rf -- "$log" "$made"' EXIT

	say "building"
	logged "$checkout_python" -I -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation \
		--wheel-dir "$made" "$root" || fail_with_log "cannot build the wheel: see above"
	"$checkout_python" -I "$root/scripts/manual.py" "$made/man" || fail "cannot make the man pages"
	"$checkout_python" -I "$root/scripts/completions.py" "$made/completions" || fail "cannot make the completions"

	say "installing into $prefix"
	remove_files || fail "cannot remove what is installed in $prefix"
	logged "$python" -I -m venv --system-site-packages "$venv" || fail_with_log "cannot make $venv: see above"
	install_locked requirements.lock
	logged "$venv/bin/python" -I -m pip install --disable-pip-version-check --no-deps --no-index "$made"/*.whl ||
		fail_with_log "cannot install the wheel: see above"
	# -I: a program that runs as root must import nothing from the current folder, PYTHON* or ~/.local.
	# shellcheck disable=SC2016 # $0 is the script's that is written
	printf '#!/bin/sh\nexport TFOTRACE_STARTED_AS="$0"\nexec %s/bin/python -I -m tracer "$@"\n' "$venv" >"$made/tfotrace"
	sed "s|/usr/bin/tfotrace|$prefix/bin/tfotrace|" "$root/packaging/tfotrace@.service" >"$made/tfotrace@.service"
	copy_files || fail "cannot write under $prefix: is the disk full?"
	rm -rf -- "$root/build" "$root"/*.egg-info
	give_back
	say "installed: $prefix/bin/tfotrace"
)

case ${1-} in
install)
	install_files || exit
	tell_systemd
	;;
uninstall)
	remove_files || fail "cannot remove everything under $prefix"
	for folder in "$bash_completion" "$zsh_completion" "$fish_completion" "$units/x" "$account" \
		"$folders" "$manuals/x"; do
		rmdir -p --ignore-fail-on-non-empty -- "$(dirname -- "$folder")" 2>/dev/null
	done
	tell_systemd
	say "removed from $prefix (an account tfotrace and /var/log/tfotrace are kept)"
	;;
*) fail "install.sh: install or uninstall" ;;
esac
