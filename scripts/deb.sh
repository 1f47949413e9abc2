#!/bin/sh
# Builds dist/tfotrace_VERSION_ARCH.deb for the Debian or Ubuntu release on which it runs, and only for that one: it
# includes Python packages that the release lacks or has too old, built for its Python. SOURCE_DATE_EPOCH sets the
# files' times (default: that of the last commit).
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd -- "$root"
umask 022
checkout_python=$root/.venv/bin/python
[ -x "$checkout_python" ] || { echo "deb.sh: the checkout is not set up: run \`make deb\`" >&2 && exit 1; }

tree=$root/build/deb
library=$tree/usr/lib/tfotrace
rm -rf -- "$tree"
mkdir -p "$library" "$tree/DEBIAN" dist
log=$(mktemp)
trap 'rm -f -- "$log"' EXIT
quietly() {
	"$@" </dev/null >"$log" 2>&1 || { cat -- "$log" >&2 && echo "deb.sh: failed: $*" >&2 && exit 1; }
}

version=$("$checkout_python" -I -c 'import sys; sys.path.insert(0, "."); from tracer import version; print(version.__version__)')
# shellcheck source=/dev/null
release=$(. /etc/os-release && echo "$ID$VERSION_ID" | tr -d .)
architecture=$(dpkg --print-architecture)
minor=$("$checkout_python" -I -c 'import sys; print(sys.version_info.minor)')
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH

echo "deb.sh: collecting Python packages" >&2
pip() { quietly "$checkout_python" -I -m pip "$@" --disable-pip-version-check; }
# --ignore-installed: ignore the checkout's environment.
pip install --no-input --ignore-installed --no-compile --target "$library" --require-hashes -r requirements.lock
pip wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
pip install --no-input --no-deps --no-index --no-compile --target "$library" build/wheel/tfotrace-*.whl
rm -rf -- "${library:?}/bin" build/wheel build/lib build/bdist.* ./*.egg-info
find "$library" -name tests -type d -prune -exec rm -rf {} + # numpy's tests alone are a third of it
# Ship bytecode, so that root never writes it and removing the package leaves nothing.
quietly "$checkout_python" -I -m compileall -q --invalidation-mode unchecked-hash -s "$tree" "$library"

mkdir -p "$tree/usr/bin"
cat >"$tree/usr/bin/tfotrace" <<'PROGRAM'
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/lib/tfotrace")
sys.dont_write_bytecode = True

from tracer.cli.main import main

sys.exit(main())
PROGRAM
chmod 755 "$tree/usr/bin/tfotrace"

"$checkout_python" -I scripts/manual.py "$tree/usr/share/man/man8"
gzip -9n "$tree"/usr/share/man/man8/*.8
"$checkout_python" -I scripts/completions.py build/completions
install -D -m 644 build/completions/tfotrace "$tree/usr/share/bash-completion/completions/tfotrace"
install -D -m 644 build/completions/_tfotrace "$tree/usr/share/zsh/vendor-completions/_tfotrace"
install -D -m 644 build/completions/tfotrace.fish "$tree/usr/share/fish/vendor_completions.d/tfotrace.fish"
install -D -m 644 packaging/tfotrace@.service "$tree/lib/systemd/system/tfotrace@.service"
install -D -m 644 packaging/tfotrace.sysusers "$tree/usr/lib/sysusers.d/tfotrace.conf"
install -D -m 644 packaging/tfotrace.tmpfiles "$tree/usr/lib/tmpfiles.d/tfotrace.conf"
multiarch=$("$checkout_python" -c 'import sysconfig; print(sysconfig.get_config_var("MULTIARCH"))')
extcap=$tree/usr/lib/$multiarch/wireshark/extcap # Wireshark looks nowhere else
mkdir -p "$extcap"
printf '#!/bin/sh\nexec /usr/bin/tfotrace extcap "$@"\n' >"$extcap/tfotrace"
chmod 755 "$extcap/tfotrace"
documents=$tree/usr/share/doc/tfotrace
install -D -m 644 -t "$documents" README.md LIMITATIONS.md ARCHITECTURE.md docs/REFERENCE.md
gzip -9nc CHANGELOG.md >"$documents/changelog.gz"
cat LICENSE LICENSES/*.txt >"$documents/copyright"

install -m 755 packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm "$tree/DEBIAN"
cat >"$tree/DEBIAN/control" <<CONTROL
Package: tfotrace
Version: $version~$release
Architecture: $architecture
Maintainer: tfotrace maintainers <maintainers@tfotrace.invalid>
Section: net
Priority: optional
Installed-Size: $(du -sk "$tree/usr" | cut -f1)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1))), python3-bpfcc, libpcap0.8
Recommends: systemd
Description: shows every TCP handshake and what TCP Fast Open did in it
 eBPF programs pair the packets of each TCP handshake in the kernel. A
 dashboard, JSON lines or text show the result: was a TCP Fast Open cookie
 (RFC 7413) asked for, granted and used, was the data in the SYN accepted,
 what did that save, and if not, why not?
CONTROL
find "$tree" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
package=dist/tfotrace_$version~${release}_$architecture.deb
quietly dpkg-deb --root-owner-group --build "$tree" "$package"
rm -rf -- "$tree" build/completions
echo "deb.sh: made $package" >&2
