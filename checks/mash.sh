# $1: a directory with packages; $2: where the repository goes, which may be $1;
# $3: the architecture; $4: 1 for deltas. Packages that do not belong into a
# multilib repository of the architecture are left out: those of other machines,
# and of the 32-bit ones that this one runs all but libraries and what is needed
# to build with them.
for tool in createrepo_c rpm; do
	command -v "$tool" >/dev/null 2>&1 || {
		echo "cannot find $tool in this machine: write rpm: [createrepo_c] (or deb: [createrepo-c, rpm]) below environment" >&2
		exit 1
	}
done
[ -d "$1" ] || {
	echo "cannot find the directory $1" >&2
	exit 1
}

native=$3 compatible=
case $3 in
x86_64) native='x86_64 amd64 ia32e' compatible='i386 i486 i586 i686 athlon' ;;
i386) native='i386 i486 i586 i686 athlon' ;;
armhfp) native='armv7hl armv7hnl' ;;
ppc64) native='ppc64 ppc64p7' compatible='ppc' ;;
s390x) compatible='s390' ;;
esac

among() { case " $2 " in *" $1 "*) return 0 ;; esac; return 1; }

# belongs tells whether the package file $1 is in the repository. The libraries
# are read first and looked at then: a package that cannot be read is a mistake.
belongs() {
	name=$(rpm -qp --nosignature --nodigest --qf '%{NAME} %{ARCH} %{SOURCEPACKAGE}' "$1" 2>/dev/null) || {
		echo "cannot read the package ${1##*/}" >&2
		exit 1
	}
	source=${name##* } name=${name% *}
	arch=${name##* } name=${name% *}
	[ "$source" != 1 ] || return 1
	[ "$arch" != noarch ] || return 0
	! among "$arch" "$native" || return 0
	among "$arch" "$compatible" || return 1
	case $name in
	*-devel | *-static) return 0 ;;
	*-debuginfo | *-debugsource | kernel | kernel-*) return 1 ;;
	esac
	files=$(rpm -qpl --nosignature --nodigest "$1" 2>/dev/null) || {
		echo "cannot read the package ${1##*/}" >&2
		exit 1
	}
	printf '%s\n' "$files" | grep -Eq '^/(usr/)?lib/([^/]+\.so(\.[^/]*)?|(security|gconv|dri|sasl2|krb5/plugins/[^/]+|alsa-lib|gtk-[^/]+/.*|qt[^/]*/plugins/.*|gstreamer-[^/]+)/[^/]+\.so)$'
}

mkdir -p "$2" || exit 1
kept=0 dropped=0
for file in "$1"/*.rpm; do
	[ -f "$file" ] || continue
	if belongs "$file"; then
		kept=$((kept + 1))
		[ "$1" -ef "$2" ] || cp -- "$file" "$2"/ || exit 1
	else
		dropped=$((dropped + 1))
		echo "left out: ${file##*/}"
		[ ! "$1" -ef "$2" ] || rm -f -- "$file" || exit 1
	fi
done
echo "$kept packages for $3, $dropped left out"
if [ "$4" = 1 ]; then
	exec createrepo_c --deltas "$2"
fi
exec createrepo_c "$2"
