# Applies the tree's patches, as unpacking the source package would have done.
# $1 is the tree.
set -eu
cd "$1"
command -v dpkg-source >/dev/null || { echo "cannot apply the patches of debian/patches: dpkg-source is not installed" >&2; exit 1; }
dpkg-source --before-build .
