#!/bin/sh
# Runs the DEP-8 tests of Debian source packages in virtual machines, and prints
# what came of each, as docs/dep8.md has it.
#   scripts/test-dep8.sh [PACKAGE...]   ten packages, when none is named
#   DEP8_PEER=1                         the same with autopkgtest's QEMU runner, and compare
#   DEP8_DIR=DIR                        where everything lies (default: /var/tmp/assay-dep8)
#   DEP8_DEADLINE=SECONDS               for one package, once (default: 3600)
#   DEP8_FORGET=1                       measure again what was measured
# What was measured is in DIR/measured; a run that was stopped goes on there.
# Each package is run twice: the first time its templates are made, the second
# time they are there. autopkgtest has none, and is run once.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
assay=${ASSAY:-$here/bin/assay}
dir=${DEP8_DIR:-/var/tmp/assay-dep8}
deadline=${DEP8_DEADLINE:-3600}
[ $# -gt 0 ] || set -- hello gzip sed less figlet file ed mawk psmisc ncompress
measured=$dir/measured
tab=$(printf '\t')

die() { echo "test-dep8: $*" >&2; exit 2; }
say() { echo "$(date +%T) $*" >&2; }

[ -x "$assay" ] || die "cannot find $assay: run make build"
for tool in apt-get dpkg-source python3 timeout; do
    command -v "$tool" >/dev/null || die "cannot find $tool: this needs Debian with dpkg-dev and python3"
done
mkdir -p "$dir/sources" "$dir/results"
[ -z "${DEP8_FORGET:-}" ] || rm -f "$measured"
touch "$measured"

# ---- the sources: an apt of our own, made of what the host's asks for

private_apt() {
    apt=$dir/apt
    mkdir -p "$apt/sources" "$apt/lists/partial" "$apt/cache/archives/partial"
    rm -f "$apt"/sources/*
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -f "$file" ] || sed -n 's/^[[:space:]]*deb[[:space:]]/deb-src /p' "$file" >"$apt/sources/$(basename "$file" .list).list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$apt/sources/$(basename "$file")"
    done
    cat >"$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
Acquire::Retries "3";
CONF
    APT_CONFIG=$apt/apt.conf timeout 300 apt-get -q update >"$apt/log" 2>&1 || { cat "$apt/log" >&2; die "cannot read the index of source packages"; }
}

# tree prints the unpacked source of a package, and fetches it if need be.
tree() {
    set -- "$1" "$dir/sources/$1"
    if [ ! -e "$2/done" ]; then
        [ -e "$dir/apt/log" ] || private_apt
        rm -rf "$2"
        mkdir -p "$2"
        (cd "$2" && APT_CONFIG=$dir/apt/apt.conf timeout 300 apt-get -q source "$1") >"$2.log" 2>&1 || { cat "$2.log" >&2; say "cannot fetch the source of $1"; return 1; }
        touch "$2/done"
    fi
    for t in "$2"/*/; do
        [ ! -d "$t/debian" ] || { echo "${t%/}"; return; }
    done
    say "cannot find the source of $1 in $2"
    return 1
}

# ---- what was measured: WHO PACKAGE VERSION TEST NOTE SECONDS; a line whose
# test is "-" ends a package and has the seconds of all of it

is_measured() { grep -q "^$1${tab}$2${tab}[^${tab}]*${tab}-${tab}" "$measured"; }

# keep replaces what was measured of $1 and $2 by its input, in one go.
keep() {
    { grep -v "^$1$tab$2$tab" "$measured" || :; cat; } >"$measured.new"
    mv "$measured.new" "$measured"
}

version() { sed -n '1s/.*(\(.*\)).*/\1/p' "$1/debian/changelog"; }

# since prints how many seconds have gone by, with one digit.
since() { echo "$1 $(date +%s.%N)" | awk '{ printf "%.1f", $2 - $1 }'; }

# ours runs a package's tests with assay: $1 is first or again.
ours() {
    results=$dir/results/$2-$1
    rm -rf "$results"
    begin=$(date +%s.%N)
    code=0
    timeout -k 60 "$deadline" "$assay" run --vm "$3" --results-dir "$results" >"$results.log" 2>&1 || code=$?
    [ "$code" -le 1 ] || { tail -n 5 "$results.log" >&2; say "$2: assay run ended with $code; see $results.log"; return 1; }
    if [ "$1" = first ] && ! grep -q 'boot: template: ready' "$results.log"; then
        say "$2: its template was there already, which is no first run: see assay template remove"
        return 1
    fi
    python3 - "$results" "$1" "$2" "$(version "$3")" "$(since "$begin")" <<'PY' | keep "$1" "$2"
import glob, json, os, sys
results, who, package, version, seconds = sys.argv[1:]
files = glob.glob(os.path.join(results, "results.json")) + glob.glob(os.path.join(results, "*", "results.json"))
for name in sorted(files):
    run = json.load(open(name))
    notes = [r["note"] for r in run["results"]] or [run["verdict"] + ": " + run["reason"]]
    print(who, package, version, run["check"].removeprefix("dep8."), " ".join(notes[-1].split()), "%.1f" % run["took"], sep="\t")
print(who, package, version, "-", "-", seconds, sep="\t")
PY
}

# ---- autopkgtest, on a machine like ours: the same release, kernel and memory

peer_tools() {
    missing=
    for pair in autopkgtest:autopkgtest mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs qemu-img:qemu-utils apt-cacher-ng:apt-cacher-ng; do
        PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    [ -z "$missing" ] || die "cannot run autopkgtest: install$missing"
}

# peer_image makes the disk that autopkgtest starts: Debian with its serial root
# shell and, as the cloud's kernel has no 9p, the ordinary kernel.
peer_image() {
    image=$dir/peer.qcow2
    # autopkgtest splits what it hands to QEMU at spaces, and a kernel's command
    # line has one; and it asks for KVM wherever there is a /dev/kvm, whether or not
    # that works.
    accel="-machine pc,accel=tcg -cpu max"
    [ -z "${DEP8_PEER_KVM:-}" ] || accel="-machine pc,accel=kvm -cpu host"
    cat >"$dir/peer-qemu" <<QEMU
#!/bin/sh
for arg do
    shift
    [ "\$arg" = -enable-kvm ] || set -- "\$@" "\$arg"
done
exec qemu-system-x86_64 $accel "\$@" -kernel $dir/peer.vmlinuz -initrd $dir/peer.initrd -append "root=/dev/vda rw console=ttyS0"
QEMU
    chmod +x "$dir/peer-qemu"
    [ ! -e "$image" ] || return 0
    [ "$(id -u)" = 0 ] || die "cannot make autopkgtest's image: become root"
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    root=$dir/peer.root
    rm -rf "$root" "$dir/peer.raw"
    say "making autopkgtest's image"
    timeout 1800 mmdebstrap --variant=minbase --dpkgopt=force-unsafe-io \
        --include=linux-image-amd64,systemd-sysv,udev,dbus,ifupdown,isc-dhcp-client,iproute2,ca-certificates,python3-minimal,passwd,dpkg-dev \
        --customize-hook='/usr/share/autopkgtest/setup-commands/setup-testbed "$1"' \
        --customize-hook='echo root:root | chroot "$1" chpasswd' \
        --customize-hook='printf "auto lo\niface lo inet loopback\nallow-hotplug ens3 ens4 eth0 enp0s3\niface ens3 inet dhcp\niface ens4 inet dhcp\niface eth0 inet dhcp\niface enp0s3 inet dhcp\n" >"$1/etc/network/interfaces"' \
        "$codename" "$root" >"$dir/peer.log" 2>&1 || { tail -n 20 "$dir/peer.log" >&2; die "cannot install the root of autopkgtest's image"; }
    cp -L "$root/vmlinuz" "$dir/peer.vmlinuz"
    cp -L "$root/initrd.img" "$dir/peer.initrd"
    truncate -s 6G "$dir/peer.raw"
    mkfs.ext4 -q -L peer -d "$root" "$dir/peer.raw"
    qemu-img convert -O qcow2 "$dir/peer.raw" "$image.part"
    rm -rf "$root" "$dir/peer.raw"
    mv "$image.part" "$image"
}

# peer_proxy starts a proxy for apt: machines may reach nothing but this host.
peer_proxy() {
    [ -z "${proxy:-}" ] || return 0
    etc=$dir/proxy/etc
    mkdir -p "$etc" "$dir/proxy/cache" "$dir/proxy/log"
    port=${DEP8_PROXY_PORT:-3143}
    # The host's own settings send Debian's mirrors to backends that may be none.
    cat >"$etc/acng.conf" <<CONF
CacheDir: $dir/proxy/cache
LogDir: $dir/proxy/log
SocketPath: $dir/proxy/socket
PidFile: $dir/proxy/pid
SupportDir: /usr/lib/apt-cacher-ng
BindAddress: 127.0.0.1
Port: $port
ForeGround: 1
CONF
    apt-cacher-ng -c "$etc" >"$dir/proxy/out" 2>&1 &
    proxy=$!
    trap 'kill "$proxy" 2>/dev/null || :' EXIT
    trap 'exit 130' HUP INT TERM
}

# autopkgtest_once tests the tree $1 and leaves what came of it in $out. It would set
# the host's time zone in the machine, and gives that thirty seconds, which are not
# enough for an emulated one: here the host has none.
autopkgtest_once() {
    timeout -k 60 "$deadline" unshare --mount sh -c '[ ! -e /etc/timezone ] || mount --bind /dev/null /etc/timezone; exec "$@"' sh \
        autopkgtest --no-built-binaries --output-dir "$out" --timeout-factor "${DEP8_PEER_PATIENCE:-3}" \
        --setup-commands "echo 'Acquire::http::Proxy \"http://10.0.2.2:$port\";' >/etc/apt/apt.conf.d/01proxy; sed -i -e s,https://,http://, -e /^deb-src/d -e 's/ main .*/ main/' /etc/apt/sources.list; apt-get -q update" \
        "$1" -- qemu --cpus 1 --ram-size 1024 --timeout-reboot 900 --qemu-architecture x86_64 --boot none \
        --user root --password root --qemu-command "$dir/peer-qemu" "$dir/peer.qcow2"
}

peer() {
    out=$dir/results/$1-peer
    # Some of its deadlines are five seconds, whatever it is told: a slow host misses
    # one now and then (16, a testbed failure), and the next attempt may not.
    for attempt in 1 2 3; do
        rm -rf "$out"
        begin=$(date +%s.%N)
        code=0
        autopkgtest_once "$2" >"$out.log" 2>&1 || code=$?
        [ "$code" = 16 ] || break
        say "$1: autopkgtest lost its machine in attempt $attempt"
    done
    case $code in 0 | 2 | 4 | 6 | 8 | 12 | 14) ;; *) tail -n 5 "$out.log" >&2; say "$1: autopkgtest ended with $code; see $out.log"; return 1 ;; esac
    {
        [ ! -e "$out/summary" ] || awk -v OFS="$tab" -v p="$1" -v v="$(version "$2")" '{ note = $0; sub(/^[^ \t]+[ \t]+/, "", note); print "peer", p, v, $1, note, "-" }' "$out/summary"
        printf 'peer\t%s\t%s\t-\t-\t%s\n' "$1" "$(version "$2")" "$(since "$begin")"
    } | keep peer "$1"
}

# ---- all of them

failed=0
private_apt
for package in "$@"; do
    t=$(tree "$package") || { failed=1; continue; }
    [ -e "$t/debian/tests/control" ] || { say "$package: has no debian/tests/control"; continue; }
    for who in first again; do
        if ! is_measured "$who" "$package"; then
            say "$package: assay, $who"
            ours "$who" "$package" "$t" || failed=1
        fi
    done
done
if [ -n "${DEP8_PEER:-}" ]; then
    peer_tools
    peer_image
    for package in "$@"; do
        t=$(tree "$package") || continue
        [ -e "$t/debian/tests/control" ] && ! is_measured peer "$package" || continue
        peer_proxy
        say "$package: autopkgtest"
        peer "$package" "$t" || failed=1
    done
fi

# The table: a verdict is the first word of a note. Where autopkgtest's is another,
# both are shown, and the script fails.
python3 - "$measured" "$@" <<'PY' || failed=1
import sys
rows, total, version = {}, {}, {}
for line in open(sys.argv[1]):
    who, package, v, test, note, seconds = line.rstrip("\n").split("\t")
    version[package] = v
    if test == "-":
        total[who, package] = float(seconds)
    else:
        rows.setdefault(package, {}).setdefault(test, {})[who] = (note, seconds)
def secs(who, package):
    return "%.0f s" % total[who, package] if (who, package) in total else ""
differ = 0
print("| package | test | verdict | autopkgtest's | first, template made | again | autopkgtest |")
print("|---|---|---|---|---|---|---|")
for package in sys.argv[2:]:
    times = [secs(who, package) for who in ("first", "again", "peer")]
    for test, by in sorted(rows.get(package, {}).items()):
        own = by.get("again") or by.get("first") or ("", "")
        peer = by.get("peer", ("", ""))[0]
        first = by.get("first", own)
        verdicts = {note.split()[0] for note in (own[0], first[0], peer) if note}
        if len(verdicts) > 1:
            differ += 1
        print("| %s %s | %s | %s | %s | %s |" % (package, version[package], test, own[0].replace("|", "\\|"), peer.replace("|", "\\|"), " | ".join(times)))
        times = ["", "", ""]
if differ:
    print("test-dep8: verdicts that differ: %d" % differ, file=sys.stderr)
sys.exit(1 if differ else 0)
PY
exit "$failed"
