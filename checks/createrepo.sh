# $1: a directory with packages. Anything on standard error is a mistake, as it
# always was; the value is what goes to standard output.
command -v createrepo_c >/dev/null 2>&1 || {
	echo "cannot find createrepo_c in this machine: write rpm: [createrepo_c] (or deb: [createrepo-c]) below environment" >&2
	exit 1
}
[ -d "$1" ] || {
	echo "cannot find the directory $1" >&2
	exit 1
}
exec 3>&1
said=$(createrepo_c "$1" 2>&1 >&3)
code=$?
if [ -n "$said" ]; then
	printf '%s\n' "$said" >&2
	exit 1
fi
exit "$code"
