# Runs one test and says in $outcome how it ended; what it prints goes where this
# script's output goes.
set -eu
umask 022
tree=$1 artifacts=$2 outcome=$3 root=$4 user=$5 as=$6 kind=$7 what=$8
if [ "$kind" = file ] && [ ! -f "$tree/$what" ]; then
	echo "badpkg $what does not exist" >"$outcome"
	exit
fi
[ "$kind" != file ] || chmod +x "$tree/$what"
work=$(mktemp -d "${TMPDIR:-/tmp}/dep8.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' HUP INT TERM
chmod 755 "$work"
mkdir "$work/tmp"
mkfifo "$work/out" "$work/err"
if [ "$root" = yes ]; then
	chmod a+x "$tree/.."
	chmod -R a+rX "$tree"
	chmod 1777 "$artifacts"
	chown "$as" "$work/tmp" "$work/out" "$work/err"
	[ -z "$user" ] || chown -R "$user" "$tree" # as autopkgtest does, rw-build-tree or not
fi
export DEP8_TREE="$tree" DEP8_KIND="$kind" DEP8_WHAT="$what"
export AUTOPKGTEST_TMP="$work/tmp" AUTOPKGTEST_ARTIFACTS="$artifacts"
export ADTTMP="$AUTOPKGTEST_TMP" ADT_ARTIFACTS="$AUTOPKGTEST_ARTIFACTS"
export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
DEB_BUILD_OPTIONS="parallel=$(nproc 2>/dev/null || echo 1)"
export DEB_BUILD_OPTIONS
unset LANGUAGE LC_ALL LC_CTYPE LC_NUMERIC LC_TIME LC_COLLATE LC_MONETARY LC_MESSAGES LC_PAPER LC_NAME \
	LC_ADDRESS LC_TELEPHONE LC_MEASUREMENT LC_IDENTIFICATION AUTOPKGTEST_NORMAL_USER ADT_NORMAL_USER
if [ "$as" = root ] && [ -n "$user" ]; then
	export AUTOPKGTEST_NORMAL_USER="$user" ADT_NORMAL_USER="$user"
fi
inner='
USER=$(id -nu)
export USER
kind=$DEP8_KIND what=$DEP8_WHAT tree=$DEP8_TREE
unset DEP8_KIND DEP8_WHAT DEP8_TREE
[ -d "${HOME:-}" ] && [ -w "$HOME" ] || export HOME="$AUTOPKGTEST_TMP"
[ ! -r /etc/profile ] || . /etc/profile >/dev/null 2>&1
[ ! -r "$HOME/.profile" ] || . "$HOME/.profile" >/dev/null 2>&1
cd "$tree" || exit 1
if [ "$kind" = file ]; then exec "./$what"; fi
exec bash -ec "$what"
'
cat <"$work/out" &
out=$!
tee "$work/stderr" <"$work/err" >&2 &
err=$!
code=0
(
	exec >"$work/out" 2>"$work/err" </dev/null
	if [ "$root" = yes ]; then exec su -s /bin/sh "$as" -c "$inner"; fi
	exec /bin/sh -c "$inner"
) || code=$?
# What the test left running would hold the pipes open for ever.
left=$(cd /proc && find [0-9]*/fd \( -lname "$work/out" -o -lname "$work/err" \) 2>/dev/null | sed 's,/.*,,' | sort -u | grep -v -x -e "$out" -e "$err" -e "$$" || :)
[ -z "$left" ] || kill -9 $left 2>/dev/null || :
wait "$out" "$err" || :
echo "exit $code" >"$outcome"
if [ -s "$work/stderr" ]; then
	printf 'stderr %s\n' "$(head -c 1000 "$work/stderr" | head -n 1 | tr -d '\000')" >>"$outcome"
fi
