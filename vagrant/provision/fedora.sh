#!/bin/sh
# Fedora and RHEL-like systems: installs what setup-dev.sh installs on Debian, by its names here.
set -eu
packages='bpftool curl ethtool gcc glibc-devel iproute iptables-nft make nftables nginx openssl procps-ng python3
	python3-bcc tar tcpdump tmux wireshark-cli'
extra='netsniff-ng ShellCheck' # in EPEL on RHEL-like systems
# shellcheck source=/dev/null
. /etc/os-release
case " $ID ${ID_LIKE-} " in
*" rhel "*) dnf install -y -q epel-release ;;
esac
# shellcheck disable=SC2086 # lists of words
dnf install -y -q $packages $extra
systemctl disable --now nginx.service 2>/dev/null || :
