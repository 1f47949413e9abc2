#!/bin/sh
# busy.sh N COMMAND [WORD ...]: runs a command beside N processes that do nothing but use a CPU, and returns its status.
set -u
number=$1
shift
pids=
trap '[ -z "$pids" ] || kill $pids 2>/dev/null' EXIT
trap 'exit 130' INT TERM
for _ in $(seq "$number"); do
	while :; do :; done &
	pids="$pids $!"
done
"$@"
status=$?
echo "busy.sh: $number busy processes on $(nproc) CPUs, load average $(cut -d' ' -f1 /proc/loadavg) at the end"
exit "$status"
