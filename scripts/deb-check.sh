#!/bin/sh
# Installs dist/tfotrace_*.deb in a fresh, minimal Debian, runs the demo there, removes the package and compares the
# files before and after. Then boots that system with systemd, in a container, and lets tfotrace@lo.service trace
# (needs root, debootstrap, systemd-container; uses this host's apt configuration).
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
package=$(find "$root/dist" -name 'tfotrace_*.deb' 2>/dev/null | sort | tail -n 1)
[ -n "$package" ] || { echo "deb-check.sh: no package in dist: \`make deb\` builds it" >&2 && exit 1; }
for program in debootstrap systemd-nspawn; do
	command -v "$program" >/dev/null ||
		{ echo "deb-check.sh: $program is missing: apt-get install debootstrap systemd-container" >&2 && exit 1; }
done
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")

system=$(mktemp -d)
chmod 755 "$system" # like any root folder: other accounts could reach nothing through a closed one
unmount() {
	for place in proc sys dev run; do
		if mountpoint -q "$system/$place"; then
			umount -R "$system/$place" || exit 1 # never remove files through a mount
		fi
	done
}
# shellcheck disable=SC2317 # called by the trap
leave() {
	unmount
	rm -rf --one-file-system -- "$system" "$system.log" "$system.boot"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { echo "deb-check.sh: $*" >&2; }
inside() { chroot "$system" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
files() {
	inside find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /var/cache -o -path /var/lib/apt \
		-o -path /var/lib/dpkg -o -path /var/log/apt -o -path /tmp \) -prune -o -print |
		grep -v -e '^/var/log/dpkg.log$' -e '^/var/log/alternatives.log$' -e '^/etc/[a-z]*-$' -e '/__pycache__' | sort
}
accounts() { cut -d: -f1 "$system/etc/passwd" "$system/etc/group" | sort; }

say "making a fresh Debian $codename"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus "$codename" "$system" >"$system.log" 2>&1 || { cat "$system.log" >&2 && rm -f "$system.log" && exit 1; }
rm -f "$system.log"
if [ -d /etc/apt/apt.conf.d ]; then
	cp -a /etc/apt/apt.conf.d/. "$system/etc/apt/apt.conf.d/"
fi
mkdir -p "$system/etc/ssl/certs"
cp -aL /etc/ssl/certs/ca-certificates.crt "$system/etc/ssl/certs/" 2>/dev/null || :
for place in proc sys dev; do
	mount --rbind "/$place" "$system/$place"
	mount --make-rslave "$system/$place"
done
mount -t tmpfs tmpfs "$system/run"

say "installing the package's dependencies"
cp "$package" "$system/tmp/tfotrace.deb"
dependencies=$(dpkg-deb -f "$package" Depends | sed 's/([^)]*)//g; s/,/ /g')
inside apt-get update -q >/dev/null
# shellcheck disable=SC2086 # a list of words
inside apt-get install -y -q --no-install-recommends $dependencies >/dev/null
files >"$system/tmp/before"
accounts >"$system/tmp/accounts"

say "installing $(basename -- "$package")"
inside apt-get install -y -q --no-install-recommends /tmp/tfotrace.deb >/dev/null
inside tfotrace --version
inside tfotrace demo --json --duration 12 >"$system/tmp/demo.jsonl"
inside /usr/bin/python3 -I -c '
import collections, json
lines = [json.loads(line) for line in open("/tmp/demo.jsonl")]
outcomes = collections.Counter(line["tfo"]["outcome"] for line in lines if line["event"] == "handshake")
end = lines[-1]
balance = end["balance"]
print("handshakes", sum(outcomes.values()), "outcomes", len(outcomes), "end", end["event"])
assert lines[0]["event"] == "start" and end["event"] == "end" and len(outcomes) >= 10, outcomes
assert balance["opened"] == balance["emitted"] + balance["lost"] + balance["suppressed"] + balance["still_open"] + balance[
    "evicted"], balance
'
say "removing it"
inside dpkg --purge tfotrace >/dev/null
files >"$system/tmp/after"
accounts >"$system/tmp/accounts.after"
status=0
diff "$system/tmp/before" "$system/tmp/after" >&2 || status=1
diff "$system/tmp/accounts" "$system/tmp/accounts.after" >&2 || status=1
[ ! -e "$system/run/tfotrace" ] || { say "/run/tfotrace is left" && status=1; }
[ "$status" = 0 ] || { say "failed: the files above were left behind or are missing" && exit 1; }
say "removed without a trace"

say "installing it again and booting the system"
inside apt-get install -y -q --no-install-recommends /tmp/tfotrace.deb >/dev/null
mkdir "$system/opt/check"
cp "$root/packaging/systemd-check.py" "$system/opt/check/"
cat >"$system/etc/systemd/system/check.service" <<'UNIT'
[Unit]
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
TimeoutStartSec=390
ExecStart=/usr/bin/python3 -I /opt/check/systemd-check.py
StandardOutput=truncate:/opt/check/seen
StandardError=inherit
UNIT
inside systemd-machine-id-setup # else the first boot asks questions
unmount
timeout 420 systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --capability=all \
	--system-call-filter=bpf -D "$system" -- --unit=check.service </dev/null >"$system.boot" 2>&1 || :
cat "$system/opt/check/seen" || cat "$system.boot"
rm -f "$system.boot"
grep -q 'the unit ended well' "$system/opt/check/seen" || { say "failed: see above" && exit 1; }
say "passed: installed, ran, removed without a trace, traced as a service"
