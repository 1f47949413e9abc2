#!/bin/sh
# Installs what tests and linters need in addition to ./tfotrace, unless it is already there.
#   setup-dev.sh              the packages of requirements-dev.lock in .venv
#   setup-dev.sh --system     those, and the programs that the tests run, by apt-get (root)
#   setup-dev.sh --give-back  give files that root made in the checkout to the checkout's owner
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 3

# shellcheck source=scripts/setup.sh
. "$root/scripts/setup.sh"

dev_stamp=$venv/.tfotrace-dev-stamp

# Debian package and one of its programs, for distributions that name the package otherwise.
programs='bpftool:bpftool curl:curl ethtool:ethtool gcc:gcc iperf3:iperf3 iproute2:ip iptables:iptables libc6-dev:gcc
netsniff-ng:trafgen nftables:nft nginx-light:nginx openssl:openssl procps:sysctl prometheus:promtool shellcheck:shellcheck
tcpdump:tcpdump tmux:tmux tshark:tshark zstd:zstd'

dev_is_set_up() {
	[ -r "$dev_stamp" ] && [ "$(cat "$dev_stamp")" = "1 $(cksum <"$root/requirements-dev.lock")" ]
}

set_up_dev() (
	umask 022
	begin_setup
	if dev_is_set_up; then
		exit 0
	fi
	say "installing the packages of requirements-dev.lock into .venv"
	rm -f -- "$dev_stamp"
	install_locked requirements-dev.lock
	echo "1 $(cksum <"$root/requirements-dev.lock")" >"$dev_stamp"
	give_back
)

missing_programs() {
	missing=''
	for pair in $programs; do
		if command -v dpkg-query >/dev/null; then
			[ "$(dpkg-query -W -f='${db:Status-Status}' "${pair%:*}" 2>/dev/null)" = installed ] ||
				missing="$missing ${pair%:*}"
		else
			command -v "${pair#*:}" >/dev/null || missing="$missing ${pair#*:}"
		fi
	done
	echo "${missing# }"
}

set_up_system() (
	begin_setup
	missing=$(missing_programs)
	if [ -z "$missing" ]; then
		exit 0
	fi
	[ "$(id -u)" = 0 ] || fail "missing here: $missing: run make setup once with sudo"
	[ "$(distribution)" = debian ] || fail "the tests need $missing: install them and start again"
	say "installing $missing with apt-get"
	# A test host needs the programs of nginx and prometheus, not servers that start now and at every boot.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f -- "$log" "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	# shellcheck disable=SC2086 # a list of words
	apt_install $missing
	for pair in nginx-light:nginx prometheus:prometheus; do
		case " $missing " in
		*" ${pair%:*} "*)
			if [ -d /run/systemd/system ]; then
				logged systemctl disable "${pair#*:}.service"
			fi
			;;
		esac
	done
)

case ${1-} in
'') ;;
--system) set_up_system || exit ;;
--give-back) give_back && exit ;;
*) fail "setup-dev.sh: unknown option $1" ;;
esac
is_set_up || set_up || exit
dev_is_set_up || set_up_dev || exit
