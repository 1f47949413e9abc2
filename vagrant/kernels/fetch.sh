#!/bin/sh
# fetch.sh SUITE SERIES FOLDER: unpacks Debian's newest kernel of that series ("." for any) into FOLDER and prints the
# path of its image. It installs nothing: apt uses its own lists and folders.
set -eu
suite=$1 series=$2 folder=$3
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
# shellcheck source=vagrant/kernels/common.sh
. "$here/common.sh"
mkdir -p "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd -P)

# in /boot, or among the modules in newer releases
find_image() {
	find "$folder" \( -path '*/boot/vmlinuz-*' -o -path '*/modules/*/vmlinuz' \) 2>/dev/null | head -n 1
}

image=$(find_image)
if [ -z "$image" ]; then
	use_suite "$suite" "$folder"
	kernel=$(apt apt-cache search --names-only '^linux-image-[0-9].*-amd64$' | cut -d' ' -f1 | sed 's/^linux-image-//' |
		grep -v -e cloud -e rt- -e unsigned | grep "^$series" | sort -V | tail -n 1)
	[ -n "$kernel" ] || { echo "fetch.sh: $suite has no kernel $series" >&2 && exit 1; }
	# Newer releases have separate packages for image and modules.
	packages=$(apt apt-cache search --names-only '^linux-(image|binary|modules|base)-[0-9]' | cut -d' ' -f1 |
		grep -F -x -e "linux-image-$kernel" -e "linux-binary-$kernel" -e "linux-modules-$kernel" -e "linux-base-$kernel")
	for package in $packages; do # one by one: else apt's handler fails on larger ones
		(cd -- "$folder" && apt apt-get download "$package" >&2)
	done
	for package in "$folder"/linux-*.deb; do
		dpkg-deb -x "$package" "$folder"
		rm -f -- "$package"
	done
	image=$(find_image)
	if [ ! -e "$folder/lib" ]; then
		ln -s usr/lib "$folder/lib" # newer packages use /usr/lib
	fi
	depmod -b "$folder" "$kernel" >&2
fi
echo "$image"
