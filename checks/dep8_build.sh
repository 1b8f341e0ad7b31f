# Builds the tree. $1 is the tree, $2 the user who builds, "" for this one.
set -eu
tree=$1 user=$2
cd "$tree"
DEB_BUILD_OPTIONS="parallel=$(nproc 2>/dev/null || echo 1)"
DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
export DEB_BUILD_OPTIONS DEBIAN_FRONTEND LANG
chmod +x debian/rules
if [ -z "$user" ]; then
	debian/rules build </dev/null
	exit
fi
chmod a+x "$tree/.."
chown -R "$user" "$tree"
exec su -s /bin/sh "$user" -c 'exec debian/rules build' </dev/null
