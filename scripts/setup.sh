#!/bin/sh
# Installs what assay needs on this host and lacks: nothing when all is there.
#   scripts/setup.sh        what make demo and assay serve need
#   scripts/setup.sh test   and what make test needs besides
# Debian, Ubuntu and Fedora package names; sudo only for a user who is not root.
set -eu

# PROGRAM  DEBIAN-PACKAGE  FEDORA-PACKAGE; a program is looked for in the PATH
# and where administrators' programs lie.
needs='
git                 git                      git
python3             python3                  python3
tar                 tar                      tar
qemu-system-x86_64  qemu-system-x86          qemu-system-x86-core
qemu-img            qemu-utils               qemu-img
libvirtd            libvirt-daemon-system    libvirt-daemon
libvirtd            libvirt-daemon-driver-qemu libvirt-daemon-driver-qemu
mmdebstrap          mmdebstrap               mmdebstrap
fakeroot            fakeroot                 fakeroot
newuidmap           uidmap                   shadow-utils
mkfs.ext4           e2fsprogs                e2fsprogs
prlimit             util-linux               util-linux
xz                  xz-utils                 xz
'
test_needs='
gcc                 gcc                      gcc
gcc                 libc6-dev                glibc-devel
ps                  procps                   procps-ng
sshd                openssh-server           openssh-server
gitolite            gitolite3                gitolite3
grub-mkimage        grub-common              grub2-tools
/usr/lib/grub/i386-pc/boot.img grub-pc-bin   grub2-pc-modules
'
bench_needs='
webhook             webhook                  webhook
'
[ "${1:-}" = test ] && needs="$needs$test_needs"
[ "${1:-}" = bench ] && needs="$needs$bench_needs"

PATH="$PATH:/usr/sbin:/sbin"
if command -v apt-get >/dev/null; then column=2; elif command -v dnf >/dev/null; then column=3; else column=0; fi

# Where systemd is not init, an init for libvirt's daemon: what is init in a
# container may take note of a process's end seconds late, and libvirt waits.
[ -d /run/systemd/system ] || needs="$needs
tini                tini                     tini
"

missing=$(echo "$needs" | while read -r program debian fedora; do
    [ -n "$program" ] || continue
    command -v "$program" >/dev/null && continue
    [ -e "$program" ] && continue
    echo "$program $debian $fedora"
done)

# Where no udev runs, /dev/kvm keeps root's group: libvirt then examines QEMU
# anew at every start, which takes a minute. This is what udev's rule does.
fix_kvm() {
    [ -c /dev/kvm ] && [ "$(id -u)" = 0 ] && [ ! -d /run/udev ] || return 0
    [ "$(stat -c %G /dev/kvm)" = root ] && getent group kvm >/dev/null || return 0
    chgrp kvm /dev/kvm && chmod 660 /dev/kvm
}

[ -n "$missing" ] || { fix_kvm; exit 0; }

packages=$(echo "$missing" | awk -v c="$column" '{ print $c }' | sort -u | tr '\n' ' ')
if [ "$column" = 0 ]; then
    echo "cannot install packages: neither apt-get nor dnf is here: install what provides these by hand:" >&2
    echo "$missing" | awk '{ print "  " $1 }' | sort -u >&2
    exit 1
fi

sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "cannot install $packages: become root, or install sudo" >&2; exit 1; }
    sudo=sudo
fi

echo "Installing $packages" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ "$column" = 2 ]; then
    set -- $sudo env DEBIAN_FRONTEND=noninteractive apt-get
    { "$@" update && "$@" install -y --no-install-recommends $packages; } >"$log" 2>&1
else
    set -- $sudo dnf
    "$@" install -y --setopt=install_weak_deps=False $packages >"$log" 2>&1
fi || { tail -n 30 "$log" >&2; echo "cannot install $packages: see above" >&2; exit 1; }
# The tests start sshd themselves; nobody asked for one on this host.
case " $packages" in *" openssh-server "*)
    [ ! -d /run/systemd/system ] || $sudo systemctl disable --now ssh.service ssh.socket sshd.service >/dev/null 2>&1 || true
esac
fix_kvm
