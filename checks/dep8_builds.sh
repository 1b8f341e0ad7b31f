# Installs what was built over what the archive has: the packages that the test
# names, and those that are installed already. $1 is their directory, $2 what must
# be satisfied then, the rest are the names. Says on standard output why that
# cannot be, and nothing when it could.
set -u
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
builds=$1 own=$2
shift 2
names=" $* "
said=$(mktemp)
list=$(mktemp)
arch=$(dpkg --print-architecture)
for deb in "$builds"/*.deb "$builds"/*/*.deb; do
	[ -f "$deb" ] || continue
	name=$(dpkg-deb -f "$deb" Package) || continue
	case $(dpkg-deb -f "$deb" Architecture) in all | "$arch") ;; *) continue ;; esac
	wanted=no
	case $names in *" $name "*) wanted=yes ;; esac
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" != installed ] || wanted=yes
	case $name in *-dbgsym) [ "$wanted" = yes ] || continue ;; esac
	printf '%s %s\n' "$wanted" "$deb" >>"$list"
done

# install takes what is wanted, or all of it.
install() {
	set -- "$1"
	while read -r wanted deb; do
		[ "$1" = some ] && [ "$wanted" = no ] || set -- "$@" "$deb"
	done <"$list"
	shift
	[ $# -eq 0 ] || apt-get -q -y --no-install-recommends --allow-downgrades install "$@" >"$said" 2>&1
}

tell() { cat "$said" >&2; }

# What is wanted may need packages of the same build that nobody named.
installed=yes
install some || { tell; install all || installed=no; }
tell
if [ "$installed" = yes ] && [ -n "$own" ]; then
	apt-get -q -y --no-install-recommends satisfy "$own" >"$said" 2>&1 || { installed=no; tell; }
fi
if [ "$installed" = no ]; then
	{ grep -e '^E: ' -e ' Depends: ' "$said" || tail -n 1 "$said"; } | head -n 1 | sed 's/^ *satisfy:command-line : *//' | cut -c -300
fi
rm -f "$said" "$list"
