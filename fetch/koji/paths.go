package koji

import (
	"net/url"
	"strings"
)

// RPMURL is where a package server keeps a package: NAME/VERSION/RELEASE/ARCH/FILE
// of the build, which a package of another name belongs to as well.
func RPMURL(base string, b Build, r RPM) string {
	return below(base, b.Name, b.Version, b.Release, r.Arch, r.File())
}

// LogURL is where it keeps the log of a build on an architecture.
func LogURL(base string, b Build, arch string) string {
	return below(base, b.Name, b.Version, b.Release, "data", "logs", arch, "build.log")
}

func below(base string, elements ...string) string {
	base = strings.TrimSuffix(base, "/")
	for _, e := range elements {
		base += "/" + url.PathEscape(e)
	}
	return base
}
