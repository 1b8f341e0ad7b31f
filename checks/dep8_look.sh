# Says what machine this is, a line each. $1 is the directory of what was built.
state=/var/lib/assay-dep8
echo "arch=$(dpkg --print-architecture 2>/dev/null || uname -m)"
disposable=no
[ ! -e "$state/template" ] || disposable=yes
echo "disposable=$disposable"
sudo=no
if [ "$(id -u)" = 0 ]; then
	echo root=yes
	user=dep8
	if [ "$disposable" = no ]; then
		user=$(getent passwd 2>/dev/null | awk -F: '$3 >= 1000 && $3 < 60000 { print $1; exit }')
	fi
	echo "user=${user:-nobody}"
	[ ! -e /etc/sudoers.d/assay-dep8 ] || sudo=yes
else
	case " $(id -Gn) " in *" sudo "*) ! sudo -n true >/dev/null 2>&1 </dev/null || sudo=yes ;; esac
fi
echo "sudo=$sudo"
for deb in "$1"/*.deb "$1"/*/*.deb; do
	if [ -f "$deb" ]; then
		echo debs=yes
		break
	fi
done
for file in missing uninstallable; do
	[ ! -f "$state/$file" ] || echo "$file=$(head -n 1 "$state/$file" | cut -c -300)"
done
