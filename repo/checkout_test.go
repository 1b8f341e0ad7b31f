package repo

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listing returns what is in a directory: "name mode content" for each entry.
func listDir(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content string
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			content, err = os.Readlink(path)
		case !d.IsDir():
			var data []byte
			data, err = os.ReadFile(path)
			content = string(data)
		}
		mode := info.Mode().String()
		if d.Type()&fs.ModeSymlink != 0 {
			mode = "link"
		}
		lines = append(lines, strings.TrimSpace(name+" "+mode+" "+content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestCheckoutWritesTheTree(t *testing.T) {
	src := newRepo(t)
	put(t, filepath.Join(src, "sub/run"), "#!")
	if err := os.Chmod(filepath.Join(src, "sub/run"), 0o4755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"l1": "sub/run", "sub/l2": "../a", "sub/l3": "./deep/./x", "sub/deep/l4": "../../l1", "dangling": "nowhere"} {
		put(t, filepath.Join(src, filepath.Dir(link), "x"), "x")
		if err := os.Symlink(target, filepath.Join(src, link)); err != nil {
			t.Fatal(err)
		}
	}
	at := commit(t, src, "a", "content", "sub/deep/empty", "")
	c := openCache(t, Limits{})
	must[Revision](t)(c.Resolve(t.Context(), src, nil))

	dir := filepath.Join(t.TempDir(), "out")
	if err := c.Checkout(t.Context(), src, at, "", dir); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a -rw-r--r-- content", "dangling link nowhere", "l1 link sub/run", "sub drwxr-xr-x",
		"sub/deep drwxr-xr-x", "sub/deep/empty -rw-r--r--", "sub/deep/l4 link ../../l1", "sub/deep/x -rw-r--r-- x",
		"sub/l2 link ../a", "sub/l3 link ./deep/./x", "sub/run -rwxr-xr-x #!", "sub/x -rw-r--r-- x", "x -rw-r--r-- x",
	}
	if got := listDir(t, dir); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	wantError(t, c.Checkout(t.Context(), src, at, "", dir), "cannot check out", "not empty")

	sub := filepath.Join(t.TempDir(), "out")
	if err := c.Checkout(t.Context(), src, at, "sub/deep", sub); err == nil {
		t.Error("a link out of the sub-directory was written")
	} else {
		wantError(t, err, "cannot take the link \"l4\"", "outside")
	}
	if got := listDir(t, sub); len(got) > 0 {
		t.Errorf("a failed checkout left %v", got)
	}
	for _, bad := range []string{"nowhere", "a", "../x", "/", "l1", "sub//deep"} {
		wantError(t, c.Checkout(t.Context(), src, at, bad, filepath.Join(t.TempDir(), "o")), "cannot", "directory")
	}
}

func TestCheckoutLeavesSubmodulesEmpty(t *testing.T) {
	inner, src := newRepo(t), newRepo(t)
	commit(t, inner, "secret", "s")
	git(t, src, "submodule", "--quiet", "add", inner, "mod")
	at := commit(t, src, "a", "1")
	c := openCache(t, Limits{})
	must[Revision](t)(c.Resolve(t.Context(), src, nil))
	dir := t.TempDir()
	if err := c.Checkout(t.Context(), src, at, "", dir); err != nil {
		t.Fatal(err)
	}
	if names := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(dir, "mod"))); len(names) > 0 {
		t.Errorf("the submodule has %v", names)
	}
	tree := must[fs.FS](t)(c.Tree(t.Context(), src, at))
	if names := must[[]fs.DirEntry](t)(fs.ReadDir(tree, "mod")); len(names) > 0 {
		t.Errorf("the submodule shows %v", names)
	}
}

// hostileTrees builds trees that git itself refuses to make, by what is odd
// about them. The files in them have the content of file.
func hostileTrees(t *testing.T, src string) (file string, cases map[string][][3]string) {
	file = object(t, src, "blob", []byte("x"))
	link := func(target string) string { return object(t, src, "blob", []byte(target)) }
	tree := func(entries ...[3]string) string {
		return git(t, src, "rev-parse", treeObject(t, src, entries...)+"^{tree}")
	}
	inner := tree([3]string{"100644", "evil", file})
	return file, map[string][][3]string{
		"dot dot file":       {{"100644", "..", file}},
		"dot dot dir":        {{"40000", "..", inner}},
		"dot":                {{"40000", ".", inner}},
		"no name":            {{"100644", "", file}},
		"slash":              {{"100644", "../evil", file}},
		"absolute":           {{"100644", "/tmp/evil", file}},
		"newline":            {{"100644", "a\nb", file}},
		"escape":             {{"100644", "a\x1b[2Jb", file}},
		"not utf-8":          {{"100644", "a\xffb", file}},
		"long":               {{"100644", strings.Repeat("n", 256), file}},
		".git":               {{"40000", ".git", inner}},
		".GiT file":          {{"100644", ".GiT", file}},
		"hfs":                {{"40000", ".g\u200cit", inner}},
		"hfs bom":            {{"40000", "\ufeff.git", inner}},
		"ntfs short":         {{"40000", "GIT~1", inner}},
		"ntfs spaces":        {{"40000", ".git. .", inner}},
		"ntfs stream":        {{"40000", ".git::$INDEX_ALLOCATION", inner}},
		"ntfs backslash":     {{"100644", `.git\config`, file}},
		"below":              {{"40000", "d", tree([3]string{"100644", "..", file})}},
		"absolute link":      {{"120000", "l", link("/etc/passwd")}},
		"escaping link":      {{"120000", "l", link("../x")}},
		"escaping link deep": {{"40000", "d", tree([3]string{"120000", "l", link("../../x")})}},
		"link with a detour": {{"120000", "l", link("d/../../x")}},
		"link to nothing":    {{"120000", "l", link("")}},
		"link with a zero":   {{"120000", "l", link("a\x00b")}},
		"long link":          {{"120000", "l", link(strings.Repeat("a/", 600))}},
		"link then dir":      {{"120000", "d", link(".")}, {"40000", "d", inner}},
		"link then file":     {{"120000", "d", link("e")}, {"100644", "d", file}},
		"chain":              {{"120000", "a", link("b/..")}, {"120000", "b", link("..")}},
		"odd mode":           {{"010644", "fifo", file}},
		"device":             {{"020666", "null", file}},
		"no mode":            {{"x", "n", file}},
		"tree as file":       {{"100644", "n", inner}},
		"file as tree":       {{"40000", "n", file}},
		"missing object":     {{"100644", "n", strings.Repeat("1", 40)}},
	}
}

func TestHostileTreesWriteNothingOutside(t *testing.T) {
	src := newRepo(t)
	file, cases := hostileTrees(t, src)
	for name, entries := range cases {
		t.Run(name, func(t *testing.T) {
			commit := treeObject(t, src, append([][3]string{{"100644", "AAA", file}}, entries...)...)
			outside := t.TempDir()
			dir := filepath.Join(outside, "a", "b")
			in := must[*Incoming](t)(OpenIncoming(filepath.Join(src, ".git"), func(string) string { return "" }))
			defer in.Close()
			wantError(t, in.source.checkout(t.Context(), commit, "", dir), "cannot")
			if got := listDir(t, outside); len(got) != 2 {
				t.Errorf("there is now %q", got)
			}
			fsys := must[fs.FS](t)(in.Tree(t.Context(), commit))
			if err := walkAll(fsys); err == nil {
				t.Error("Tree shows it")
			}
		})
	}
}

// walkAll reads everything in a file system.
func walkAll(fsys fs.FS) error {
	return fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Type()&fs.ModeSymlink != 0:
			_, err = fs.ReadLink(fsys, path)
		case !d.IsDir():
			_, err = fs.ReadFile(fsys, path)
		}
		return err
	})
}

func TestEveryLimitHasItsName(t *testing.T) {
	src := newRepo(t)
	deep := strings.Repeat("d/", 5) + "f"
	at := commit(t, src, "a", strings.Repeat("a", 1000), "b", strings.Repeat("b", 1000), deep, "x")
	cases := map[string]Limits{
		"FileBytes": {FileBytes: 999}, "CheckoutBytes": {CheckoutBytes: 1500},
		"Files": {Files: 4}, "Depth": {Depth: 3}, "MirrorBytes": {MirrorBytes: 100},
	}
	for name, limits := range cases {
		t.Run(name, func(t *testing.T) {
			c := openCache(t, limits)
			dir := t.TempDir()
			err := c.FetchCommit(t.Context(), src, at)
			if err == nil {
				err = c.Checkout(t.Context(), src, at, "", dir)
			}
			var limit *LimitError
			if !errors.As(err, &limit) || limit.Limit != name {
				t.Fatalf("got %v, want a LimitError of %s", err, name)
			}
			wantError(t, err, "cannot", name)
			if got := listDir(t, dir); len(got) > 0 {
				t.Errorf("it left %v", got)
			}
		})
	}
}

func TestTreesThatRepeatAreBounded(t *testing.T) {
	src := newRepo(t)
	file := object(t, src, "blob", []byte("x"))
	commit := treeObject(t, src, [3]string{"100644", "f", file})
	for range 20 { // 10 entries, each the tree before: 10^20 files
		tree := git(t, src, "rev-parse", commit+"^{tree}")
		var entries [][3]string
		for i := range 10 {
			entries = append(entries, [3]string{"40000", string(rune('a' + i)), tree})
		}
		commit = treeObject(t, src, entries...)
	}
	c := openCache(t, Limits{Files: 1000})
	if err := c.FetchCommit(t.Context(), src, commit); err != nil {
		t.Fatal(err)
	}
	wantError(t, c.Checkout(t.Context(), src, commit, "", t.TempDir()), "Files")
	wantError(t, walkAll(must[fs.FS](t)(c.Tree(t.Context(), src, commit))), "Files")
}

func TestCheckoutEndsWithItsContext(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1")
	c := openCache(t, Limits{})
	must[Revision](t)(c.Resolve(t.Context(), src, nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Checkout(ctx, src, at, "", t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// FuzzEntryName holds that a name which passes stays in its directory.
func FuzzEntryName(f *testing.F) {
	for _, seed := range []string{"a", "..", ".", "", "a/b", ".git", ".GIT ", ".g\u200cit", "git~1", "a\x00", `\..\x`, "é", "...", "CON"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkName(name) != nil {
			return
		}
		if !fs.ValidPath(name) || filepath.Dir(name) != "." || !filepath.IsLocal(name) {
			t.Errorf("%q passes and is no name", name)
		}
		if strings.EqualFold(strings.TrimRight(name, " ."), ".git") {
			t.Errorf("%q passes and is git's", name)
		}
	})
}

// FuzzSymlinkTarget writes two links that pass, each through the other if they
// like, and holds that no path through them leaves the directory.
func FuzzSymlinkTarget(f *testing.F) {
	f.Add("../x", "d")
	f.Add("../m", "..")
	f.Add("d/e", "../l1")
	f.Add(".", "./../d")
	f.Add("a//b/", "..//.")
	f.Fuzz(func(t *testing.T, inner, outer string) {
		if checkLink("d/e/l1", inner) != nil || checkLink("l2", outer) != nil {
			return
		}
		base, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		root := filepath.Join(base, "root")
		if err := os.MkdirAll(filepath.Join(root, "d", "e"), 0o755); err != nil {
			t.Fatal(err)
		}
		if os.Symlink(inner, filepath.Join(root, "d/e/l1")) != nil || os.Symlink(outer, filepath.Join(root, "l2")) != nil {
			return
		}
		for _, path := range []string{"l2", "d/e/l1", "l2/e/l1", "l2/d/e/l1"} {
			got, err := filepath.EvalSymlinks(filepath.Join(root, path))
			if err == nil && got != root && !strings.HasPrefix(got, root+"/") {
				t.Errorf("%q and %q: %s leads to %s", inner, outer, path, got)
			}
		}
	})
}
