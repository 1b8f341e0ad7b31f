// Package image builds and keeps the images that virtual machines boot from.
//
// An image is a directory below the store's root:
//
//	ROOT/debian-12/image.json   what it is; see below
//	ROOT/debian-12/disk.qcow2   the root file system: ext4 on the whole disk, no partitions
//	ROOT/debian-12/vmlinuz      the distribution's kernel, out of that root
//	ROOT/debian-12/initrd.img   the agent as /init with the few modules it must load; not compressed
//	ROOT/debian-12.log          what the tools said when it was built
//	ROOT/.cache/root-KEY.tar    the distribution's packages, unpacked and configured
//	ROOT/.lock                  held (flock(2)) by whoever builds or removes
//
// A build writes ROOT/debian-12.part-RANDOM and exchanges it for the image in one
// step, so that a reader sees the old image or the new one and nothing between.
// What a killed build left is removed when the next one holds the lock. A disk
// that is in use must be linked (link(2)) or kept open: its path means the newest
// build.
//
// image.json is one object. Its "version" is 1; a program that does not know the
// version refuses the image. "name", "distro", "release", "arch" (as the kernel
// says it: x86_64) tell what is inside. "kernel", "initrd" and "disk" are file
// names beside it; "digest" is the SHA-256, in hex, of these three files in this
// order, and "agent_digest" that of the agent inside. "cmdline" is the kernel's
// command line, "built" a time (RFC 3339), "packages" what was asked for.
//
// The machine is booted with kernel, initrd and command line given directly (no
// boot loader), the disk as its first virtio block device and a virtio-serial
// port with the agent's name. With the word "assay.probe" added to the command
// line the initrd only prints "assay-probe-ok" on the console and powers off:
// that proves a machine runs, without touching a disk.
package image
