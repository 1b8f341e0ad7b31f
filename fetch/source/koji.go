package source

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/fetch/koji"
	"github.com/assay-ci/assay/fetch/nvr"
)

// maxBuilds bounds the builds of one step.
const maxBuilds = 2000

// rpmValue is the value of koji and bodhi.
func (j *job) rpmValue(rpms, logs, logErrors []string) map[string]any {
	slices.Sort(logErrors)
	if logErrors == nil {
		logErrors = []string{}
	}
	return map[string]any{"downloaded_rpms": j.paths(rpms), "downloaded_logs": j.paths(logs), "log_errors": logErrors}
}

// koji downloads a build, the newest stable one of its package, or a tag.
func (j *job) koji(ctx context.Context, f assay.KojiFetch) (any, error) {
	hub, err := j.hub()
	if err != nil {
		return nil, err
	}
	builds, err := j.builds(ctx, hub, f)
	if err != nil {
		return nil, err
	}
	if f.Latest && len(builds) == 0 {
		return map[string]any{}, nil
	}
	if f.Tag != "" && f.BuildLogs {
		j.tell.Line("build logs are not downloaded for a tag")
		f.BuildLogs = false
	}
	files, rpms, err := j.choose(ctx, hub, builds, f)
	if err != nil {
		return nil, err
	}
	names, err := j.get(ctx, j.config.Web, files)
	if err != nil {
		return nil, err
	}
	var logs, missing []string
	if f.BuildLogs {
		if logs, missing, err = j.logs(ctx, builds[0], rpms, f); err != nil {
			return nil, err
		}
	}
	return j.rpmValue(names, logs, missing), nil
}

// builds resolves what the step names.
func (j *job) builds(ctx context.Context, hub *koji.Hub, f assay.KojiFetch) ([]koji.Build, error) {
	if f.Tag != "" {
		builds, err := hub.Tagged(ctx, f.Tag)
		if err == nil && len(builds) > maxBuilds {
			err = fetch.Refuse("cannot download the tag %.60q: it has %d builds, %d are allowed", f.Tag, len(builds), maxBuilds)
		}
		return builds, err
	}
	name, err := nvr.Parse(f.Build)
	if err != nil {
		return nil, fetch.Refuse("%w", err)
	}
	if f.Latest {
		return j.latest(ctx, hub, name)
	}
	build, err := hub.Build(ctx, name)
	return []koji.Build{build}, err
}

// latest finds the newest stable build of a package: among the updates, or else
// as the release came.
func (j *job) latest(ctx context.Context, hub *koji.Hub, name nvr.NVR) ([]koji.Build, error) {
	tag := name.Tag()
	if tag == "" {
		return nil, fetch.Refuse("cannot tell the release of %s: it has no dist tag such as .fc42", name)
	}
	for _, tag := range []string{tag + "-updates", tag} {
		build, found, err := hub.Latest(ctx, tag, name.Name)
		if err != nil {
			return nil, err
		}
		if found {
			j.tell.Line("the newest stable build of %s is %s, from %s", name.Name, build.NVR, tag)
			return []koji.Build{build}, nil
		}
	}
	j.tell.Line("there is no stable build of %s", name.Name)
	return nil, nil
}

// choose lists the packages of builds that are wanted.
func (j *job) choose(ctx context.Context, hub *koji.Hub, builds []koji.Build, f assay.KojiFetch) (files []file, rpms []koji.RPM, err error) {
	for _, build := range builds {
		all, err := hub.RPMs(ctx, build)
		if err != nil {
			return nil, nil, err
		}
		for _, r := range wanted(all, f) {
			files = append(files, file{want: rpmWant(j.config.Packages, build, r), name: r.File()})
		}
		rpms = append(rpms, all...)
	}
	return files, rpms, nil
}

// wanted picks packages by architecture.
func wanted(rpms []koji.RPM, f assay.KojiFetch) []koji.RPM {
	arches, all, without := nvr.Arches(f.Arches, f.Exclude)
	var list []koji.RPM
	for _, r := range rpms {
		source := r.Arch == "src" || r.Arch == "nosrc"
		switch {
		case !f.Debuginfo && isDebuginfo(r.Name):
		case slices.Contains(without, r.Arch):
		case source && f.Source, !source && all, !source && slices.Contains(arches, r.Arch):
			list = append(list, r)
		}
	}
	return list
}

func isDebuginfo(name string) bool {
	return strings.HasSuffix(name, "-debuginfo") || strings.HasSuffix(name, "-debugsource") || strings.Contains(name, "-debuginfo-")
}

// rpmWant is a package to have. It is proved by the sum that Koji knows of it,
// and by its size only where there is none: a signature adds to the file, and is
// not in the sum.
func rpmWant(base string, build koji.Build, r koji.RPM) fetch.Want {
	w := fetch.Want{URL: koji.RPMURL(base, build, r), Name: r.File(), Fixed: true}
	if r.MD5 == "" {
		w.Size = r.Size
		return w
	}
	w.About = r.Size
	w.Check = func(file *os.File) error { return fetch.CheckRPM(file, r.MD5) }
	return w
}

// logs downloads build.log of every architecture that was built for and is
// wanted; what is gone is named instead. Old logs are removed from Koji.
func (j *job) logs(ctx context.Context, build koji.Build, rpms []koji.RPM, f assay.KojiFetch) (names, missing []string, err error) {
	f.Source, f.Debuginfo = false, true
	built := map[string]bool{}
	var files []file
	for _, r := range wanted(rpms, f) {
		if built[r.Arch] {
			continue
		}
		built[r.Arch] = true
		files = append(files, file{
			want: fetch.Want{URL: koji.LogURL(j.config.Packages, build, r.Arch), Name: "build.log of " + r.Arch, Fixed: true},
			name: "build.log." + r.Arch, missing: true,
		})
	}
	if names, err = j.get(ctx, j.config.Web, files); err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		if !slices.Contains(names, f.name) {
			missing = append(missing, strings.TrimPrefix(f.name, "build.log."))
		}
	}
	return names, missing, nil
}

// bodhi downloads the builds of an update.
func (j *job) bodhi(ctx context.Context, f assay.BodhiFetch) (any, error) {
	server, err := j.server()
	if err != nil {
		return nil, err
	}
	hub, err := j.hub()
	if err != nil {
		return nil, err
	}
	names, err := server.Builds(ctx, f.Update)
	if err != nil {
		return nil, err
	}
	var builds []koji.Build
	for _, name := range names {
		build, err := hub.Build(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("of the update %s: %w", f.Update, err)
		}
		builds = append(builds, build)
	}
	files, _, err := j.choose(ctx, hub, builds, assay.KojiFetch{Arches: f.Arches, Source: f.Source})
	if err != nil {
		return nil, err
	}
	got, err := j.get(ctx, j.config.Web, files)
	if err != nil {
		return nil, err
	}
	return map[string]any{"downloaded_rpms": j.paths(got)}, nil
}
