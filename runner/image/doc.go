// Package image builds, gets and keeps the images that virtual machines boot from.
//
// An image is a directory below the store's root:
//
//	ROOT/debian-12/image.json   what it is; see below
//	ROOT/debian-12/disk.qcow2   the disk; nothing is behind it
//	ROOT/debian-12/vmlinuz      of an image that was built: the distribution's kernel
//	ROOT/debian-12/initrd.img   the same: the agent as /init with the few modules it must load; not compressed
//	ROOT/debian-12.log          what the tools said when it was built
//	ROOT/.cache/root-KEY.tar    the distribution's packages, unpacked and configured
//	ROOT/.cache/pull-KEY.part   a download that is not whole yet; pull-KEY.part.json tells of what,
//	                            pull-KEY.part.lock is held (flock(2)) by whoever downloads it
//	ROOT/.lock                  held (flock(2)) by whoever builds, imports or removes
//
// A build writes ROOT/debian-12.part-RANDOM and exchanges it for the image in one
// step, so that a reader sees the old image or the new one and nothing between.
// What a killed build left is removed when the next one holds the lock; what a
// killed download left is where the next one goes on. A disk that is in use must
// be linked (link(2)) or kept open: its path means the newest build.
//
// image.json is one object. Its "version" is 2; of version 1, which had only
// images that were built, everything is read as well; a program that does not
// know the version refuses the image. "name", "distro", "release", "arch" (as the
// kernel says it: x86_64) tell what is inside, "boot" how it boots (direct, bios,
// uefi), "origin" the address or file it came from and "origin_sum" the checksum
// published there. "kernel", "initrd" and "disk" are file names beside it;
// "digest" is the SHA-256, in hex, of these three files in this order, or of the
// disk alone where nothing else is, and "sums" that of each. "prepared" tells that
// the agent is inside, and "agent_digest" which. "cmdline" is the kernel's command
// line, "built" a time (RFC 3339), "packages" what was asked for.
//
// There are two kinds of images. Those that are built here have a root file
// system on the whole disk (ext4, no partitions) and boot directly: the machine is
// given kernel, initrd and command line (no boot loader), the disk as its first
// virtio block device and a virtio-serial port with the agent's name. With the
// word "assay.probe" added to the command line the initrd only prints
// "assay-probe-ok" on the console and powers off: that proves a machine runs,
// without touching a disk.
//
// Those from elsewhere boot as their makers meant, by the machine's firmware, and
// know nothing of us. Their machine has besides the disk a seed: WriteSeed's disc
// as another disk, or for CoreOS Ignition's configuration. Either brings in the
// agent, which then serves the same port.
//
// Digests are computed when an image is made, and by Verify: to find an image
// costs no more than reading image.json.
package image
