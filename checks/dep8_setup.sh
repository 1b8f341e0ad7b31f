# Runs once, when a template is made, as root. It leaves behind in $state:
#   template       the machine is made to be thrown away
#   missing        why the tree's own packages are not there yet
#   uninstallable  why the test is to be skipped
set -eu
state=/var/lib/assay-dep8
mkdir -p "$state"
: >"$state/template"
id dep8 >/dev/null 2>&1 || useradd --create-home --shell /bin/bash dep8

# A mirror that gives out is asked again, and is nobody's fault in the end (75,
# EX_TEMPFAIL of sysexits.h); what cannot be installed is not asked for again.
satisfy() {
	[ -n "$*" ] || return 0
	for pause in 5 20 60 0; do
		if apt-get -q -y --no-install-recommends satisfy "$@" >"$state/said" 2>&1; then
			cat "$state/said"
			return 0
		fi
		cat "$state/said"
		grep -q -e 'Failed to fetch' -e 'Temporary failure' -e 'Could not connect' -e 'Unable to connect' -e 'Connection failed' "$state/said" || return 1
		sleep "$pause"
	done
	exit 75
}

both() { # the arguments that are not empty
	if [ -z "$1" ]; then shift; elif [ -z "$2" ]; then set -- "$1"; fi
	satisfy "$@"
}

why() { { grep -e '^E: ' -e ' Depends: ' "$state/said" || tail -n 1 "$state/said"; } | head -n 1 | sed 's/^ *satisfy:command-line : *//'; }

if ! both "$own" "$others"; then
	why=$(why)
	if [ -n "$own" ] && satisfy "$others"; then
		printf '%s\n' "$why" >"$state/missing"
	elif [ "$skippable" = yes ]; then
		printf '%s\n' "$why" >"$state/uninstallable"
	else
		exit 1
	fi
fi
if [ "$sudo" = yes ]; then
	usermod -a -G sudo dep8
	mkdir -p /etc/sudoers.d
	echo '%sudo ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/assay-dep8
	chmod 0440 /etc/sudoers.d/assay-dep8
fi
rm -f "$state/said"
