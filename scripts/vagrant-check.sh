#!/bin/sh
# Validates vagrant/Vagrantfile without starting a machine: by Vagrant if it is installed, else only the syntax by
# Ruby. Every machine's provisioning script must exist and pass shellcheck.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd -- "$root/vagrant"
if command -v vagrant >/dev/null; then
	home=$(mktemp -d)
	trap 'rm -rf -- "$home"' EXIT
	export VAGRANT_HOME="$home" VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_DOTFILE_PATH="$home/dotfile"
	vagrant validate --ignore-provider </dev/null
	machines=$(vagrant status --machine-readable </dev/null | awk -F, '$3 == "state" { print $2 }' | sort)
elif command -v ruby >/dev/null; then
	echo "vagrant-check.sh: Vagrant is not installed: checking only the syntax" >&2
	ruby -c Vagrantfile
	machines=$(sed -n 's/^  "\([a-z0-9]*\)" *=> {.*/\1/p' Vagrantfile | sort)
else
	echo "vagrant-check.sh: vagrant and ruby are missing: apt-get install vagrant" >&2
	exit 1
fi
for machine in $machines; do
	echo "machine: $machine"
done
[ "$(echo "$machines" | wc -w)" -ge 6 ] || { echo "vagrant-check.sh: machines are missing" >&2 && exit 1; }
sed -n 's/.*provision: "\([a-z]*\.sh\)".*/\1/p' Vagrantfile | sort -u | while read -r script; do
	[ -r "provision/$script" ] || { echo "vagrant-check.sh: provision/$script is missing" >&2 && exit 1; }
done
shellcheck provision/*.sh
echo "vagrant-check.sh: valid"
