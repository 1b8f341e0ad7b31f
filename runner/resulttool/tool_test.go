package resulttool

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func TestMain(m *testing.M) {
	if args, ok := Called(os.Args); ok {
		os.Exit(Run(args, os.Getenv, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// call runs the command in this process.
func call(env map[string]string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Run(args, func(name string) string { return env[name] }, &out, &errs)
	return code, out.String(), errs.String()
}

// content is what a YAML reader makes of a file.
func content(t *testing.T, name string) (file struct {
	Results []map[string]any
}) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err == nil {
		err = yaml.Unmarshal(data, &file)
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, data)
	}
	return file
}

func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.yml")
	env := map[string]string{"ASSAY_ITEM": "hello-1", "ASSAY_TYPE": "koji_build", "ASSAY_RESULTS": file}
	for _, args := range [][]string{
		{"-o", "PASSED"},
		{"--outcome=needs_inspection", "-i", "other", "--type", "compose", "-cdist.x", "--artifact=a b.log"},
		{"-o", "info", "-n", "two\nlines: \"quoted\" \\ # \u0085\u2028\ufeff\x00x\xff\t€𝄞", "-k", "arch=x86_64", "-k", "size=1=2", "-k", "arch=", "-k", "empty="},
	} {
		if code, out, errs := call(env, args...); code != 0 || out+errs != "" {
			t.Errorf("%q: exit %d: %s%s", args, code, out, errs)
		}
	}
	got := content(t, file).Results
	if len(got) != 3 {
		t.Fatalf("%d results", len(got))
	}
	want := []map[string]any{
		{"item": "hello-1", "type": "koji_build", "outcome": "PASSED"},
		{"item": "other", "type": "compose", "outcome": "NEEDS_INSPECTION", "checkname": "dist.x", "artifact": "a b.log"},
		{"item": "hello-1", "type": "koji_build", "outcome": "INFO", "size": "1=2",
			"note": "two\nlines: \"quoted\" \\ # \u0085\u2028\ufeff\x00x\ufffd\t€𝄞"},
	}
	for i := range want {
		for key, value := range want[i] {
			if got[i][key] != value {
				t.Errorf("result %d: %s is %q, want %q", i, key, got[i][key], value)
			}
		}
	}
	if arch, ok := got[2]["arch"].([]any); !ok || len(arch) != 2 || arch[0] != "x86_64" || arch[1] != "" {
		t.Errorf("arch is %v", got[2]["arch"])
	}
	if _, ok := got[2]["empty"]; ok {
		t.Error("a key without a value was written")
	}
}

func TestRunRefuses(t *testing.T) {
	env := map[string]string{"ASSAY_ITEM": "i", "ASSAY_TYPE": "t"}
	file := filepath.Join(t.TempDir(), "r.yml")
	for _, test := range []struct {
		args []string
		env  map[string]string
		want string
	}{
		{nil, env, "without an outcome"},
		{[]string{"-o", "GOOD"}, env, "write one of PASSED, INFO, FAILED"},
		{[]string{"-o"}, env, "-o without a value"},
		{[]string{"-o", "PASSED"}, nil, "write -i ITEM -t TYPE"},
		{[]string{"-o", "PASSED", "-i", "x"}, nil, "write -i ITEM -t TYPE"},
		{[]string{"-o", "PASSED", "more"}, env, `the argument "more"`},
		{[]string{"-o", "PASSED", "--nope=1"}, env, `the argument "--nope=1"`},
		{[]string{"-o", "PASSED", "-k", "novalue"}, env, "-k KEY=VALUE"},
		{[]string{"-o", "PASSED", "-k", "=v"}, env, "-k KEY=VALUE"},
		{[]string{"-o", "PASSED", "-k", "a:b=v"}, env, "without a colon"},
		{[]string{"-o", "PASSED", "-c", "a\nb"}, env, "line ends in checkname"},
		{[]string{"-o", "PASSED", "-c", strings.Repeat("x", maxValue+1)}, env, "more than 8192 bytes"},
		{[]string{"-o", "PASSED", "-n", strings.Repeat("x", maxNote+1)}, env, "more than 65536 bytes"},
		{[]string{"-o", "PASSED", "-k", "k=" + strings.Repeat("x", maxValue+1)}, env, "more than 8192 bytes"},
	} {
		code, _, errs := call(test.env, append(test.args, "-f", file)...)
		if len(test.args) > 0 && test.args[len(test.args)-1] == "-o" {
			code, _, errs = call(test.env, test.args...)
		}
		if code != exitUsage || !strings.Contains(errs, test.want) || !strings.Contains(errs, "assay result: cannot ") {
			t.Errorf("%.80q: exit %d: %s, want …%s…", test.args, code, errs, test.want)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a refused result made a file")
	}
	if code, out, errs := call(nil, "-o", "x", "--help"); code != 0 || out != Usage || errs != "" {
		t.Errorf("help: exit %d: %s%s", code, out, errs)
	}
	code, _, errs := call(env, "-o", "PASSED", "-f", file, "-k", "outcome=x", "-k", "_internal=y")
	if code != 0 || strings.Count(errs, "is the format's own, and ignored") != 2 {
		t.Errorf("reserved keys: exit %d: %s", code, errs)
	}
	if code, _, errs := call(env, "-o", "PASSED", "-f", t.TempDir()); code != exitFailed || !strings.Contains(errs, "cannot open the results") {
		t.Errorf("a directory: exit %d: %s", code, errs)
	}
	if code, _, errs := call(env, "-o", "PASSED", "-f", "/dev/null"); code != exitFailed || !strings.Contains(errs, "no plain file") {
		t.Errorf("a device: exit %d: %s", code, errs)
	}
}

const line = `{"item": "i", "type": "t", "outcome": "PASSED"}`

func TestAppendGoesOn(t *testing.T) {
	ours := header + "- " + line + "\n"
	for name, test := range map[string]struct {
		before, after string
		repaired      bool
	}{
		"nothing":                    {"", ours, false},
		"half a header":              {"resul", ours, true},
		"the header":                 {header, ours, false},
		"one of ours":                {ours, ours + "- " + line + "\n", false},
		"one without its end":        {strings.TrimSuffix(ours, "\n"), ours + "- " + line + "\n", false},
		"half of one":                {ours + `- {"item": "i", "ty`, ours + "- " + line + "\n", true},
		"half of one, within a text": {ours + `- {"item": "i}`, ours + "- " + line + "\n", true},
		"the beginning of one":       {header + "- ", ours, true},
		"half of the first":          {header + `- {"item`, ours, true},
		"a list of somebody's":       {"# mine\nresults:\n\n  - item: x\n    note: |\n     a\n  # more\n  - item: y\n", "# mine\nresults:\n\n  - item: x\n    note: |\n     a\n  # more\n  - item: y\n  - " + line + "\n", false},
		"and one of ours behind it":  {"results:\n  - item: x\n  - " + line + "\n", "results:\n  - item: x\n  - " + line + "\n  - " + line + "\n", false},
		"and half of one":            {"results:\n  - item: x\n  - {\"item\": \"i", "results:\n  - item: x\n  - " + line + "\n", true},
		"somebody's without an end":  {"---\nresults:\n- item: x", "---\nresults:\n- item: x\n- " + line + "\n", false},
		"an empty list":              {"results: []\n", ours, false},
		"null, and a comment":        {"---\nresults: null # none\n\n", "---\n" + ours, false},
		"Windows' line ends":         {"results:\r\n- item: x\r\n", "results:\r\n- item: x\r\n- " + line + "\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "r.yml")
			if test.before != "" {
				if err := os.WriteFile(file, []byte(test.before), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			repaired, err := Append(file, line)
			if err != nil || repaired != test.repaired {
				t.Errorf("repaired %v, %v", repaired, err)
			}
			got, err := os.ReadFile(file)
			if err != nil || string(got) != test.after {
				t.Errorf("%v\n%s\nwant\n%s", err, got, test.after)
			}
			content(t, file)
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	for name, before := range map[string]string{
		"another text":         "hello\n",
		"JSON":                 `{"results": []}`,
		"a flow list":          "results: [{item: x}]\n",
		"a mapping":            "results:\n  item: x\n",
		"something behind":     "results:\n- item: x\nversion: 1\n",
		"something before":     "version: 1\nresults:\n",
		"a list below a list":  "results: []\n- item: x\n",
		"a second document":    "results:\n- item: x\n---\nresults:\n",
		"less indented":        "results:\n  - item: x\n- item: y\n",
		"a line of ours alone": "- " + line + "\n",
		"larger than anything": header + strings.Repeat("- "+line+"\n", MaxFile/len(line)),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "r.yml")
			if err := os.WriteFile(file, []byte(before), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := Append(file, line); err == nil {
				t.Error("it was gone on with")
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != before {
				t.Errorf("it was changed: %v", err)
			}
		})
	}
}

// TestProcesses adds from eight processes at a time, of which some are killed in
// the middle: all that ended well is there, once, and nothing else.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	if err := Link(dir, Program()); err != nil {
		t.Fatal(err)
	}
	if err := Link(dir, Program()); err != nil {
		t.Errorf("a second time: %v", err)
	}
	file := filepath.Join(dir, "r.yml")
	const processes = 8
	killed := make(chan int, processes)
	for p := range processes {
		go func() {
			dead := 0
			for n := range 10 {
				cmd := exec.Command(filepath.Join(dir, OldName), "-f", file, "-i", "i", "-t", "t", "-o", "PASSED", "-n", strings.Repeat("x", 5000*n))
				if err := cmd.Start(); err != nil {
					t.Error(err)
					continue
				}
				if n == p {
					_ = cmd.Process.Kill()
				}
				if err := cmd.Wait(); err != nil && n == p {
					dead++
				} else if err != nil {
					t.Errorf("process %d: %v", p, err)
				}
			}
			killed <- dead
		}()
	}
	dead := 0
	for range processes {
		dead += <-killed
	}
	if _, err := Append(file, line); err != nil {
		t.Error(err)
	}
	// One that was killed may have written before.
	got := len(content(t, file).Results) - 1
	if got < 10*processes-dead || got > 10*processes {
		t.Errorf("%d results of %d processes, %d of them killed", got, 10*processes, dead)
	}
}

// FuzzAppend: a file is refused unchanged, or it holds one result more than a
// reader saw before.
func FuzzAppend(f *testing.F) {
	for _, seed := range []string{"", "res", header, "results:\n  - a: b\n", "results: []", "results:\n- {\"item\": \"", "# x\n---\nresults: ~ # y\n- ", "results:\n-\n  a: b\n- x\n", "results:\n- |\n a\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after struct{ Results []any }
		valid := yaml.Unmarshal(data, &before) == nil
		file := filepath.Join(t.TempDir(), "r.yml")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		repaired, err := Append(file, line)
		got, rerr := os.ReadFile(file)
		if rerr != nil {
			t.Fatal(rerr)
		}
		switch {
		case err != nil && !bytes.Equal(got, data):
			t.Errorf("refused (%v), and changed to %q", err, got)
		case err != nil || !valid || repaired:
		case yaml.Unmarshal(got, &after) != nil || len(after.Results) != len(before.Results)+1:
			t.Errorf("%d results became %d: %q", len(before.Results), len(after.Results), got)
		}
	})
}
