#!/bin/sh
# uml-build.sh SUITE SERIES FOLDER: builds Debian's newest kernel source of that series ("." for any) as User Mode Linux in
# FOLDER and prints the path of the program. It installs nothing. It takes some minutes and, meanwhile, 3 GB.
set -eu
suite=$1 series=$2 folder=$3
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
mkdir -p "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd -P)
# shellcheck source=vagrant/kernels/common.sh
. "$here/common.sh"

made=$(cat "$here/uml.config" "$0" | cksum)
if [ "$(cat "$folder/made" 2>/dev/null)" = "$made" ]; then
	echo "$folder/linux"
	exit 0
fi

if [ ! -e "$folder/source/Kconfig" ]; then
	use_suite "$suite" "$folder"
	package=$(apt apt-cache search --names-only '^linux-source-[0-9.]*$' | cut -d' ' -f1 | sed 's/^linux-source-//' |
		grep "^$series" | sort -V | tail -n 1)
	[ -n "$package" ] || { echo "uml-build.sh: $suite has no source of a kernel $series" >&2 && exit 1; }
	(cd -- "$folder" && apt apt-get download "linux-source-$package" >&2)
	rm -rf -- "$folder/unpacked" && mkdir "$folder/unpacked"
	for deb in "$folder"/linux-source-*.deb; do
		basename -- "$deb" .deb | cut -d_ -f2 >"$folder/debian-version"
		dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/linux-source-$package.tar.xz" |
			tar -xJ --strip-components=1 --exclude='*.dts' --exclude='*.dtsi' -C "$folder/unpacked"
		rm -f -- "$deb"
	done
	rm -rf -- "$folder/source" && mv "$folder/unpacked" "$folder/source"
fi
cd -- "$folder/source"

# Features of x86 that UML does not enable: unaligned reading of packets, and perf (only software events), for the perf
# buffer and for helpers that only tracing declares.
for have in HAVE_PERF_EVENTS HAVE_EFFICIENT_UNALIGNED_ACCESS; do
	grep -q "$have" arch/um/Kconfig || sed -i "/^config UML\$/,/^\$/ s/^\tdefault y\$/&\n\tselect $have/" arch/um/Kconfig
done
[ -e arch/um/include/asm/perf_event.h ] || : >arch/um/include/asm/perf_event.h
sed -i 's/depends on (KPROBE_EVENTS || UPROBE_EVENTS) && PERF_EVENTS/depends on PERF_EVENTS/' kernel/trace/Kconfig
# As in 5.11 and newer: a file opened through an overlay has the overlay's path.
sed -i '/^static int hostfs_open/,/^}/ s/file->f_path\.dentry/file_dentry(file)/' fs/hostfs/hostfs_kern.c

make -s ARCH=um x86_64_defconfig >&2
cat "$here/uml.config" >>.config
make -s ARCH=um olddefconfig >&2
make -s ARCH=um "-j$(nproc)" linux >&2
objcopy --strip-debug linux "$folder/linux"
make -s ARCH=um kernelrelease >"$folder/release"
echo "$made" >"$folder/made"
rm -rf -- "$folder/source"
echo "$folder/linux"
