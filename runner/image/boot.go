package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

// maxMember is how much of one file is read from a root's archive into memory.
const maxMember = 256 << 20

// bootFiles are what a machine is started with, out of a root's archive.
type bootFiles struct {
	kernel  []byte
	release string // "6.1.0-56-cloud-amd64"
	modules []module
}

// readBoot finds the kernel and the modules it needs in a root's archive.
func readBoot(ctx context.Context, archive string) (bootFiles, error) {
	var boot bootFiles
	var dep string
	err := eachMember(ctx, archive, func(name string, read func() ([]byte, error)) error {
		version, isKernel := kernelVersion(name)
		switch {
		case isKernel && version >= boot.release:
			data, err := read()
			boot.kernel, boot.release = data, version
			return err
		case strings.HasSuffix(name, "/modules.dep"):
			data, err := read()
			dep = string(data)
			return err
		}
		return nil
	})
	if err == nil && boot.kernel == nil {
		err = errors.New("there is no kernel in it")
	}
	if err == nil {
		boot.modules, err = readModules(ctx, archive, boot.release, needed(dep, wantedModules()))
	}
	if err != nil {
		return boot, fmt.Errorf("cannot take the kernel out of %s: %w", archive, err)
	}
	return boot, nil
}

// kernelVersion is the version of the kernel that a file is. Debian keeps them in
// /boot, as vmlinux where they are not compressed; Fedora with the modules.
func kernelVersion(name string) (version string, ok bool) {
	for _, prefix := range []string{"boot/vmlinuz-", "boot/vmlinux-"} {
		if version, ok = strings.CutPrefix(name, prefix); ok {
			return version, true
		}
	}
	version, ok = strings.CutPrefix(strings.TrimPrefix(name, "usr/"), "lib/modules/")
	if ok {
		version, ok = strings.CutSuffix(version, "/vmlinuz")
	}
	return version, ok && !strings.Contains(version, "/")
}

// readModules reads the files of the kernel's module directory that are named.
func readModules(ctx context.Context, archive, release string, files []string) ([]module, error) {
	found := map[string][]byte{}
	dir := "lib/modules/" + release + "/"
	err := eachMember(ctx, archive, func(name string, read func() ([]byte, error)) error {
		file, ok := strings.CutPrefix(strings.TrimPrefix(name, "usr/"), dir)
		if !ok || !slices.Contains(files, file) {
			return nil
		}
		data, err := read()
		if err == nil {
			data, err = expand(ctx, file, data)
		}
		found[file] = data
		return err
	})
	var modules []module
	for _, file := range files {
		if data, ok := found[file]; ok {
			modules = append(modules, module{name: moduleName(file), data: data})
		}
	}
	return modules, err
}

// expand undoes the compression that a file's name tells of, with the program
// that every distribution which compresses so has.
func expand(ctx context.Context, name string, data []byte) ([]byte, error) {
	program, ok := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[path.Ext(name)]
	if !ok {
		return data, nil
	}
	command := exec.CommandContext(ctx, program, "-dc")
	command.Stdin = bytes.NewReader(data)
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot decompress %s: %w: is %s installed?", name, err, program)
	}
	return out, nil
}

// eachMember calls do for every plain file in a tar archive, with its name
// without a leading "./".
func eachMember(ctx context.Context, archive string, do func(name string, read func() ([]byte, error)) error) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read from
	reader := tar.NewReader(file)
	for ctx.Err() == nil {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		read := func() ([]byte, error) { return io.ReadAll(io.LimitReader(reader, maxMember)) }
		if err := do(path.Clean(header.Name), read); err != nil {
			return err
		}
	}
	return ctx.Err()
}
